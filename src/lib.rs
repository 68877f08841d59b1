//! An embedded, log-structured storage engine for millions of small transactional objects.

#[cfg(not(all(target_pointer_width = "64", target_endian = "little", unix)))]
compile_error!("dostore runs on 64-bit little-endian Unix only");

// Layer 0: words.
pub mod error;
pub mod ids;
pub mod limits;
#[doc(hidden)]
pub mod marks;
pub mod names;
pub mod object_id;
pub mod options;
#[doc(hidden)]
pub mod planted;

// Layer 1: bytes and media.
pub mod disk;
#[doc(hidden)]
pub mod format;

// Layer 2: structures.
#[doc(hidden)]
pub mod directory;
#[doc(hidden)]
pub mod manifest;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod segment;
#[doc(hidden)]
pub mod wal;

// Layer 3: one object.
#[doc(hidden)]
pub mod object;

// Layer 4: all objects.
#[doc(hidden)]
pub mod engine;

// Layer 5: the interface.
pub mod store;

// Beside the engine: looking from outside.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod inspect;
