//! The words for identity and position: which store, namespace, object, life, commit, file.
//!
//! Each is a type of its own, so that a number of one kind cannot stand where another is meant.
//!
//! Invariants:
//!   * Keys order as their bytes do: numbers inside keys are big-endian.
//!   * [`Lsn`] zero names no commit: "before everything".
//!   * A number once given to a file, a namespace or a life is never given again within one line of
//!     opens; a backup that is opened beside its store goes its own way.

use std::fmt;
use std::time::{Duration, SystemTime};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

number! {
    /// A position in the one total order of commits of a store; one more per commit.
    Lsn(u64)
}
number! {
    /// Grows at every writable open of a store; stated in every file header.
    Term(u32)
}
number! {
    /// The LSN of the commit that began an object's present life. Compared for equality only.
    Life(u64)
}
number! {
    /// A namespace inside its store. Zero is the store's own.
    NamespaceNumber(u32)
}
number! {
    /// A file of a store. One counter serves every kind of file.
    FileNumber(u64)
}
number! {
    /// Microseconds since 1970 began, UTC.
    Timestamp(u64)
}

/// A span of time in microseconds; what is finer is cut off.
pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl From<SystemTime> for Timestamp {
    /// Before 1970 is 1970; microseconds are kept, what is finer is cut off.
    fn from(at: SystemTime) -> Self {
        Self(micros(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        Self::UNIX_EPOCH + Duration::from_micros(at.0)
    }
}

impl Lsn {
    /// Before the first commit of any store.
    pub const ZERO: Self = Self(0);

    /// Behind every commit of any store.
    pub const MAX: Self = Self(u64::MAX);

    /// The LSN after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The first LSN of a term that begins after this LSN was the last one recovered: LSNs that a
    /// crash may have lost are skipped, so that none of them ever names two commits.
    #[must_use]
    pub fn first_of_next_term(self) -> Self {
        Self((self.0 | 0x00FF_FFFF) + 1)
    }
}

/// A store's identity, drawn at random when it is created and repeated in every file.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

/// The identifying half of an [`ObjectId`]; the only half that is stored.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(pub [u8; 16]);

/// An object inside its store: namespace, then identifying half of its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The namespace that holds the object.
    pub namespace: NamespaceNumber,
    /// The object inside it.
    pub id: ShortId,
}

impl Address {
    /// The length of [`Address::to_bytes`].
    pub const BYTES: usize = 20;

    /// The address as a key prefix: ordered as addresses are.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.namespace.0.to_be_bytes());
        bytes[4..].copy_from_slice(&self.id.0);
        bytes
    }

    /// The address that begins `bytes`, if they are long enough.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (namespace, rest) = bytes.split_first_chunk::<4>()?;
        let id = rest.first_chunk::<16>()?;
        Some(Self { namespace: NamespaceNumber(u32::from_be_bytes(*namespace)), id: ShortId(*id) })
    }
}

/// A place in the log: a byte of a WAL file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The WAL file.
    pub file: FileNumber,
    /// The byte in it.
    pub offset: u64,
}

/// A boundary between groups of the log: where the next group begins and what it must continue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPoint {
    /// The WAL file. Zero before the first.
    pub file: FileNumber,
    /// Where in it the next group begins; or the file's successor does, if the next did not fit.
    pub offset: u64,
    /// The number of the next group.
    pub group: u64,
    /// The header checksum of the group before it.
    pub chain: u32,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Behind the last group.
    pub point: LogPoint,
    /// The last commit.
    pub lsn: Lsn,
    /// Its time.
    pub time: Timestamp,
}

/// An object's id as users see it: 16 bytes that identify and 16 that prove the namespace. Prints
/// as 64 hex digits; a namespace makes it, and takes it back from digits or bytes
/// ([`Namespace::id_from_hex`](crate::store::namespace::Namespace::id_from_hex)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub(crate) [u8; 32]);

impl ObjectId {
    /// The id's 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The identifying half.
    #[must_use]
    pub fn short(&self) -> ShortId {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        ShortId(half)
    }
}

fn write_hex(bytes: &[u8], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

macro_rules! shown_as_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, out)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, out)
            }
        }
    )*};
}

shown_as_hex!(StoreId, ShortId, ObjectId);

/// What an entry of an object is, and so who may see it. Entries order by kind, then by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KeyKind {
    /// The store's own words about the object: its name, its version number.
    Meta = 0,
    /// A key of the user.
    User = 1,
    /// A named alarm.
    Alarm = 2,
    /// What a runtime keeps for one connection.
    Socket = 3,
    /// A page of an SQL database.
    Sql = 4,
}

impl Lsn {
    /// As the first two parts of a bookmark, which is how commits are told to people.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:08x}-{:08x}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl KeyKind {
    /// The kind with this byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Meta,
            1 => Self::User,
            2 => Self::Alarm,
            3 => Self::Socket,
            4 => Self::Sql,
            _ => return None,
        })
    }
}

/// How a value's bytes are to be read by tools. The engine returns exactly what was put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Nothing is said about the bytes.
    #[default]
    Raw = 0,
    /// JSON text.
    Json = 1,
    /// `MessagePack`.
    MessagePack = 2,
    /// CBOR.
    Cbor = 3,
    /// The serialization of V8's structured clone.
    V8 = 4,
}

impl Codec {
    /// The codec with this byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Raw,
            1 => Self::Json,
            2 => Self::MessagePack,
            3 => Self::Cbor,
            4 => Self::V8,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_order_as_their_bytes() {
        let at = |namespace, byte| Address {
            namespace: NamespaceNumber(namespace),
            id: ShortId([byte; 16]),
        };
        let ordered = [at(0, 9), at(1, 0), at(1, 255), at(256, 0), at(u32::MAX, 1)];
        for pair in ordered.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(Address::from_bytes(&pair[0].to_bytes()), Some(pair[0]));
        }
        assert_eq!(Address::from_bytes(&[0; 19]), None);
    }

    #[test]
    fn a_term_skips_every_lsn_that_a_crash_may_have_lost() {
        assert_eq!(Lsn(0).first_of_next_term(), Lsn(0x0100_0000));
        assert_eq!(Lsn(0x0100_0000).first_of_next_term(), Lsn(0x0200_0000));
        assert_eq!(Lsn(0x01FF_FFFF).first_of_next_term(), Lsn(0x0200_0000));
    }
}
