//! The past as the engine asks for it: which history is kept, and objects as of a moment.

use super::Engine;
use crate::error::Result;
use crate::ids::{Address, Lsn, NamespaceNumber};
use crate::object::View;

/// The retention class of namespaces without a setting of their own.
pub const DEFAULT_CLASS: u32 = 1;

impl Engine {
    /// The retention class that commits of a namespace get from the next checkpoint on; none where
    /// their history is not kept.
    pub fn keeps_history(&self, _namespace: NamespaceNumber) -> Option<u32> {
        Some(DEFAULT_CLASS)
    }

    /// An object as it was after the last commit at or before `at`. Nothing is waited for.
    pub fn view_at(&self, address: Address, at: Lsn) -> Result<View> {
        self.view(address)?.as_of(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::format::record::Operation;
    use crate::ids::{Codec, KeyKind, ShortId};
    use crate::object::overlay::Found;
    use crate::object::write_set::WriteSet;
    use crate::options::Options;
    use std::sync::Arc;

    const KEY: &[u8] = &[KeyKind::User as u8, b'k'];
    const ADDRESS: Address = Address { namespace: NamespaceNumber(1), id: ShortId([7; 16]) };

    fn put(engine: &Engine, value: &[u8]) -> Lsn {
        let mut changes = WriteSet::new();
        let put = Operation::Put { key: KEY, codec: Codec::Raw, value };
        changes.push(&engine.options.limits, &put).unwrap();
        let commit = |object: &Arc<_>, inner: &mut _| engine.commit(object, inner, changes);
        engine.with_object(ADDRESS, commit).unwrap().lsn
    }

    fn value_at(engine: &Engine, at: Lsn) -> Option<Vec<u8>> {
        match engine.view_at(ADDRESS, at).unwrap().find(KEY).unwrap() {
            Some(Found::Value(_, value)) => Some(value.to_vec()),
            Some(Found::Deleted) | None => None,
        }
    }

    #[test]
    fn commits_that_no_page_holds_yet_are_told_apart() {
        let disk = Arc::new(SimDisk::new(1));
        let engine = Engine::open(disk, Options::default().threads(false)).unwrap();
        let first = put(&engine, b"one");
        let second = put(&engine, b"two");
        assert_eq!(value_at(&engine, Lsn(first.0 - 1)), None);
        assert_eq!(value_at(&engine, first).as_deref(), Some(&b"one"[..]));
        assert_eq!(value_at(&engine, second).as_deref(), Some(&b"two"[..]));
        engine.checkpoint().unwrap();
        let third = put(&engine, b"three");
        assert_eq!(value_at(&engine, second).as_deref(), Some(&b"two"[..]));
        assert_eq!(value_at(&engine, third).as_deref(), Some(&b"three"[..]));
    }
}
