//! What goes over the socket: one line with the request, then lines about what comes of it.
//!
//! Invariants:
//!   * A line is one JSON object; no line is longer than [`LINE_BYTES_MAX`].
//!   * Bytes are a text where they are one, else hex digits; each has one way to be said.

use super::{Progress, Refusal, Reply, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::fmt;

/// Bytes of a line: a key and a value in hex digits, and names.
pub const LINE_BYTES_MAX: usize = 2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) + (64 << 10);
/// The version of the protocol.
pub const VERSION: u64 = 1;

/// Bytes of a key or a value. As JSON: a text, or `{"hex":"00ff"}`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    /// How many there are.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Bytes of {}", self.0.len())
    }
}

impl<B: AsRef<[u8]>> From<B> for Bytes {
    fn from(bytes: B) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let quoted = |byte: &u8| match byte {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        };
        let is_short = self.0.iter().map(quoted).sum::<usize>() <= 2 * self.0.len();
        match std::str::from_utf8(&self.0) {
            Ok(text) if is_short => to.serialize_str(text),
            _ => {
                let mut digits = Vec::new();
                crate::format::export::json::put_hex(&mut digits, &self.0);
                Hex { hex: String::from_utf8_lossy(&digits).into_owned() }.serialize(to)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hex {
    hex: String,
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Hex(Hex),
        }
        match Either::deserialize(from)? {
            Either::Text(text) => Ok(Self(text.into_bytes())),
            Either::Hex(Hex { hex }) => {
                let bytes = crate::format::export::json::from_hex(hex.as_bytes());
                bytes.map(Self).map_err(|fault| D::Error::custom(fault.0))
            }
        }
    }
}

/// A line that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// It goes on; more lines follow.
    Progress(Progress),
    /// It is done. The last line.
    Done(Reply),
    /// It was refused, or failed. The last line.
    Error(Refusal),
}

#[cold]
fn malformed(what: impl std::fmt::Display) -> Error {
    Error::invalid("admin.malformed", format!("not a request: {what}"))
}

/// The line of a request.
pub fn encode_request(request: &Request) -> Result<Vec<u8>> {
    let mut line = serde_json::to_value(request).map_err(malformed)?;
    line["dostore"] = json!("admin");
    line["version"] = json!(VERSION);
    encode(&line)
}

/// The request in a line.
pub fn decode_request(line: &[u8]) -> Result<Request> {
    let mut value: Value = serde_json::from_slice(line).map_err(malformed)?;
    let fields = value.as_object_mut().ok_or_else(|| malformed("it is no JSON object"))?;
    if fields.remove("dostore") != Some(json!("admin")) {
        return Err(malformed("it does not say \"dostore\":\"admin\""));
    }
    let version = fields.remove("version");
    if version != Some(json!(VERSION)) {
        let what = format!("this process speaks version {VERSION} of the protocol only");
        return Err(Error::new(ErrorKind::Unsupported, "admin.version", what));
    }
    serde_json::from_value(value).map_err(malformed)
}

/// A value as a line.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value).map_err(malformed)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::admin::{Existing, Target, When, Which};

    const LOBBY: &str = r#"{"namespace":"rooms","object":{"name":"lobby"}}"#;

    fn room(object: Which) -> Target {
        Target { namespace: "rooms".into(), object }
    }

    fn put(value: &[u8]) -> Request {
        let of = room(Which::Name("lobby".into()));
        let (key, value) = ("topic".into(), value.into());
        Request::Put { of, key, value, codec: None, create: false }
    }

    /// Requests and their fields; `LOBBY` stands for an object.
    fn requests() -> Vec<(Request, &'static str)> {
        let of = room(Which::Name("lobby".into()));
        let to = room(Which::Id("ab".into()));
        vec![
            (Request::Stats, r#"{"do":"stats"}"#),
            (Request::Compact, r#"{"do":"compact"}"#),
            (Request::Scrub, r#"{"do":"scrub"}"#),
            (put(b"rust"), r#"{"do":"put","of":LOBBY,"key":"topic","value":"rust"}"#),
            (put(&[0, 0xFF]), r#"{"do":"put","of":LOBBY,"key":"topic","value":{"hex":"00ff"}}"#),
            (
                Request::Restore { of: of.clone(), to: When::Time(5), alarms: true },
                r#"{"do":"restore","of":LOBBY,"to":{"time":5},"alarms":true}"#,
            ),
            (
                Request::Fork { of, at: None, to, alarms: false },
                r#"{"do":"fork","of":LOBBY,"to":{"namespace":"rooms","object":{"id":"ab"}}}"#,
            ),
            (
                Request::Load { namespace: None, existing: Existing::Keep },
                r#"{"do":"load","existing":"keep"}"#,
            ),
        ]
    }

    #[test]
    fn requests_are_read_as_documented_and_as_they_are_written() {
        for (request, text) in requests() {
            let line = text.replacen('{', r#"{"dostore":"admin","version":1,"#, 1);
            let line = line.replace("LOBBY", LOBBY);
            assert_eq!(decode_request(line.as_bytes()).unwrap(), request, "{line}");
            assert_eq!(decode_request(&encode_request(&request).unwrap()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_of_this_version_is_refused() {
        let code = |line: &str| {
            let line = line.replace("LOBBY", LOBBY);
            decode_request(line.as_bytes()).unwrap_err().code()
        };
        for line in [
            "",
            "[]",
            "{}",
            "{\"dostore\":\"export\",\"version\":1,\"do\":\"stats\"}",
            r#"{"dostore":"admin","version":1,"do":"stat"}"#,
            r#"{"dostore":"admin","version":1,"do":"stats"} {}"#,
            r#"{"dostore":"admin","version":1,"do":"load","exisitng":"keep"}"#,
            r#"{"dostore":"admin","version":1,"do":"rm","of":LOBBY,"keys":[{"hex":"0"}]}"#,
        ] {
            assert_eq!(code(line), "admin.malformed", "{line}");
        }
        assert_eq!(code(r#"{"dostore":"admin","version":2,"do":"stats"}"#), "admin.version");
        assert_eq!(code(r#"{"dostore":"admin","do":"stats"}"#), "admin.version");
    }

    #[test]
    fn bytes_of_any_kind_come_back_and_stay_within_a_line() {
        for bytes in [vec![], b"text".to_vec(), vec![0xFF; 9], vec![1; 64], b"a\nb".to_vec()] {
            let text = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap(), Bytes(bytes.clone()));
            assert!(text.len() <= 2 * bytes.len() + 16, "{text}");
        }
    }
}
