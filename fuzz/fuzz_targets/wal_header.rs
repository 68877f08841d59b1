//! The target `wal_header`: see `src/wal_header.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dostore_fuzz::campaign::counted("fuzz-wal_header", dostore_fuzz::wal_header::run, data);
});
