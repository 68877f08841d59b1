//! Keys, values and entries in words, for whoever looks at bytes.
//!
//! Invariants:
//!   * What does not decode is shown as the bytes that it is.
//!   * No line is longer than [`LINE_BYTES_MAX`].

use crate::format::alarm::Hint;
use crate::format::entry::{DirectoryKey, Head, PageEntry};
use crate::format::object_name::ObjectName;
use crate::format::page::PageItem;
use crate::format::record::Operation;
use crate::format::run::RunUse;
use crate::ids::{Address, Codec, KeyKind};
use crate::names::FileName;

/// Bytes of a line about one operation or entry.
const LINE_BYTES_MAX: usize = 160;

/// The beginning of a long line.
fn cut(mut what: String) -> String {
    what.truncate(what.floor_char_boundary(LINE_BYTES_MAX));
    what
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes[..bytes.len().min(LINE_BYTES_MAX)].escape_ascii())
}

/// An object, by the numbers that the files have.
pub(super) fn called(address: Address) -> String {
    format!("{}/{}", address.namespace, address.id)
}

/// A full key: its kind, and what is behind it.
pub(super) fn key(full: &[u8]) -> String {
    let Some((first, rest)) = full.split_first() else { return "the first key".to_owned() };
    let kind = match KeyKind::from_byte(*first) {
        Some(KeyKind::User) => "key",
        Some(KeyKind::Meta) => "own key",
        Some(KeyKind::Alarm) => "alarm",
        Some(KeyKind::Socket) => "attachment",
        Some(KeyKind::Sql) => "page of SQL",
        None => return quoted(full),
    };
    format!("{kind} {}", quoted(rest))
}

fn value(codec: Codec, value: &[u8]) -> String {
    let codec = format!("{codec:?}").to_lowercase();
    format!("{codec}, {} B, {}", value.len(), quoted(value))
}

/// An entry of a page.
pub(super) fn item(full: &[u8], item: &PageItem<'_>) -> String {
    cut(match item {
        PageItem::Value { codec, value: held } => {
            format!("{}: {}", key(full), value(*codec, held))
        }
        PageItem::Deleted => format!("{}: deleted", key(full)),
    })
}

/// An operation of a commit.
pub(super) fn operation(operation: &Operation<'_>) -> String {
    cut(match operation {
        Operation::Put { key: full, codec, value: put } => {
            format!("put {}: {}", key(full), value(*codec, put))
        }
        Operation::Delete { key: full } => format!("delete {}", key(full)),
        Operation::DeleteRange { start, end } => {
            format!("delete from {} to before {}", key(start), key(end))
        }
        Operation::DeleteAll { keep_alarms: true } => "delete all but alarms".to_owned(),
        Operation::DeleteAll { .. } => "delete all".to_owned(),
        Operation::SetAlarm(alarm) => format!("set the alarm: {alarm:?}"),
        Operation::ClearAlarm => "clear the alarm".to_owned(),
        Operation::Restored(from) => {
            format!("restore to {} of object {}", from.at.short(), called(from.from))
        }
        Operation::Adopt(adoption) => format!("adopt pages of life {}", adoption.life),
    })
}

/// A key of a run.
pub(super) fn run_key(usage: RunUse, full: &[u8]) -> String {
    let known = match usage {
        RunUse::Directory => DirectoryKey::parse(full).ok().map(|it| match it {
            DirectoryKey::Head(address) => format!("head of {}", called(address)),
            DirectoryKey::Page(address, life, fence) => {
                format!("page of {}, life {life}, from {}", called(address), key(fence))
            }
        }),
        RunUse::Names => Address::from_bytes(full).map(called),
        RunUse::Alarms => Hint::decode(full).ok().map(|hint| {
            let name = hint.name.as_deref().map(|name| format!(" {name:?}")).unwrap_or_default();
            format!("alarm{name} of {}, due {}", called(hint.address), hint.due.0)
        }),
        RunUse::History => {
            Address::from_bytes(full).map(|it| format!("history from {}", called(it)))
        }
    };
    cut(known.unwrap_or_else(|| quoted(full)))
}

/// An entry of a run.
pub(super) fn entry(usage: RunUse, full: &[u8], value: &[u8]) -> String {
    let known = match (usage, DirectoryKey::parse(full)) {
        (RunUse::Directory, Ok(DirectoryKey::Head(_))) => {
            Head::decode(value).ok().map(|it| head(&it))
        }
        (RunUse::Directory, Ok(DirectoryKey::Page(..))) => match PageEntry::decode_value(value) {
            Ok(Some(it)) => Some(pages(&it)),
            Ok(None) => Some("gone".to_owned()),
            Err(_) => None,
        },
        (RunUse::Names, _) => ObjectName::decode(value).ok().map(|own| format!("{:?}", own.name)),
        _ => None,
    };
    let known = known.unwrap_or_else(|| format!("{} B", value.len()));
    cut(format!("{}: {known}", run_key(usage, full)))
}

fn head(head: &Head) -> String {
    if head.deleted {
        return format!("deleted at {}", head.last_lsn.short());
    }
    let mut what = format!("{} keys, last commit {}", head.count, head.last_lsn.short());
    if head.alarm.is_some() {
        what.push_str(", an alarm");
    }
    if head.alarm_lost || head.marks_lost {
        what.push_str(", the head before it lost");
    }
    if let Some(entry) = &head.page {
        what.push_str(", ");
        what.push_str(&pages(entry));
    }
    what
}

/// Where the parts of a page are.
fn pages(entry: &PageEntry) -> String {
    let part = |at: &crate::format::entry::PageLocation| {
        format!("{}:{}+{}", FileName::Segment(at.file), at.offset, at.bytes)
    };
    let parts: Vec<_> = entry.parts().map(|it| part(&it.location)).collect();
    let lost = if entry.base.is_none() { "lost base, " } else { "" };
    format!("{lost}at {}", parts.join(", "))
}
