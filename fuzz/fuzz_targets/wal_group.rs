//! The target `wal_group`: see `src/wal_group.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-wal_group", dostore_fuzz::wal_group::run, data);
});
