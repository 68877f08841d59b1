//! Objects on their way between stores: as a stream of lines that people can read and compare, or
//! as a compact one; and out of a damaged store into a new one ([`salvage`]).
//!
//! A stream carries keys with their codecs, names, ids, alarms with what became of their attempts,
//! attachments and versions. It says nothing of when it was made or how the store keeps its bytes:
//! two exports of the same content are the same bytes. `docs/format.md` describes both forms.
//!
//! Invariants:
//!   * Each object in a stream is as of one moment, which is durable.
//!   * An object is imported whole, or is not there, or is marked as unfinished and not read.
//!   * Memory depends on the largest value and on the limits of a commit, and on nothing else.

pub mod export;
pub mod import;
pub mod salvage;
mod stream;

pub use export::{Exported, Exporter, Form};
pub use import::{Existing, ImportOptions, Imported};
pub use salvage::SalvageOptions;
#[doc(hidden)]
pub use stream::Stream;

use crate::error::{Error, ErrorKind, Result};
use crate::object::View;

/// Refuses an object of which an import has begun and not ended.
pub(super) fn check_finished(is_unfinished: bool) -> Result<()> {
    if !is_unfinished {
        return Ok(());
    }
    let what = "an import of the object was not completed; import it again, or delete it";
    Err(Error::new(ErrorKind::Broken, "object.unfinished", what))
}

/// The same for a view of it.
pub(super) fn check_view(view: &View) -> Result<()> {
    check_finished(view.is_unfinished()?)
}
