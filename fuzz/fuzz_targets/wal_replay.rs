//! The target `wal_replay`: see `src/wal_replay.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-wal_replay", dostore_fuzz::wal_replay::run, data);
});
