//! Bookmarks: a moment of one object, as text that can be kept anywhere.
//!
//! Invariants:
//!   * Bookmarks of one object order as the moments that they name, as values and as text.
//!   * A bookmark says whose it is: that of another object, or of another store, is refused.
//!   * The text of a bookmark is the only text that reads as it, but for the case of its digits.

use crate::error::{Error, ErrorKind, Result};
use crate::ids::{Address, Lsn, StoreId, Term};
use crate::marks::{Mark, mark};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// What keeps these digests apart from all others.
const DOMAIN: &[u8] = b"dostore bookmark 1";

/// Set in the term of a bookmark that names the end of a session: see [`Bookmark::is_session_end`].
const SESSION_END: u32 = 1 << 31;

/// Digits of the four parts.
const PARTS: [usize; 4] = [8, 8, 8, 32];

/// A moment of an object.
///
/// Prints as 8, 8, 8 and 32 hex digits: the LSN's two halves, the term that made it, and whose it
/// is. Texts of one object order as the moments do.
///
/// # Examples
///
/// ```
/// use dostore::bookmark::Bookmark;
///
/// let text = "00000000-01000007-00000001-0c3e87bb37b3db5cc52eedb93cd3b96b";
/// let bookmark: Bookmark = text.parse()?;
/// assert_eq!(bookmark.to_string(), text);
/// assert_eq!(bookmark.lsn().0, 0x0100_0007);
/// assert_eq!("yesterday".parse::<Bookmark>().unwrap_err().code(), "bookmark.malformed");
/// # Ok::<(), dostore::error::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bookmark {
    lsn: Lsn,
    term: u32,
    tag: [u8; 16],
}

impl Bookmark {
    /// The moment right after the commit `lsn`, which `term` made or began behind.
    pub(crate) fn new(store: StoreId, address: Address, lsn: Lsn, term: Term) -> Self {
        Self { lsn, term: term.0 & !SESSION_END, tag: tag(store, address) }
    }

    /// The end of the session that goes on behind the commit `lsn`.
    pub(crate) fn session_end(store: StoreId, address: Address, lsn: Lsn, term: Term) -> Self {
        Self { term: term.0 | SESSION_END, ..Self::new(store, address, lsn, term) }
    }

    /// The last commit of the store that the moment shows: of the object, it is this one or an
    /// earlier one.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The term of the store in which it was made.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.term & !SESSION_END)
    }

    /// Whether it names the end of a session that was open when it was made: what
    /// `restore_on_next_open` returns. The moment that it names is settled by that restoration.
    #[must_use]
    pub fn is_session_end(&self) -> bool {
        self.term & SESSION_END != 0
    }

    /// That the bookmark is of this object of this store; `bookmark.foreign` if not.
    pub(crate) fn check(&self, store: StoreId, address: Address) -> Result<()> {
        if self.tag == tag(store, address) {
            return Ok(());
        }
        mark(Mark::RefusedForeign);
        Err(Error::invalid("bookmark.foreign", "the bookmark is of another object"))
    }

    /// The error for a moment that never became durable.
    #[cold]
    pub(crate) fn lost(&self) -> Error {
        mark(Mark::RefusedLost);
        let what = format!("the moment of bookmark {self} was lost in a crash");
        Error::new(ErrorKind::NotFound, "bookmark.lost", what)
    }
}

fn tag(store: StoreId, address: Address) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(store.0)
        .chain_update(address.to_bytes())
        .finalize();
    let mut tag = [0; 16];
    tag.copy_from_slice(&digest[..16]);
    tag
}

impl fmt::Display for Bookmark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (high, low) = (self.lsn.0 >> 32, self.lsn.0 & u64::from(u32::MAX));
        write!(out, "{high:08x}-{low:08x}-{:08x}-", self.term)?;
        self.tag.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Bookmark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

#[cold]
fn malformed() -> Error {
    let what = "a bookmark is 8, 8, 8 and 32 hex digits with dashes between";
    Error::invalid("bookmark.malformed", what)
}

/// The number that exactly these digits say; a sign is no digit.
fn number(digits: &str, length: usize) -> Option<u128> {
    let is_hex = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u128::from_str_radix(digits, 16).ok() } else { None }
}

impl FromStr for Bookmark {
    type Err = Error;

    /// Reads what [`Bookmark`] prints; digits may be capitals. Fails with `bookmark.malformed`.
    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = [0; 4];
        let mut parts = text.split('-');
        for (number_, length) in numbers.iter_mut().zip(PARTS) {
            let part = parts.next().ok_or_else(malformed)?;
            *number_ = number(part, length).ok_or_else(malformed)?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        let [high, low, term, tag] = numbers;
        let narrow = |number: u128| u32::try_from(number).map_err(|_| malformed());
        let lsn = Lsn(u64::from(narrow(high)?) << 32 | u64::from(narrow(low)?));
        Ok(Self { lsn, term: narrow(term)?, tag: tag.to_be_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};
    use proptest::prelude::*;

    fn address(namespace: u32, byte: u8) -> Address {
        Address { namespace: NamespaceNumber(namespace), id: ShortId([byte; 16]) }
    }

    fn bookmark(lsn: u64, term: u32) -> Bookmark {
        Bookmark::new(StoreId([1; 16]), address(2, 3), Lsn(lsn), Term(term))
    }

    #[test]
    fn a_bookmark_is_of_one_object_of_one_store() {
        let made = bookmark(5, 1);
        assert!(made.check(StoreId([1; 16]), address(2, 3)).is_ok());
        for (store, address) in [
            (StoreId([0; 16]), address(2, 3)),
            (StoreId([1; 16]), address(3, 3)),
            (StoreId([1; 16]), address(2, 4)),
        ] {
            assert_eq!(made.check(store, address).unwrap_err().code(), "bookmark.foreign");
        }
    }

    #[test]
    fn the_text_is_of_the_one_form() {
        let text = "00000001-00000002-00000003-";
        assert!(bookmark(0x1_0000_0002, 3).to_string().starts_with(text));
        let whole = bookmark(7, 1).to_string();
        let spoiled = [
            String::new(),
            whole[1..].to_owned(),
            format!("{whole}0"),
            format!("{whole}-"),
            format!("{whole}-00000000"),
            whole.replacen('0', "+", 1),
            whole.replacen('0', " ", 1),
            whole.replacen('-', "0", 1),
            whole.replacen("00", "\u{e9}", 1),
        ];
        for text in spoiled {
            let error = text.parse::<Bookmark>().unwrap_err();
            assert_eq!(error.code(), "bookmark.malformed", "{text}");
        }
    }

    #[test]
    fn the_end_of_a_session_is_told_from_a_moment() {
        let (store, address) = (StoreId([1; 16]), address(2, 3));
        let end = Bookmark::session_end(store, address, Lsn(7), Term(1));
        assert!(end.is_session_end() && !bookmark(7, 1).is_session_end());
        assert_eq!((end.lsn(), end.term()), (Lsn(7), Term(1)));
        assert_eq!(end.to_string().parse::<Bookmark>().unwrap(), end);
        assert!(end.check(store, address).is_ok());
    }

    proptest! {
        #[test]
        fn bookmarks_read_back_and_order_as_their_text(a: u64, b: u64, terms: (u32, u32)) {
            let (one, two) = (bookmark(a, terms.0), bookmark(b, terms.1));
            prop_assert_eq!(one.to_string().parse::<Bookmark>().unwrap(), one);
            prop_assert_eq!(one.to_string().to_uppercase().parse::<Bookmark>().unwrap(), one);
            prop_assert_eq!(one.to_string().cmp(&two.to_string()), one.cmp(&two));
            prop_assert!(a == b || (a < b) == (one < two));
        }

        #[test]
        fn what_parses_prints_back(text in "[0-9a-fA-F+ -]{0,60}") {
            if let Ok(bookmark) = text.parse::<Bookmark>() {
                prop_assert_eq!(bookmark.to_string(), text.to_lowercase());
            }
        }
    }
}
