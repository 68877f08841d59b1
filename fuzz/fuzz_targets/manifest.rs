//! The target `manifest`: see `src/manifest.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-manifest", dostore_fuzz::manifest::run, data);
});
