//! The target `bookmark`: see `src/bookmark.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-bookmark", dostore_fuzz::bookmark::run, data);
});
