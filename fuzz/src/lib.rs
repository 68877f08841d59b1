//! What the fuzz targets do with an input, apart from the fuzzer: `tests/fuzz.rs` takes every input
//! that was kept through the same functions.
//!
//! Invariants:
//!   * Any bytes may come. Whatever is wrong is a panic.
//!   * What happens depends on the input alone.

pub mod alarm;
pub mod bookmark;
pub mod campaign;
pub mod entry;
pub mod export_binary;
pub mod export_text;
pub mod history;
pub mod kept;
#[path = "../../tests/damage/layout.rs"]
mod layout;
#[path = "../../tests/ledger/mod.rs"]
pub mod ledger;
pub mod manifest;
pub mod page;
pub mod run_block;
pub mod run_file;
pub mod seals;
pub mod segment_file;
pub mod wal_group;
pub mod wal_header;
pub mod wal_record;
pub mod wal_replay;
pub mod whole_store;

/// What a target does with an input.
pub type Target = fn(&[u8]);

/// Every target by its name, but `sequence`, which is the simulation of `tests/it`.
pub const TARGETS: &[(&str, Target)] = &[
    ("alarm", alarm::run),
    ("bookmark", bookmark::run),
    ("entry", entry::run),
    ("export_binary", export_binary::run),
    ("export_text", export_text::run),
    ("history", history::run),
    ("manifest", manifest::run),
    ("page", page::run),
    ("run_block", run_block::run),
    ("run_file", run_file::run),
    ("segment_file", segment_file::run),
    ("wal_group", wal_group::run),
    ("wal_header", wal_header::run),
    ("wal_record", wal_record::run),
    ("wal_replay", wal_replay::run),
    ("whole_store", whole_store::run),
];
