//! An object as it was: a view of a past moment, made from a view of the present one.
//!
//! Needs no engine, so a reader in another process does the same.
//!
//! Invariants:
//!   * What a past view says is what was committed up to its moment, or an error: never "absent"
//!     where something is only not found.

use super::View;
use super::head_state;
use super::overlay::{HeadState, Layer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::RecordHeader;
use crate::ids::Lsn;
use std::sync::Arc;

impl View {
    /// The object as of `at`: with the effects of its commits up to there and of none later.
    ///
    /// Fails with `history.gap` where history does not hold what is needed, and with the codes of
    /// damaged pages and runs.
    pub fn as_of(self, at: Lsn) -> Result<Self> {
        if at >= self.state.last_lsn {
            return Ok(self);
        }
        let head = self.version.head(self.address)?;
        let before = head.as_ref().map_or_else(HeadState::default, head_state);
        if at < before.last_lsn {
            return Err(gap(at));
        }
        Ok(self.with_commits_up_to(at, before))
    }

    /// The pages of its version, in the state `before`, with the commits of the layers up to `at`.
    fn with_commits_up_to(self, at: Lsn, before: HeadState) -> Self {
        let mut layer = Layer::new(0, before);
        let cut = self.version.manifest.cut;
        for record in self.layers.iter().flat_map(|layer| layer.records()) {
            let Ok(header) = RecordHeader::decode(record) else { continue };
            if header.lsn > cut && header.lsn <= at {
                layer.apply(Arc::clone(record), header.lsn, header.time);
            }
        }
        let state = layer.after.clone();
        let layers = if layer.bytes > 0 { vec![Arc::new(layer)] } else { Vec::new() };
        Self { layers, state, ..self }
    }
}

#[cold]
fn gap(at: Lsn) -> Error {
    let what = format!("history does not hold what the object was as of {at}");
    Error::new(ErrorKind::NotRetained, "history.gap", what)
}
