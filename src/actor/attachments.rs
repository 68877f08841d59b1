//! Attachments and the user's version: what a runtime keeps in an object apart from its keys.
//!
//! Invariants:
//!   * Neither shows in a list of keys, nor is it deleted with a range of them.

use super::storage::Storage;
use crate::error::{Error, ErrorKind, Result};
use crate::format::own_keys::VERSION_KEY;
use crate::ids::{Codec, KeyKind};
use crate::store::draft::Draft;
use crate::store::list::Entries;
use crate::store::object::Object;
use crate::store::value::{FullKey, Value};

/// The key of the user's version without its kind.
const USER_VERSION: &[u8] = VERSION_KEY.split_at(1).1;

impl Storage {
    /// The version that was set, or zero.
    pub fn user_version(&self) -> Result<u64> {
        let found = self.entry(KeyKind::Meta, USER_VERSION)?;
        let Some(value) = found else { return Ok(0) };
        let bytes = <[u8; 8]>::try_from(&*value).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "object.version", "the user's version is malformed")
        })?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Sets a number that says which shape the stored data has, for code that changes it.
    pub fn set_user_version(&self, version: u64) -> Result<()> {
        self.put_entry(true, KeyKind::Meta, USER_VERSION, &version.to_le_bytes())
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn set_user_version_unconfirmed(&self, version: u64) -> Result<()> {
        self.put_entry(false, KeyKind::Meta, USER_VERSION, &version.to_le_bytes())
    }

    /// Keeps bytes for a connection, apart from the keys.
    pub fn put_attachment(&self, socket: &[u8], value: impl AsRef<[u8]>) -> Result<()> {
        self.put_entry(true, KeyKind::Socket, socket, value.as_ref())
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn put_attachment_unconfirmed(&self, socket: &[u8], value: impl AsRef<[u8]>) -> Result<()> {
        self.put_entry(false, KeyKind::Socket, socket, value.as_ref())
    }

    /// What is kept for a connection.
    pub fn attachment(&self, socket: &[u8]) -> Result<Option<Value>> {
        self.entry(KeyKind::Socket, socket)
    }

    /// Forgets what is kept for a connection. Says whether there was anything.
    pub fn delete_attachment(&self, socket: &[u8]) -> Result<bool> {
        self.delete_attachment_with(true, socket)
    }

    /// The same; gates do not wait for it, but fail if it does.
    pub fn delete_attachment_unconfirmed(&self, socket: &[u8]) -> Result<bool> {
        self.delete_attachment_with(false, socket)
    }

    fn delete_attachment_with(&self, is_confirmed: bool, socket: &[u8]) -> Result<bool> {
        let full = FullKey::of(KeyKind::Socket, socket);
        self.change(is_confirmed, |draft, object| {
            let is_there = draft.entry(object, &full)?.is_some();
            if is_there {
                draft.delete_entry(object, KeyKind::Socket, socket)?;
            }
            Ok(is_there)
        })
    }

    /// What is kept for all connections, by connection, as of this call.
    pub fn attachments(&self) -> Result<Entries> {
        let all = |draft: &Draft, object: &Object| draft.entries_of(object, KeyKind::Socket);
        self.read(all, |object| all(&Draft::new(), object))
    }

    fn entry(&self, kind: KeyKind, key: &[u8]) -> Result<Option<Value>> {
        let full = FullKey::of(kind, key);
        self.read(|draft, object| draft.entry(object, &full), |object| object.entry(&full))
    }

    fn put_entry(&self, is_confirmed: bool, kind: KeyKind, key: &[u8], value: &[u8]) -> Result<()> {
        let entry = (Codec::Raw, value);
        self.change(is_confirmed, |draft, object| draft.put_entry(object, kind, key, entry))
    }
}
