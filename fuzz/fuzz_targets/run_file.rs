//! The target `run_file`: see `src/run_file.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-run_file", dostore_fuzz::run_file::run, data);
});
