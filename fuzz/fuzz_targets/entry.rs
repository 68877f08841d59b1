//! The target `entry`: see `src/entry.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dostore_fuzz::entry::run(data));
