//! What a commit changed, operation by operation.

use super::history::{Namer, RestoredFrom};
use super::value::Value;
use crate::alarm::Alarm;
use crate::disk::bytes::SharedBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Malformed;
use crate::format::alarm::{decode_entry, name_in_key};
use crate::format::record::Operation;
use crate::ids::{Address, Codec, KeyKind};
use crate::object::commits::PastCommit;

/// One change of a commit. Names of objects, attachments and other words of the store are not told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A key got a value.
    Put {
        /// The key.
        key: Value,
        /// The value.
        value: Value,
    },
    /// A key lost its value, there or not.
    Delete {
        /// The key.
        key: Value,
    },
    /// Keys from `start` on lost their values.
    DeleteRange {
        /// The first.
        start: Value,
        /// The key behind the last; none where it went to the end.
        end: Option<Value>,
    },
    /// Everything went.
    DeleteAll {
        /// Whether alarms stayed.
        keeps_alarms: bool,
    },
    /// Everything but the plain alarm was replaced, by more than a commit can say: what by, the
    /// difference between the moments before and after it tells.
    Replaced {
        /// How many keys there were then.
        keys: u64,
    },
    /// An alarm was set, or moved to its next attempt.
    SetAlarm {
        /// Its name; none for the plain one.
        name: Option<String>,
        /// Its state from then on.
        alarm: Alarm,
    },
    /// An alarm was cleared, there or not.
    ClearAlarm {
        /// Its name; none for the plain one.
        name: Option<String>,
    },
    /// The commit is a restoration: what else it says makes the object what one was before.
    Restored(RestoredFrom),
}

impl Change {
    /// What a commit of the object at `address` changed.
    pub(super) fn all_of(
        commit: &PastCommit<'_>,
        address: Address,
        namer: &Namer,
    ) -> Result<Vec<Self>> {
        let mut changes = Vec::new();
        for operation in commit.operations() {
            let change = match operation.map_err(damaged)? {
                Operation::Restored(it) => Some(Self::Restored(namer.restored(address, it))),
                operation => Self::of(&operation).map_err(damaged)?,
            };
            changes.extend(change);
        }
        Ok(changes)
    }

    /// What an operation changed, as far as users know of it.
    fn of(operation: &Operation<'_>) -> Result<Option<Self>, Malformed> {
        let is_user = |full: &[u8]| full.first() == Some(&(KeyKind::User as u8));
        let owned = |bytes: &[u8]| Value::new(Codec::Raw, SharedBytes::from(bytes));
        let key = |full: &[u8]| owned(full.get(1..).unwrap_or_default());
        Ok(match *operation {
            Operation::Put { key: full, codec, value } if is_user(full) => {
                let value = Value::new(codec, SharedBytes::from(value));
                Some(Self::Put { key: key(full), value })
            }
            Operation::Put { key, value, .. } => match name_in_key(key) {
                Some(name) => {
                    let (name, alarm) = (Some(name.to_owned()), decode_entry(value)?);
                    Some(Self::SetAlarm { name, alarm })
                }
                None => None,
            },
            Operation::Delete { key: full } if is_user(full) => {
                Some(Self::Delete { key: key(full) })
            }
            Operation::Delete { key } => {
                name_in_key(key).map(|name| Self::ClearAlarm { name: Some(name.to_owned()) })
            }
            Operation::DeleteRange { start, end } if is_user(start) => {
                let end = is_user(end).then(|| key(end));
                Some(Self::DeleteRange { start: key(start), end })
            }
            Operation::DeleteRange { .. } | Operation::Restored(_) => None,
            Operation::DeleteAll { keep_alarms } => {
                Some(Self::DeleteAll { keeps_alarms: keep_alarms })
            }
            Operation::Adopt(adoption) => Some(Self::Replaced { keys: adoption.count }),
            Operation::SetAlarm(alarm) => Some(Self::SetAlarm { name: None, alarm }),
            Operation::ClearAlarm => Some(Self::ClearAlarm { name: None }),
        })
    }
}

#[cold]
fn damaged(fault: Malformed) -> Error {
    Error::new(ErrorKind::Corrupt, "history.commit", fault.0)
}
