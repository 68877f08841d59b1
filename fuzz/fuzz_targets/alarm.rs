//! The target `alarm`: see `src/alarm.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-alarm", dostore_fuzz::alarm::run, data);
});
