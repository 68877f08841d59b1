//! The target `manifest`: see `src/manifest.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dostore_fuzz::manifest::run(data));
