//! The text form: a line for each item, each a JSON object, for people and for tools that compare
//! lines.
//!
//! Invariants:
//!   * A line has no line feed inside.
//!   * Of one item there is one line; other spellings of it are read too.

use super::json::{Fields, from_hex, parse, put_bytes, put_hex, put_text};
use super::{EXPORT_VERSION, Item, check};
use crate::alarm::Alarm;
use crate::format::Malformed;
use crate::format::alarm::LastFailure;
use crate::ids::{Codec, KeyKind, Timestamp};
use crate::limits::{FAILURE_TEXT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Bytes of a line, without its end: the longest value in digits, and room for everything else.
pub const LINE_BYTES_MAX: usize = 2 * (VALUE_BYTES_MAX + KEY_BYTES_MAX) + 16 * 1024;

const CODECS: [(Codec, &str); 5] = [
    (Codec::Raw, "raw"),
    (Codec::Json, "json"),
    (Codec::MessagePack, "msgpack"),
    (Codec::Cbor, "cbor"),
    (Codec::V8, "v8"),
];
const KINDS: [(KeyKind, &str); 3] =
    [(KeyKind::User, "key"), (KeyKind::Socket, "socket"), (KeyKind::Sql, "sql")];

/// The first line.
#[must_use]
pub fn first_line() -> String {
    format!("{{\"dostore\":\"export\",\"version\":{EXPORT_VERSION}}}")
}

/// Reads the first line: the version.
pub fn decode_first(line: &[u8]) -> Result<u64, Malformed> {
    const OTHER: Malformed = Malformed("not the first line of an export");
    let mut fields = parse(line).map_err(|_| OTHER)?;
    if fields.text("dostore")?.as_deref() != Some("export") {
        return Err(OTHER);
    }
    fields.number("version")?.ok_or(OTHER)
}

/// Appends an item's line, without its end.
pub fn encode(item: &Item<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    match item {
        Item::Namespace(name) => text_field(out, "namespace", name),
        Item::Object { id, name } => {
            out.extend_from_slice(b"\"object\":\"");
            put_hex(out, id);
            out.push(b'"');
            if let Some(name) = name {
                out.push(b',');
                text_field(out, "name", name);
            }
        }
        Item::UserVersion(version) => number_field(out, "version", *version),
        Item::Entry { kind, key, codec, value } => {
            put_name(out, KINDS.iter().find(|known| known.0 == *kind).map_or("", |known| known.1));
            put_bytes(out, key);
            out.push(b',');
            if *codec != Codec::Raw {
                let name = CODECS.iter().find(|known| known.0 == *codec);
                text_field(out, "codec", name.map_or("", |known| known.1));
                out.push(b',');
            }
            put_name(out, "value");
            put_bytes(out, value);
        }
        Item::Alarm { name, alarm } => {
            name_field(out, "alarm", name.as_deref());
            further(out, "time", alarm.time.0);
            further(out, "due", alarm.due.0);
            further(out, "counted", u64::from(alarm.counted));
            further(out, "uncounted", u64::from(alarm.uncounted));
            further(out, "backoff", u64::from(alarm.backoff));
        }
        Item::Failure { name, failure } => {
            name_field(out, "failed", name.as_deref());
            further(out, "scheduled", failure.scheduled.0);
            further(out, "at", failure.at.0);
            further(out, "attempts", u64::from(failure.attempts));
            out.push(b',');
            text_field(out, "text", &failure.text);
        }
        Item::EndObject { items } => end(out, "object", "items", *items),
        Item::End { objects } => end(out, "export", "objects", *objects),
    }
    out.push(b'}');
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    put_text(out, name);
    out.push(b':');
}

fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    put_name(out, name);
    put_text(out, text);
}

fn number_field(out: &mut Vec<u8>, name: &str, number: u64) {
    put_name(out, name);
    out.extend_from_slice(number.to_string().as_bytes());
}

fn further(out: &mut Vec<u8>, name: &str, number: u64) {
    out.push(b',');
    number_field(out, name, number);
}

fn name_field(out: &mut Vec<u8>, field: &str, name: Option<&str>) {
    put_name(out, field);
    match name {
        Some(name) => put_text(out, name),
        None => out.extend_from_slice(b"null"),
    }
}

fn end(out: &mut Vec<u8>, of: &str, counted: &str, count: Option<u64>) {
    text_field(out, "end", of);
    if let Some(count) = count {
        further(out, counted, count);
    }
}

/// Reads a line.
pub fn decode(line: &[u8]) -> Result<Item<'static>, Malformed> {
    let mut fields = parse(line)?;
    let item = item(&mut fields)?;
    fields.finish()?;
    check(&item)?;
    Ok(item)
}

fn item(fields: &mut Fields) -> Result<Item<'static>, Malformed> {
    if let Some(end) = fields.word("end")? {
        return match &*end {
            "object" => Ok(Item::EndObject { items: fields.number("items")? }),
            "export" => Ok(Item::End { objects: fields.number("objects")? }),
            _ => Err(Malformed("the end of neither an object nor the export")),
        };
    }
    if let Some(name) = fields.word("namespace")? {
        return Ok(Item::Namespace(name.into()));
    }
    if let Some(digits) = fields.word("object")? {
        let id = from_hex(digits.as_bytes())?.try_into();
        let id = id.map_err(|_| Malformed("an object id is 64 hexadecimal digits"))?;
        return Ok(Item::Object { id, name: fields.text("name")?.map(Into::into) });
    }
    if let Some(version) = fields.number("version")? {
        return Ok(Item::UserVersion(version));
    }
    for (kind, name) in KINDS {
        if let Some(key) = fields.bytes(name)? {
            return entry(kind, key, fields);
        }
    }
    // Null is a name here: that of the plain alarm.
    if fields.has("alarm") {
        let name = fields.text("alarm")?;
        return alarm(name, fields);
    }
    if fields.has("failed") {
        let name = fields.text("failed")?;
        return failure(name, fields);
    }
    Err(Malformed("a line that says nothing an export says"))
}

fn entry(kind: KeyKind, key: Vec<u8>, fields: &mut Fields) -> Result<Item<'static>, Malformed> {
    let codec = match fields.text("codec")? {
        None => Codec::Raw,
        Some(name) => {
            let known = CODECS.iter().find(|known| known.1 == name);
            known.ok_or(Malformed("an unknown codec"))?.0
        }
    };
    let value = fields.bytes("value")?.ok_or(Malformed("a key without a value"))?;
    Ok(Item::Entry { kind, key: key.into(), codec, value: value.into() })
}

fn needed(fields: &mut Fields, field: &str) -> Result<Timestamp, Malformed> {
    Ok(Timestamp(fields.number(field)?.ok_or(Malformed("an alarm without its time"))?))
}

fn count(fields: &mut Fields, field: &str) -> Result<u32, Malformed> {
    let count = fields.number(field)?.unwrap_or(0);
    u32::try_from(count).map_err(|_| Malformed("a count beyond its limit"))
}

/// What is not said of an alarm is as in one that was just set.
fn alarm(name: Option<String>, fields: &mut Fields) -> Result<Item<'static>, Malformed> {
    let time = needed(fields, "time")?;
    let alarm = Alarm {
        time,
        due: fields.number("due")?.map_or(time, Timestamp),
        counted: count(fields, "counted")?,
        uncounted: count(fields, "uncounted")?,
        backoff: count(fields, "backoff")?,
        ..Alarm::default()
    };
    Ok(Item::Alarm { name: name.map(Into::into), alarm })
}

fn failure(name: Option<String>, fields: &mut Fields) -> Result<Item<'static>, Malformed> {
    let failure = LastFailure {
        scheduled: needed(fields, "scheduled")?,
        at: needed(fields, "at")?,
        attempts: count(fields, "attempts")?,
        text: fields.text("text")?.unwrap_or_default(),
    };
    if failure.text.len() > FAILURE_TEXT_BYTES_MAX {
        return Err(Malformed("the text of a failure is beyond its limit"));
    }
    Ok(Item::Failure { name: name.map(Into::into), failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_written_by_hand_may_say_less_and_stand_in_any_order() {
        let read = |line: &str| decode(line.as_bytes());
        let alarm = Alarm { time: Timestamp(5), due: Timestamp(5), ..Alarm::default() };
        assert_eq!(read(r#"{"time":5,"alarm":null}"#), Ok(Item::Alarm { name: None, alarm }));
        let entry = read(r#" { "value" : "v" , "key" : {"hex":"00"} } "#);
        let (key, value) = (vec![0].into(), b"v"[..].into());
        assert_eq!(entry, Ok(Item::Entry { kind: KeyKind::User, key, codec: Codec::Raw, value }));
        assert_eq!(read(r#"{"end":"object"}"#), Ok(Item::EndObject { items: None }));
    }

    #[test]
    fn lines_that_say_too_much_or_too_little_are_refused() {
        let id = "00".repeat(32);
        for line in [
            r#"{"key":"k"}"#.to_owned(),
            r#"{"value":"v"}"#.to_owned(),
            r#"{"key":"k","value":"v","x":1}"#.to_owned(),
            r#"{"key":"k","value":1}"#.to_owned(),
            r#"{"key":null,"value":"v"}"#.to_owned(),
            r#"{"key":"k","codec":"xml","value":"v"}"#.to_owned(),
            r#"{"key":"k","socket":"s","value":"v"}"#.to_owned(),
            r#"{"alarm":null}"#.to_owned(),
            r#"{"alarm":null,"time":1,"counted":4294967296}"#.to_owned(),
            r#"{"failed":"n","scheduled":1}"#.to_owned(),
            format!(r#"{{"failed":null,"scheduled":1,"at":1,"text":"{}"}}"#, "x".repeat(513)),
            format!(r#"{{"object":"{}"}}"#, &id[1..]),
            format!(r#"{{"object":"{id}00"}}"#),
            format!(r#"{{"object":"{id}","name":7}}"#),
            r#"{"end":"world"}"#.to_owned(),
            r#"{"end":null,"namespace":"x"}"#.to_owned(),
            r#"{"namespace":null,"key":"k","value":"v"}"#.to_owned(),
            r#"{"object":null,"alarm":null,"time":5}"#.to_owned(),
            "{}".to_owned(),
        ] {
            assert!(decode(line.as_bytes()).is_err(), "{line}");
        }
        assert_eq!(decode_first(first_line().as_bytes()), Ok(u64::from(EXPORT_VERSION)));
        for line in ["", "{}", r#"{"dostore":"export"}"#, r#"{"dostore":"x","version":1}"#] {
            assert!(decode_first(line.as_bytes()).is_err(), "{line}");
        }
    }
}
