//! The target `entry`: see `src/entry.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-entry", dostore_fuzz::entry::run, data);
});
