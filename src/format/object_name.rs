//! What a run of names says of an object.
//!
//! Invariants:
//!   * A decoded value encodes back to the same bytes.
//!   * The LSN is at or behind the commit that gave the name, and before any purge that took it.

use super::{Cursor, Malformed, put_varint};
use crate::ids::Lsn;
use crate::limits::NAME_BYTES_MAX;

/// An object's name, as a run of names has it under the object's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectName<'a> {
    /// The object had the name as of this commit. A later purge has taken it.
    pub given: Lsn,
    /// The name.
    pub name: &'a str,
}

impl<'a> ObjectName<'a> {
    /// The value's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(10 + self.name.len());
        put_varint(&mut out, self.given.0);
        out.extend_from_slice(self.name.as_bytes());
        out
    }

    /// Reads a value.
    pub fn decode(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let given = Lsn(cursor.varint()?);
        let name = std::str::from_utf8(cursor.rest());
        let name = name.map_err(|_| Malformed("a name that is not UTF-8"))?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Malformed("a name longer than any"));
        }
        Ok(Self { given, name })
    }

    /// Whether a purge by the commit `purge` has taken the name.
    #[must_use]
    pub fn is_taken_by(&self, purge: Lsn) -> bool {
        self.given < purge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_read_back(given: u64, name in ".{0,40}") {
            let own = ObjectName { given: Lsn(given), name: &name };
            let bytes = own.encode();
            prop_assert_eq!(ObjectName::decode(&bytes).unwrap(), own);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = ObjectName { given: Lsn(1), name: &"n".repeat(NAME_BYTES_MAX + 1) }.encode();
        for bytes in [&b""[..], &[0x80], &[1, 0xFF], &long] {
            assert!(ObjectName::decode(bytes).is_err(), "{bytes:?}");
        }
        let longest = &long[..=NAME_BYTES_MAX];
        assert_eq!(ObjectName::decode(longest).unwrap().name.len(), NAME_BYTES_MAX);
    }

    #[test]
    fn only_a_later_purge_takes_a_name() {
        let name = ObjectName { given: Lsn(5), name: "n" };
        assert!(name.is_taken_by(Lsn(6)) && !name.is_taken_by(Lsn(5)) && !name.is_taken_by(Lsn(4)));
    }
}
