//! Exports: objects as a stream, apart from any store, in a form for people and in a compact one.
//!
//! Both forms are sequences of the same items. See "Exports" in `docs/format.md`. Here one line or
//! one block is made and read; whoever has the stream joins them ([`crate::format`] does no input).
//!
//! Invariants:
//!   * An item depends on what is exported and on nothing else: not on the moment, the store, or
//!     how its bytes lie there.
//!   * What decodes keeps every limit of the format.

pub mod binary;
pub mod json;
pub mod text;

use super::Malformed;
use super::alarm::LastFailure;
use crate::alarm::Alarm;
use crate::ids::{Codec, KeyKind};
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX};
use std::borrow::Cow;

/// The version of both forms that is written.
pub const EXPORT_VERSION: u32 = 1;

/// Items that need no object around them come between these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The objects that follow are of the namespace of this name.
    Namespace(Cow<'a, str>),
    /// An object begins.
    Object {
        /// Its whole id.
        id: [u8; 32],
        /// Its name, if it has one.
        name: Option<Cow<'a, str>>,
    },
    /// The version that its user has given it.
    UserVersion(u64),
    /// An entry. Of the kinds, only user, socket and SQL occur.
    Entry {
        /// What the entry is.
        kind: KeyKind,
        /// The key behind the kind.
        key: Cow<'a, [u8]>,
        /// How tools may read the value.
        codec: Codec,
        /// The value.
        value: Cow<'a, [u8]>,
    },
    /// An alarm; the plain one has no name. Its generation is zero: it gets one where it is set.
    Alarm {
        /// Its name.
        name: Option<Cow<'a, str>>,
        /// Its state.
        alarm: Alarm,
    },
    /// What is kept of an alarm that was given up.
    Failure {
        /// The alarm's name.
        name: Option<Cow<'a, str>>,
        /// What is kept.
        failure: LastFailure,
    },
    /// The object ends.
    EndObject {
        /// Items between its begin and its end, where that is told.
        items: Option<u64>,
    },
    /// The export ends.
    End {
        /// Objects in it, where that is told.
        objects: Option<u64>,
    },
}

/// Whether an export may have entries of this kind as they are.
#[must_use]
pub fn is_carried(kind: KeyKind) -> bool {
    matches!(kind, KeyKind::User | KeyKind::Socket | KeyKind::Sql)
}

fn check(item: &Item<'_>) -> Result<(), Malformed> {
    let is_name = |name: &Cow<'_, str>| name.len() <= NAME_BYTES_MAX;
    let is_right = match item {
        Item::Namespace(name) => is_name(name),
        Item::Object { name, .. } | Item::Alarm { name, .. } | Item::Failure { name, .. } => {
            name.as_ref().is_none_or(is_name)
        }
        Item::Entry { key, value, .. } => {
            key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX
        }
        Item::UserVersion(_) | Item::EndObject { .. } | Item::End { .. } => true,
    };
    if is_right { Ok(()) } else { Err(Malformed("a name, a key or a value beyond its limit")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Timestamp;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = Cow<'static, str>> {
        "\\PC{0,12}|[\\x00-\\x7f]{0,12}".prop_map(Cow::Owned)
    }

    fn bytes() -> impl Strategy<Value = Cow<'static, [u8]>> {
        let text = "\\PC{0,40}|[\\x00-\\x7f]{0,40}".prop_map(String::into_bytes);
        prop_oneof![text, vec(any::<u8>(), 0..40)].prop_map(Cow::Owned)
    }

    fn alarm() -> impl Strategy<Value = Alarm> {
        any::<([u64; 2], [u32; 3])>().prop_map(|(times, counts)| Alarm {
            time: Timestamp(times[0]),
            due: Timestamp(times[1]),
            counted: counts[0],
            uncounted: counts[1],
            backoff: counts[2],
            ..Alarm::default()
        })
    }

    fn failure() -> impl Strategy<Value = LastFailure> {
        (any::<[u64; 2]>(), any::<u32>(), "\\PC{0,40}").prop_map(|(times, attempts, text)| {
            let (scheduled, at) = (Timestamp(times[0]), Timestamp(times[1]));
            LastFailure { scheduled, at, attempts, text }
        })
    }

    pub fn item() -> impl Strategy<Value = Item<'static>> {
        let kind = prop_oneof![Just(KeyKind::User), Just(KeyKind::Socket), Just(KeyKind::Sql)];
        let codec = (0_u8..5).prop_map(|byte| Codec::from_byte(byte).unwrap());
        prop_oneof![
            name().prop_map(Item::Namespace),
            (any::<[u8; 32]>(), option::of(name()))
                .prop_map(|(id, name)| Item::Object { id, name }),
            any::<u64>().prop_map(Item::UserVersion),
            (kind, bytes(), codec, bytes()).prop_map(|(kind, key, codec, value)| Item::Entry {
                kind,
                key,
                codec,
                value
            }),
            (option::of(name()), alarm()).prop_map(|(name, alarm)| Item::Alarm { name, alarm }),
            (option::of(name()), failure())
                .prop_map(|(name, failure)| Item::Failure { name, failure }),
            any::<u64>().prop_map(|items| Item::EndObject { items: Some(items) }),
            any::<u64>().prop_map(|objects| Item::End { objects: Some(objects) }),
        ]
    }

    proptest! {
        #[test]
        fn a_line_reads_back_as_its_item(item in item()) {
            let mut line = Vec::new();
            text::encode(&item, &mut line);
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(text::decode(&line), Ok(item));
        }

        #[test]
        fn items_of_a_block_read_back(items in vec(item(), 0..8)) {
            let mut raw = Vec::new();
            for item in &items {
                binary::encode(item, &mut raw);
            }
            let read: Result<Vec<_>, _> = binary::Items::new(&raw).collect();
            prop_assert_eq!(read, Ok(items));
        }

        #[test]
        fn a_line_is_not_much_longer_than_twice_its_bytes(key in bytes(), value in bytes()) {
            let bytes = 2 * (key.len() + value.len()) + 80;
            let (kind, codec) = (KeyKind::Socket, Codec::V8);
            let mut line = Vec::new();
            text::encode(&Item::Entry { kind, key, codec, value }, &mut line);
            prop_assert!(line.len() <= bytes);
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_in_both_forms() {
        let entry = |key: usize, value: usize| Item::Entry {
            kind: KeyKind::User,
            key: vec![b'k'; key].into(),
            codec: Codec::Raw,
            value: vec![b'v'; value].into(),
        };
        let both = |item: &Item<'_>| {
            let (mut line, mut raw) = (Vec::new(), Vec::new());
            text::encode(item, &mut line);
            binary::encode(item, &mut raw);
            let binary = binary::Items::new(&raw).next().unwrap();
            assert_eq!(text::decode(&line).is_ok(), binary.is_ok());
            binary.is_ok()
        };
        assert!(both(&entry(KEY_BYTES_MAX, VALUE_BYTES_MAX)));
        assert!(!both(&entry(KEY_BYTES_MAX + 1, 1)));
        assert!(!both(&entry(1, VALUE_BYTES_MAX + 1)));
        for (length, is_right) in [(NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
            let name = || Some(Cow::Owned("n".repeat(length)));
            assert_eq!(both(&Item::Namespace("n".repeat(length).into())), is_right);
            assert_eq!(both(&Item::Object { id: [1; 32], name: name() }), is_right);
            assert_eq!(both(&Item::Alarm { name: name(), alarm: Alarm::default() }), is_right);
        }
    }
}
