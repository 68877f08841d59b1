//! Keys of the items of history: of which object, what, and when.
//!
//! An entry of a run has the key of its first item whole, and behind it the time of a commit, so
//! that a time is looked for in keys alone. Inside a bundle a key leaves out what it has in common
//! with the one before: neighbours are about one object, or about objects whose addresses begin
//! alike.
//!
//! Invariants:
//!   * Whole keys, and those of entries, order as their bytes do.
//!   * What decodes encodes back to the same bytes: there is one way to write a key behind another.

use super::{Cursor, Malformed, put_varint};
use crate::ids::{Address, Lsn, Timestamp};

/// Bytes of a whole key.
pub const ITEM_KEY_BYTES: usize = Address::BYTES + 15;
/// Bytes of the key of a bundle's entry.
pub const BUNDLE_KEY_BYTES: usize = ITEM_KEY_BYTES + 8;
/// The most that stands in front of an item's value.
pub const ITEM_HEAD_BYTES_MAX: usize = 2 + Address::BYTES + 10 + 5 + 3 + 3;

/// Bits of the first byte of an item, above its group.
const SAME_OBJECT: u8 = 2;
const HAS_ORDINAL: u8 = 4;
const HAS_CHUNK: u8 = 8;

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// What the object was.
    States = 0,
    /// What was committed to it.
    Commits = 1,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// The object.
    pub address: Address,
    /// What the item is about.
    pub group: Group,
    /// Of a commit its LSN; of a state the LSN that it is exact at.
    pub lsn: Lsn,
    /// Tells apart states of one object that are exact at one LSN.
    pub ordinal: u32,
    /// Zero, or how many items came before of which this one is the continuation.
    pub chunk: u16,
}

impl ItemKey {
    /// The least key of a group of an object at an LSN.
    #[must_use]
    pub fn first(address: Address, group: Group, lsn: Lsn) -> Self {
        Self { address, group, lsn, ordinal: 0, chunk: 0 }
    }

    /// The greatest key of a group of an object at an LSN.
    #[must_use]
    pub fn last(address: Address, group: Group, lsn: Lsn) -> Self {
        Self { address, group, lsn, ordinal: u32::MAX, chunk: u16::MAX }
    }

    /// The key's bytes, which order as keys do.
    #[must_use]
    pub fn encode(&self) -> [u8; ITEM_KEY_BYTES] {
        let mut out = [0; ITEM_KEY_BYTES];
        let (address, rest) = out.split_at_mut(Address::BYTES);
        address.copy_from_slice(&self.address.to_bytes());
        rest[0] = self.group as u8;
        rest[1..9].copy_from_slice(&self.lsn.0.to_be_bytes());
        rest[9..13].copy_from_slice(&self.ordinal.to_be_bytes());
        rest[13..].copy_from_slice(&self.chunk.to_be_bytes());
        out
    }

    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let cursor = &mut Cursor::new(bytes);
        let address = cursor.take(Address::BYTES)?;
        let address = Address::from_bytes(address).ok_or(Malformed("cut short"))?;
        let group = match cursor.u8()? {
            0 => Group::States,
            1 => Group::Commits,
            _ => return Err(Malformed("an item of an unknown group")),
        };
        let lsn = Lsn(u64::from_be_bytes(cursor.array()?));
        let ordinal = u32::from_be_bytes(cursor.array()?);
        let chunk = u16::from_be_bytes(cursor.array()?);
        if !cursor.is_empty() {
            return Err(Malformed("bytes after the end"));
        }
        Ok(Self { address, group, lsn, ordinal, chunk })
    }

    /// Appends the key as it stands behind another in a bundle.
    pub fn put(&self, before: Option<&Self>, out: &mut Vec<u8>) {
        let own = before.filter(|before| before.address == self.address);
        let near = own.filter(|before| before.group == self.group);
        let mut head = self.group as u8;
        head |= if own.is_some() { SAME_OBJECT } else { 0 };
        head |= if self.ordinal > 0 { HAS_ORDINAL } else { 0 };
        head |= if self.chunk > 0 { HAS_CHUNK } else { 0 };
        out.push(head);
        if own.is_none() {
            let address = self.address.to_bytes();
            let shared = before.map_or(0, |before| shared(&before.address, &address));
            out.push(u8::try_from(shared).unwrap_or(0));
            out.extend_from_slice(&address[shared..]);
        }
        put_varint(out, self.lsn.0 - near.map_or(0, |before| before.lsn.0));
        if self.ordinal > 0 {
            put_varint(out, u64::from(self.ordinal));
        }
        if self.chunk > 0 {
            put_varint(out, u64::from(self.chunk));
        }
    }

    /// Reads what `put` wrote behind `before`.
    pub fn take(before: Option<&Self>, cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let head = cursor.u8()?;
        if head & !(Group::Commits as u8 | SAME_OBJECT | HAS_ORDINAL | HAS_CHUNK) != 0 {
            return Err(Malformed("unknown bits of an item"));
        }
        let is_commit = head & Group::Commits as u8 != 0;
        let group = if is_commit { Group::Commits } else { Group::States };
        let own = before.filter(|_| head & SAME_OBJECT != 0);
        let address = match own {
            Some(before) => before.address,
            None if head & SAME_OBJECT != 0 => return Err(Malformed("the object of no item")),
            None => take_address(before, cursor)?,
        };
        let near = own.filter(|before| before.group == group);
        let base = near.map_or(0, |before| before.lsn.0);
        let lsn = base.checked_add(cursor.varint()?).ok_or(Malformed("an LSN beyond 64 bits"))?;
        let mut number = |bit: u8| match (head & bit != 0, bit) {
            (false, _) => Ok(0),
            (true, _) => match cursor.varint_u32()? {
                0 => Err(Malformed("a zero that is not left out")),
                number => Ok(number),
            },
        };
        let (ordinal, chunk) = (number(HAS_ORDINAL)?, number(HAS_CHUNK)?);
        let chunk = u16::try_from(chunk).map_err(|_| Malformed("a chunk beyond the last"))?;
        Ok(Self { address, group, lsn: Lsn(lsn), ordinal, chunk })
    }
}

/// The key of a bundle's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleKey {
    /// The first item of the bundle.
    pub first: ItemKey,
    /// The time of the commit that this item is of; zero for a state.
    pub time: Timestamp,
}

impl BundleKey {
    /// Not below the key of any entry that begins with `first` or an item before it.
    #[must_use]
    pub fn last(first: &ItemKey) -> [u8; BUNDLE_KEY_BYTES] {
        Self { first: *first, time: Timestamp(u64::MAX) }.encode()
    }

    /// The key's bytes, which order as keys do. Those of the item alone are not above them.
    #[must_use]
    pub fn encode(&self) -> [u8; BUNDLE_KEY_BYTES] {
        let mut out = [0; BUNDLE_KEY_BYTES];
        let (item, time) = out.split_at_mut(ITEM_KEY_BYTES);
        item.copy_from_slice(&self.first.encode());
        time.copy_from_slice(&self.time.0.to_be_bytes());
        out
    }

    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (item, time) = bytes.split_last_chunk().ok_or(Malformed("cut short"))?;
        let (first, time) = (ItemKey::decode(item)?, Timestamp(u64::from_be_bytes(*time)));
        if first.group == Group::States && time > Timestamp(0) {
            return Err(Malformed("a state with the time of a commit"));
        }
        Ok(Self { first, time })
    }
}

/// How many bytes two addresses begin with alike.
fn shared(before: &Address, address: &[u8; Address::BYTES]) -> usize {
    before.to_bytes().iter().zip(address).take_while(|(one, other)| one == other).count()
}

fn take_address(before: Option<&ItemKey>, cursor: &mut Cursor<'_>) -> Result<Address, Malformed> {
    let mut bytes = before.map_or([0; Address::BYTES], |before| before.address.to_bytes());
    let kept = usize::from(cursor.u8()?);
    if kept >= Address::BYTES || before.is_none() && kept > 0 {
        return Err(Malformed("an address without an end of its own"));
    }
    bytes[kept..].copy_from_slice(cursor.take(Address::BYTES - kept)?);
    if before.is_some_and(|before| shared(&before.address, &bytes) != kept) {
        return Err(Malformed("an address in a longer form than needed"));
    }
    Address::from_bytes(&bytes).ok_or(Malformed("cut short"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    pub fn key() -> impl Strategy<Value = ItemKey> {
        (0u32..3, 0u8..3, any::<bool>(), 0u64..4, 0u32..3, 0u16..3).prop_map(
            |(namespace, id, is_commit, lsn, ordinal, chunk)| ItemKey {
                address: Address {
                    namespace: NamespaceNumber(namespace << 8),
                    id: ShortId([id; 16]),
                },
                group: if is_commit { Group::Commits } else { Group::States },
                lsn: Lsn(lsn << 40),
                ordinal: ordinal << 16,
                chunk,
            },
        )
    }

    #[test]
    fn a_state_has_no_time_of_a_commit() {
        let first = ItemKey::first(Address::default(), Group::States, Lsn(7));
        let key = BundleKey { first, time: Timestamp(1) };
        assert!(BundleKey::decode(&key.encode()).is_err());
    }

    proptest! {
        #[test]
        fn keys_order_as_their_bytes_do_and_read_back(one in key(), other in key()) {
            prop_assert_eq!(one.cmp(&other), one.encode().cmp(&other.encode()));
            prop_assert_eq!(ItemKey::decode(&one.encode()), Ok(one));
        }

        #[test]
        fn keys_of_entries_order_as_their_bytes_do_and_read_back(
            (one, other) in (key(), key()), (time, later) in (0u64..3, 0u64..3),
        ) {
            let entry = |first: ItemKey, time: u64| {
                let time = if first.group == Group::States { 0 } else { time << 40 };
                BundleKey { first, time: Timestamp(time) }
            };
            let (one, other) = (entry(one, time), entry(other, later));
            prop_assert_eq!(one.cmp(&other), one.encode().cmp(&other.encode()));
            prop_assert_eq!(BundleKey::decode(&one.encode()), Ok(one));
            let (item, last) = (other.first.encode(), BundleKey::last(&other.first));
            prop_assert_eq!(one.first >= other.first, one.encode()[..] >= item[..]);
            prop_assert_eq!(one.first <= other.first, one.encode() <= last);
        }

        #[test]
        fn keys_behind_each_other_read_back(keys in btree_set(key(), 1..20)) {
            let mut out = Vec::new();
            let before = |index: usize| index.checked_sub(1).and_then(|at| keys.iter().nth(at));
            for (index, key) in keys.iter().enumerate() {
                let start = out.len();
                key.put(before(index), &mut out);
                prop_assert!(out.len() - start <= ITEM_HEAD_BYTES_MAX);
            }
            let mut cursor = Cursor::new(&out);
            for (index, key) in keys.iter().enumerate() {
                prop_assert_eq!(ItemKey::take(before(index), &mut cursor), Ok(*key));
            }
            prop_assert!(cursor.is_empty());
        }
    }
}
