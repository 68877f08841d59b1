//! The target `segment_file`: see `src/segment_file.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-segment_file", dostore_fuzz::segment_file::run, data);
});
