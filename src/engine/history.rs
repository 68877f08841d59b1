//! The past as the engine asks for it: which history is kept, and objects as of a moment.

use super::Engine;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::ids::{Address, Lsn, NamespaceNumber, Timestamp};
use crate::object::View;
use crate::object::retention::readable_from;
use parking_lot::Mutex;
use std::time::Duration;

/// Since when this process has known an epoch to be open. Commit times stand still while the clock
/// is behind them, and this does not.
#[derive(Debug, Default)]
pub struct OpenSince(Mutex<Option<(u64, Duration)>>);

impl OpenSince {
    fn age(&self, epoch: u64, uptime: Duration) -> Duration {
        let mut known = self.0.lock();
        let (_, since) = known.filter(|(of, _)| *of == epoch).unwrap_or((epoch, uptime));
        *known = Some((epoch, since));
        uptime.saturating_sub(since)
    }
}

impl Engine {
    /// Ends the open epoch with the cut of `next`, if it is time or somebody wants it; `logged`
    /// record bytes were before that cut and behind the one before. Says whether it ended.
    pub(super) fn turn_epoch(&self, next: &mut Manifest, logged: u64, is_wanted: bool) -> bool {
        next.epoch_bytes += logged;
        if next.epoch_time == Timestamp(0) {
            next.epoch_time = next.cut_time;
        }
        let age = Duration::from_micros(next.cut_time.0.saturating_sub(next.epoch_time.0));
        let age = age.max(self.expiry.open.age(next.epoch, self.clock.uptime()));
        let is_long =
            age >= self.options.epoch_after && next.epoch_bytes > self.options.epoch_bytes;
        let is_over = is_long || age >= self.options.epoch_most || is_wanted;
        if is_over {
            next.epoch += 1;
            next.epoch_start = next.cut;
            next.epoch_time = next.cut_time;
            next.epoch_bytes = 0;
            self.expiry.open.age(next.epoch, self.clock.uptime());
        }
        is_over
    }

    /// An object as it was after the last commit at or before `at`. Nothing is waited for. Fails
    /// with `history.off` or `history.expired` where history does not reach back to it.
    pub fn view_at(&self, address: Address, at: Lsn) -> Result<View> {
        self.view(address)?.as_of(at)
    }
}

/// Whether no moment that can be read is before the end of an object at `deleted`: its head may go
/// then. Before, a head that is not there would say that the object never was.
pub(super) fn forgets(manifest: &Manifest, namespace: NamespaceNumber, deleted: Lsn) -> bool {
    readable_from(manifest, namespace).is_none_or(|from| deleted <= from)
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
