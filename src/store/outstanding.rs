//! Commits that were not safe yet when the storage of their object let it go: whoever opens the
//! object next has gates that must wait for them too.
//!
//! Kept in memory, and only for durabilities in which one commit says nothing of those before it.
//!
//! Invariants:
//!   * What an object left is there before it can be opened again.
//!   * The lock is a leaf: of what is called under it, only questions that may not block.

use super::commit::Position;
use crate::ids::Address;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Objects that are looked at again no earlier than there are so many.
const OBJECTS_MIN: usize = 64;

/// Commits in their order, and whether gates wait for each.
pub(crate) type Left = Vec<(Position, bool)>;

/// What objects have left, until they are opened again.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(Mutex<Objects>);

#[derive(Debug, Default)]
struct Objects {
    left: HashMap<Address, Left>,
    /// At so many objects those go whose commits have become safe since.
    look_at: usize,
}

impl Outstanding {
    /// An object leaves these, of which there are some.
    pub fn put(&self, address: Address, left: Left, is_safe: impl Fn(Position) -> bool) {
        let mut objects = self.0.lock();
        objects.left.insert(address, left);
        if objects.left.len() >= objects.look_at.max(OBJECTS_MIN) {
            objects.left.retain(|_, left| left.iter().any(|(position, _)| !is_safe(*position)));
            objects.look_at = objects.left.len() * 2;
        }
    }

    /// What the object left when it was let go last.
    pub fn take(&self, address: Address) -> Left {
        self.0.lock().left.remove(&address).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Lsn, NamespaceNumber, ShortId, Timestamp};

    #[test]
    fn what_became_safe_is_not_kept_for_ever() {
        let outstanding = Outstanding::default();
        let address = |id: u8| Address { namespace: NamespaceNumber(1), id: ShortId([id; 16]) };
        for id in 0..200 {
            let left = vec![(Position { lsn: Lsn(id.into()), time: Timestamp(0) }, true)];
            outstanding.put(address(id), left, |position| position.lsn != Lsn(7));
        }
        let kept = (0..200).filter(|id| !outstanding.take(address(*id)).is_empty()).count();
        assert!((1..=OBJECTS_MIN).contains(&kept), "{kept}");
        assert!(outstanding.take(address(7)).is_empty(), "taken once");
    }
}
