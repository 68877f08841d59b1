//! Restorations that wait for the next open of their object.
//!
//! The object goes on as it is until its handle is let go of. The next handle finds the past state:
//! code that holds what it read before cannot mix the two.
//!
//! Invariants:
//!   * What waits is an entry of the object, so it is durable with its commit, and gone with the
//!     commit that restores.
//!   * A handle is given out only after what waited for it is committed.

use super::commit::Commit;
use super::draft::Draft;
use super::namespace::Namespace;
use super::object::Object;
use super::past::{Moment, check, malformed_mark};
use super::restore::RestoreOptions;
use crate::bookmark::Bookmark;
use crate::error::Result;
use crate::format::Cursor;
use crate::format::own_keys::RESTORE_KEY;
use crate::format::record::Operation;
use crate::ids::{Codec, Lsn, ObjectId, Term};
use crate::object::state::HeadState;
use crate::object::write_set::WriteSet;

/// The value of the entry: the moment's LSN and term.
fn encode(bookmark: &Bookmark) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&bookmark.lsn().0.to_le_bytes());
    value[8..].copy_from_slice(&bookmark.term().0.to_le_bytes());
    value
}

impl Object {
    /// The bookmark of the mark, from the value of its entry.
    fn decode_mark(&self, value: &[u8]) -> Result<Bookmark> {
        let mut cursor = Cursor::new(value);
        let (lsn, term) = (|| Ok::<_, crate::format::Malformed>((cursor.u64()?, cursor.u32()?)))()
            .map_err(|_| malformed_mark())?;
        cursor.finish().map_err(|_| malformed_mark())?;
        let store = self.store().engine().context.store;
        Ok(Bookmark::new(store, self.address(), Lsn(lsn), Term(term)))
    }

    /// Makes the object, when it is opened next, what it was at a bookmark. Until then it goes on,
    /// and what is committed meanwhile stays in its history: the bookmark that is returned names
    /// the moment right before the restoration, which is still to come.
    ///
    /// The last call before that open counts; one with the bookmark that an earlier call returned
    /// takes that one back. Alarms stay as they are. Fails with the errors of [`Object::at`]; an
    /// open that finds the moment out of reach by then fails with them, until
    /// [`Namespace::cancel_restore`].
    pub fn restore_on_next_open(&mut self, bookmark: &Bookmark) -> Result<(Commit, Bookmark)> {
        let mut draft = Draft::new();
        let undo = draft.restore_on_next_open(self, bookmark)?;
        Ok((self.commit(draft)?, undo))
    }

    /// Restores what waits for this open, if anything does.
    pub(super) fn restore_if_wanted(&mut self) -> Result<()> {
        if !self.wants_restore()? {
            return Ok(());
        }
        if let Some(value) = self.entry(RESTORE_KEY)? {
            let bookmark = self.decode_mark(&value)?;
            self.restore_as(&bookmark, RestoreOptions::new(), true)?.commit.detach();
        }
        Ok(())
    }
}

impl Draft {
    pub(crate) fn restore_on_next_open(
        &mut self,
        object: &Object,
        bookmark: &Bookmark,
    ) -> Result<Bookmark> {
        let (engine, address) = (object.store().engine(), object.address());
        let last = engine.present(object.last_position()?.lsn);
        let undo = Bookmark::session_end(
            engine.context.store,
            address,
            last,
            engine.bookmark(address, last).term(),
        );
        match check(engine, address, bookmark)? {
            Moment::At(lsn) => {
                let value = &encode(&engine.bookmark(address, lsn));
                let put = Operation::Put { key: RESTORE_KEY, codec: Codec::Raw, value };
                self.push(object, &put)?;
            }
            // The session's own end: nothing is to be restored.
            Moment::Present => self.push(object, &Operation::Delete { key: RESTORE_KEY })?,
        }
        Ok(undo)
    }
}

impl Namespace {
    /// Takes back a restoration that waits for the next open of an object. None where none does.
    pub fn cancel_restore(&self, id: ObjectId) -> Result<Option<Commit>> {
        let engine = self.store.engine();
        engine.check_alive()?;
        let address = self.address(id)?;
        if !engine.view(address)?.restores()? {
            return Ok(None);
        }
        let mut changes = WriteSet::new();
        changes.push(&engine.options.limits, &Operation::Delete { key: RESTORE_KEY })?;
        let grant = engine.with_object(address, |object, inner| {
            if !inner.ask(address, || engine.version(), HeadState::restores)? {
                return Ok(None);
            }
            engine.commit(object, inner, changes).map(Some)
        });
        engine.tell();
        Ok(grant?.map(|grant| Commit::of_grant(self.store.clone(), address, &grant)))
    }
}
