//! What the catalog keeps of a namespace, and what the manifest repeats of it.
//!
//! Invariants:
//!   * A decoded value encodes back to the same bytes.

use super::{Cursor, Malformed, put_bytes, put_varint};
use crate::ids::{Lsn, NamespaceNumber};
use crate::limits::NAME_BYTES_MAX;
use crate::object_id::NamespaceKey;
use crate::retention::Retention;
use std::time::Duration;

const OFF: u8 = 0;
const DEFAULT: u8 = 1;
const KEEP: u8 = 2;

/// A namespace, as its entry of the catalog says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceValue {
    /// Its number in addresses.
    pub number: NamespaceNumber,
    /// What its object ids are derived with.
    pub key: NamespaceKey,
    /// How long its history is kept; none for as long as the store's.
    pub retention: Option<Retention>,
}

impl NamespaceValue {
    /// The value's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        put_varint(&mut out, u64::from(self.number.0));
        out.extend_from_slice(self.key.as_bytes());
        match self.retention {
            None => out.push(DEFAULT),
            Some(Retention::Off) => out.push(OFF),
            Some(Retention::Keep { age, bytes }) => {
                out.push(KEEP);
                put_varint(&mut out, age.as_secs());
                // No bound is told as zero, and a bound as one more.
                put_varint(&mut out, bytes.map_or(0, |bytes| bytes.saturating_add(1)));
            }
        }
        out
    }

    /// Reads a value.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let number = NamespaceNumber(cursor.varint_u32()?);
        if number.0 >= NUMBERS_END {
            return Err(Malformed("a namespace with a number that no store counts to"));
        }
        let key = NamespaceKey::from_bytes(cursor.array()?);
        let retention = match cursor.u8()? {
            OFF => Some(Retention::Off),
            DEFAULT => None,
            KEEP => {
                let age = Duration::from_secs(cursor.varint()?);
                let bytes = cursor.varint()?.checked_sub(1);
                Some(Retention::Keep { age, bytes })
            }
            _ => return Err(Malformed("an unknown kind of retention")),
        };
        cursor.finish()?;
        Ok(Self { number, key, retention })
    }
}

/// A namespace, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceItem {
    /// The commit that made it.
    pub since: Lsn,
    /// Its name.
    pub name: String,
    /// All else.
    pub value: NamespaceValue,
}

impl NamespaceItem {
    /// Adds the item's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.since.0.to_le_bytes());
        put_bytes(out, self.name.as_bytes());
        put_bytes(out, &self.value.encode());
    }

    /// Reads an item.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let since = Lsn(cursor.u64()?);
        let name = std::str::from_utf8(cursor.bytes(NAME_BYTES_MAX)?);
        let name = name.map_err(|_| Malformed("a name that is not UTF-8"))?.to_owned();
        let value = NamespaceValue::decode(cursor.bytes(VALUE_BYTES_MAX)?)?;
        Ok(Self { since, name, value })
    }
}

/// Behind the greatest number: there is always a next one, and a class of its own for each.
const NUMBERS_END: u32 = 1 << 31;
/// No value is longer.
const VALUE_BYTES_MAX: usize = 64;

/// An item, for tests.
#[cfg(test)]
pub(super) fn sample() -> NamespaceItem {
    let (number, key) = (NamespaceNumber(7), NamespaceKey::new("rooms"));
    let retention = Some(Retention::Keep { age: Duration::from_mins(1), bytes: Some(5) });
    let value = NamespaceValue { number, key, retention };
    NamespaceItem { since: Lsn(9), name: "rooms".to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn namespaces_read_back(
            number in 0..NUMBERS_END, key: [u8; 32], kind in 0..4, age: u64, most: u64,
        ) {
            let age = Duration::from_secs(age);
            let retention = match kind {
                0 => None,
                1 => Some(Retention::Off),
                2 => Some(Retention::Keep { age, bytes: None }),
                _ => Some(Retention::Keep { age, bytes: Some(most.min(u64::MAX - 1)) }),
            };
            let key = NamespaceKey::from_bytes(key);
            let value = NamespaceValue { number: NamespaceNumber(number), key, retention };
            let bytes = value.encode();
            prop_assert_eq!(NamespaceValue::decode(&bytes), Ok(value));
            for cut in 0..bytes.len() {
                prop_assert!(NamespaceValue::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn what_decodes_encodes_back(bytes in proptest::collection::vec(0u8..4, 30..50)) {
            if let Ok(value) = NamespaceValue::decode(&bytes) {
                prop_assert_eq!(value.encode(), bytes);
            }
        }
    }
}
