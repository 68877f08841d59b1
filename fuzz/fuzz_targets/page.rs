//! The target `page`: see `src/page.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-page", dostore_fuzz::page::run, data);
});
