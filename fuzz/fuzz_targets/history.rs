//! The target `history`: see `src/history.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-history", dostore_fuzz::history::run, data);
});
