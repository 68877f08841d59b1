//! The target `run_block`: see `src/run_block.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-run_block", dostore_fuzz::run_block::run, data);
});
