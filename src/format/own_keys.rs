//! Full keys of what the store itself keeps among an object's entries.
//!
//! Invariants:
//!   * In the order of full keys, whatever makes an object be there comes behind what does not.

use crate::ids::KeyKind;

const META: u8 = KeyKind::Meta as u8;

/// Stands in an object while an import of it is not complete.
pub const IMPORT_KEY: &[u8] = &[META, b'i', b'm', b'p', b'o', b'r', b't'];
/// The object's own name.
pub const NAME_KEY: &[u8] = &[META, b'n', b'a', b'm', b'e'];
/// What the object is to be restored to when it is opened next.
pub const RESTORE_KEY: &[u8] = &[META, b'r', b'e', b's', b't', b'o', b'r', b'e'];
/// The number that the object's user gave its data.
pub const VERSION_KEY: &[u8] = &[META, b'v', b'e', b'r', b's', b'i', b'o', b'n'];

/// Whether an entry makes its object be there, and counts among its bytes: everything that its user
/// stored. A name, a mark of an import and a restoration that waits do not.
#[must_use]
pub fn is_content(key: &[u8]) -> bool {
    key >= VERSION_KEY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_stored_is_content_and_the_stores_own_words_are_not() {
        for key in [IMPORT_KEY, NAME_KEY, RESTORE_KEY] {
            assert!(!is_content(key), "{key:?}");
        }
        let others = [KeyKind::User, KeyKind::Alarm, KeyKind::Socket, KeyKind::Sql];
        assert!(is_content(VERSION_KEY) && others.iter().all(|kind| is_content(&[*kind as u8])));
    }
}
