//! The target `whole_store`: see `src/whole_store.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-whole_store", dostore_fuzz::whole_store::run, data);
});
