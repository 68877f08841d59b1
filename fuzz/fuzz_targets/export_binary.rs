//! The target `export_binary`: see `src/export_binary.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-export_binary", dostore_fuzz::export_binary::run, data);
});
