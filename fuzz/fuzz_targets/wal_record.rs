//! The target `wal_record`: see `src/wal_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dostore_fuzz::wal_record::run(data));
