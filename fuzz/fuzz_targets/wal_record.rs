//! The target `wal_record`: see `src/wal_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-wal_record", dostore_fuzz::wal_record::run, data);
});
