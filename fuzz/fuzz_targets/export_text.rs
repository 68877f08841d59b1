//! The target `export_text`: see `src/export_text.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-export_text", dostore_fuzz::export_text::run, data);
});
