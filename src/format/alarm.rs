//! Alarms: their state, as heads, records and entries hold it; their hints, by time; failures.
//!
//! Hints are keys of alarm runs. A hint is never trusted: it says where to look, and the object
//! says whether there is such an alarm.
//!
//! Invariants:
//!   * Hints order by the time when they are due.
//!   * A setting of an alarm, and each of its attempts, has a hint of its own.

use super::{Cursor, Malformed, put_bytes, put_varint};
use crate::alarm::Alarm;
use crate::ids::{Address, KeyKind, Lsn, Timestamp};
use crate::limits::{FAILURE_TEXT_BYTES_MAX, NAME_BYTES_MAX};

/// The value of a hint.
pub const HINT: &[u8] = &[];
/// The value that takes back a hint of an older run.
pub const HINT_TOMBSTONE: &[u8] = &[0];

const PLAIN: u8 = 0;
const NAMED: u8 = 1;

/// Behind the kind byte of a full key of the kind [`KeyKind::Alarm`]: what the entry is.
const ABOUT_ALARM: u8 = 0;
const ABOUT_PLAIN_FAILURE: u8 = 1;
const ABOUT_NAMED_FAILURE: u8 = 2;

/// Appends an alarm's state. `near` is an LSN that the reader knows, and usually close.
pub fn encode_alarm(alarm: &Alarm, near: Lsn, out: &mut Vec<u8>) {
    put_varint(out, alarm.time.0);
    put_varint(out, alarm.due.0.wrapping_sub(alarm.time.0));
    put_varint(out, near.0.wrapping_sub(alarm.generation.0));
    put_varint(out, u64::from(alarm.counted));
    put_varint(out, u64::from(alarm.uncounted));
    put_varint(out, u64::from(alarm.backoff));
}

/// Reads an alarm's state.
pub fn decode_alarm(near: Lsn, cursor: &mut Cursor<'_>) -> Result<Alarm, Malformed> {
    let time = cursor.varint()?;
    Ok(Alarm {
        time: Timestamp(time),
        due: Timestamp(time.wrapping_add(cursor.varint()?)),
        generation: Lsn(near.0.wrapping_sub(cursor.varint()?)),
        counted: cursor.varint_u32()?,
        uncounted: cursor.varint_u32()?,
        backoff: cursor.varint_u32()?,
    })
}

/// The value of a named alarm's entry.
#[must_use]
pub fn entry_of(alarm: &Alarm) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    encode_alarm(alarm, Lsn::ZERO, &mut out);
    out
}

/// Reads the value of a named alarm's entry.
pub fn decode_entry(value: &[u8]) -> Result<Alarm, Malformed> {
    let mut cursor = Cursor::new(value);
    let alarm = decode_alarm(Lsn::ZERO, &mut cursor)?;
    cursor.finish()?;
    Ok(alarm)
}

/// The full key of a named alarm's entry.
#[must_use]
pub fn alarm_key(name: &str) -> Vec<u8> {
    [&[KeyKind::Alarm as u8, ABOUT_ALARM], name.as_bytes()].concat()
}

/// The name in a full key of a named alarm's entry; none for any other.
#[must_use]
pub fn name_in_key(full: &[u8]) -> Option<&str> {
    let name = full.strip_prefix(&[KeyKind::Alarm as u8, ABOUT_ALARM])?;
    std::str::from_utf8(name).ok()
}

/// The full keys of all named alarms: the first, and the one behind the last.
pub const ALARM_KEYS: [&[u8]; 2] =
    [&[KeyKind::Alarm as u8, ABOUT_ALARM], &[KeyKind::Alarm as u8, ABOUT_ALARM + 1]];

/// The full keys of all last failures: the first, and the one behind the last.
pub const FAILURE_KEYS: [&[u8]; 2] = [
    &[KeyKind::Alarm as u8, ABOUT_PLAIN_FAILURE],
    &[KeyKind::Alarm as u8, ABOUT_NAMED_FAILURE + 1],
];

/// Whose last failure a full key is of; none inside for the plain alarm, none for any other key.
#[must_use]
pub fn failed_in_key(full: &[u8]) -> Option<Option<&str>> {
    match full.strip_prefix(&[KeyKind::Alarm as u8])?.split_first()? {
        (&ABOUT_PLAIN_FAILURE, []) => Some(None),
        (&ABOUT_NAMED_FAILURE, name) => std::str::from_utf8(name).ok().map(Some),
        _ => None,
    }
}

/// The full key of what is kept of the last failure of an alarm; none for the plain one.
#[must_use]
pub fn failure_key(name: Option<&str>) -> Vec<u8> {
    match name {
        None => vec![KeyKind::Alarm as u8, ABOUT_PLAIN_FAILURE],
        Some(name) => [&[KeyKind::Alarm as u8, ABOUT_NAMED_FAILURE], name.as_bytes()].concat(),
    }
}

/// What is kept of an alarm that was abandoned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastFailure {
    /// When the alarm was asked for.
    pub scheduled: Timestamp,
    /// When it was abandoned.
    pub at: Timestamp,
    /// Attempts that failed.
    pub attempts: u32,
    /// What the last attempt said, cut to 512 bytes.
    pub text: String,
}

impl LastFailure {
    /// Appends the value of its entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.scheduled.0);
        put_varint(out, self.at.0);
        put_varint(out, u64::from(self.attempts));
        put_bytes(out, self.text.as_bytes());
    }

    /// Reads the value of its entry.
    pub fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(value);
        let scheduled = Timestamp(cursor.varint()?);
        let at = Timestamp(cursor.varint()?);
        let attempts = cursor.varint_u32()?;
        let text = std::str::from_utf8(cursor.bytes(FAILURE_TEXT_BYTES_MAX)?)
            .map_err(|_| Malformed("a failure's text is not UTF-8"))?;
        cursor.finish()?;
        Ok(Self { scheduled, at, attempts, text: text.to_owned() })
    }
}

/// Where to look for an alarm that is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint {
    /// When it is due.
    pub due: Timestamp,
    /// Whose it is.
    pub address: Address,
    /// The generation of its setting.
    pub generation: Lsn,
    /// The alarm's name; none for the plain one.
    pub name: Option<Box<str>>,
}

/// Bytes of a hint in front of the name.
const HINT_BYTES: usize = 8 + Address::BYTES + 8 + 1;

impl Hint {
    /// The hint of an alarm as it stands.
    #[must_use]
    pub fn of(alarm: &Alarm, address: Address, name: Option<&str>) -> Self {
        let name = name.map(Box::from);
        Self { due: alarm.due, address, generation: alarm.generation, name }
    }

    /// The hint for an entry, if that is a named alarm.
    #[must_use]
    pub fn of_entry(address: Address, key: &[u8], value: &[u8]) -> Option<Self> {
        let name = name_in_key(key)?;
        Some(Self::of(&decode_entry(value).ok()?, address, Some(name)))
    }

    /// Whether the object's alarm of that name is the one meant.
    #[must_use]
    pub fn means(&self, alarm: &Alarm) -> bool {
        self.due == alarm.due && self.generation == alarm.generation
    }

    /// The key in a run.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let name = self.name.as_deref().map(str::as_bytes);
        let mut key = Vec::with_capacity(HINT_BYTES + name.map_or(0, <[u8]>::len));
        key.extend_from_slice(&self.due.0.to_be_bytes());
        key.extend_from_slice(&self.address.to_bytes());
        key.extend_from_slice(&self.generation.0.to_be_bytes());
        key.push(if name.is_some() { NAMED } else { PLAIN });
        key.extend_from_slice(name.unwrap_or_default());
        key
    }

    /// Reads a key of a run.
    pub fn decode(key: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(key);
        let due = Timestamp(u64::from_be_bytes(cursor.array()?));
        let address = cursor.take(Address::BYTES)?;
        let address = Address::from_bytes(address).ok_or(Malformed("cut short"))?;
        let generation = Lsn(u64::from_be_bytes(cursor.array()?));
        let name = match cursor.u8()? {
            PLAIN => {
                cursor.finish()?;
                None
            }
            NAMED => {
                let name = std::str::from_utf8(cursor.rest());
                let name = name.map_err(|_| Malformed("an alarm's name is not UTF-8"))?;
                if name.len() > NAME_BYTES_MAX {
                    return Err(Malformed("length beyond its limit"));
                }
                Some(Box::from(name))
            }
            _ => return Err(Malformed("a hint of neither a plain nor a named alarm")),
        };
        Ok(Self { due, address, generation, name })
    }
}

/// Whether the value of a hint says that it is there; a tombstone says that it is not.
pub fn hint_is_set(value: &[u8]) -> Result<bool, Malformed> {
    match value {
        HINT => Ok(true),
        HINT_TOMBSTONE => Ok(false),
        _ => Err(Malformed("neither a hint nor a tombstone")),
    }
}

/// What every hint that is due by `time` is below.
#[must_use]
pub fn behind_due(time: Timestamp) -> Vec<u8> {
    match time.0.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => vec![0xFF; HINT_BYTES + 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{NamespaceNumber, ShortId};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn alarm() -> impl Strategy<Value = Alarm> {
        any::<(u64, u64, u64, u32, u32, u32)>().prop_map(|of| Alarm {
            time: Timestamp(of.0),
            due: Timestamp(of.1),
            generation: Lsn(of.2),
            counted: of.3,
            uncounted: of.4,
            backoff: of.5,
        })
    }

    fn hint() -> impl Strategy<Value = Hint> {
        let name = proptest::option::of(".{0,9}");
        (any::<(u64, u32, [u8; 16], u64)>(), name).prop_map(|(of, name)| Hint {
            due: Timestamp(of.0),
            address: Address { namespace: NamespaceNumber(of.1), id: ShortId(of.2) },
            generation: Lsn(of.3),
            name: name.map(String::into_boxed_str),
        })
    }

    proptest! {
        #[test]
        fn alarms_hints_and_failures_survive_encoding(
            alarm in alarm(), near in any::<u64>(), hint in hint(), text in ".{0,40}"
        ) {
            let mut bytes = Vec::new();
            encode_alarm(&alarm, Lsn(near), &mut bytes);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(decode_alarm(Lsn(near), &mut cursor), Ok(alarm));
            prop_assert!(cursor.is_empty());
            prop_assert_eq!(decode_entry(&entry_of(&alarm)), Ok(alarm));
            let key = hint.encode();
            prop_assert!(key < behind_due(hint.due));
            prop_assert_eq!(Hint::decode(&key), Ok(hint));
            let failure = LastFailure { scheduled: alarm.time, at: alarm.due, attempts: 7, text };
            bytes.clear();
            failure.encode(&mut bytes);
            prop_assert_eq!(LastFailure::decode(&bytes), Ok(failure));
            prop_assert!(LastFailure::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn no_hint_has_a_name_beyond_its_limit(hint in hint(), beyond in 0..2usize) {
            let name = Some("n".repeat(NAME_BYTES_MAX + beyond).into_boxed_str());
            prop_assert_eq!(Hint::decode(&Hint { name, ..hint }.encode()).is_ok(), beyond == 0);
        }

        #[test]
        fn hints_order_as_their_keys(one in hint(), other in hint()) {
            prop_assert_eq!(one.cmp(&other), one.encode().cmp(&other.encode()));
        }

        #[test]
        fn any_bytes_decode_to_what_encodes_back_or_fail(bytes in vec(any::<u8>(), 0..60)) {
            if let Ok(hint) = Hint::decode(&bytes) {
                prop_assert_eq!(hint.encode(), bytes.clone());
            }
            if let Ok(alarm) = decode_entry(&bytes) {
                prop_assert_eq!(entry_of(&alarm), bytes.clone());
            }
            if let Ok(failure) = LastFailure::decode(&bytes) {
                let mut again = Vec::new();
                failure.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn entries_of_an_object_are_told_apart() {
        assert_eq!(name_in_key(&alarm_key("")), Some(""));
        assert_eq!(name_in_key(&alarm_key("night")), Some("night"));
        assert_eq!(name_in_key(&failure_key(None)), None);
        assert_eq!(name_in_key(&failure_key(Some("night"))), None);
        assert_eq!(failed_in_key(&failure_key(None)), Some(None));
        assert_eq!(failed_in_key(&failure_key(Some("night"))), Some(Some("night")));
        assert_eq!(failed_in_key(&alarm_key("night")), None);
        let within = |key: Vec<u8>| FAILURE_KEYS[0] <= &key[..] && &key[..] < FAILURE_KEYS[1];
        assert!(within(failure_key(None)) && within(failure_key(Some("\u{10FFFF}"))));
        assert!(!within(alarm_key("\u{10FFFF}")));
        assert!(alarm_key("\u{10FFFF}").as_slice() < ALARM_KEYS[1]);
        assert!(hint_is_set(HINT).unwrap() && !hint_is_set(HINT_TOMBSTONE).unwrap());
        assert!(hint_is_set(&[1]).is_err());
    }
}
