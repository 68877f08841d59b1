//! Values for people and programs: by what their codec says, else by what they look like.
//!
//! Invariants:
//!   * What cannot be read as its codec says is shown all the same, as what it looks like.

use super::tree::{Tree, base64, hex};
use super::v8;
use crate::ids::Codec;
use crate::store::value::Value;
use clap::Args;
use serde_json::{Value as Json, json};
use std::fmt::Write;

/// How values are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shown {
    /// By codec, else by what they look like
    #[default]
    Auto,
    /// As JSON, whatever they are
    Json,
    /// As the serialization of V8
    V8,
    /// As text
    Utf8,
    /// As hex digits
    Hex,
    /// As base64
    Base64,
    /// As they are
    Raw,
    /// Not at all
    None,
}

/// The option by which a verb is told how values are shown.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct AsShown {
    /// How values are shown: auto, json, v8, utf8, hex, base64, raw or none
    #[arg(long, value_enum, default_value_t, value_name = "FORM", hide_possible_values = true)]
    pub value: Shown,
}

/// What a value was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON text.
    Json,
    /// `MessagePack`.
    MessagePack,
    /// CBOR.
    Cbor,
    /// V8's structured clone.
    V8,
    /// Text.
    Text,
    /// Bytes of no known form.
    Bytes,
}

impl Form {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "msgpack",
            Self::Cbor => "cbor",
            Self::V8 => "v8",
            Self::Text => "utf8",
            Self::Bytes => "bytes",
        }
    }
}

/// A codec's name.
pub fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Raw => "raw",
        Codec::Json => "json",
        Codec::MessagePack => "msgpack",
        Codec::Cbor => "cbor",
        Codec::V8 => "v8",
    }
}

/// A value, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// As what.
    pub form: Form,
    /// What it says.
    pub tree: Tree,
}

/// Reads a value by its codec, else by what it looks like.
pub fn read(value: &Value) -> Read {
    read_bytes(value.codec(), value)
}

fn read_bytes(codec: Codec, bytes: &[u8]) -> Read {
    let said = match codec {
        Codec::Raw => None,
        Codec::Json => as_form(Form::Json, bytes),
        Codec::MessagePack => as_form(Form::MessagePack, bytes),
        Codec::Cbor => as_form(Form::Cbor, bytes),
        Codec::V8 => as_form(Form::V8, bytes),
    };
    said.unwrap_or_else(|| sniff(bytes))
}

fn as_form(form: Form, bytes: &[u8]) -> Option<Read> {
    let tree = match form {
        Form::Json => serde_json::from_slice(bytes).ok(),
        Form::MessagePack => {
            let mut rest = bytes;
            let tree = rmp_serde::from_read(&mut rest).ok();
            tree.filter(|_| rest.is_empty())
        }
        Form::Cbor => {
            let mut rest = bytes;
            let tree = ciborium::from_reader(&mut rest).ok();
            tree.filter(|_| rest.is_empty())
        }
        Form::V8 => v8::decode(bytes),
        Form::Text => as_text(bytes),
        Form::Bytes => Some(Tree::Bytes(bytes.to_vec())),
    };
    tree.map(|tree| Read { form, tree })
}

/// Text that a terminal can show.
fn as_text(bytes: &[u8]) -> Option<Tree> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_shown = |it: char| !it.is_control() || matches!(it, '\n' | '\t' | '\r');
    text.chars().all(is_shown).then(|| Tree::Text(text.to_owned()))
}

/// What bytes look like. Numbers and words are text, whatever else they might be.
fn sniff(bytes: &[u8]) -> Read {
    if v8::is_likely(bytes)
        && let Some(read) = as_form(Form::V8, bytes)
    {
        return read;
    }
    let is_compound = |read: &Read| read.tree.is_compound();
    let json = || as_form(Form::Json, bytes).filter(is_compound);
    let text = || as_form(Form::Text, bytes);
    let cbor = || as_form(Form::Cbor, bytes).filter(is_compound);
    let pack = || as_form(Form::MessagePack, bytes).filter(is_compound);
    let found = json().or_else(text).or_else(cbor).or_else(pack);
    found.unwrap_or_else(|| Read { form: Form::Bytes, tree: Tree::Bytes(bytes.to_vec()) })
}

impl Shown {
    /// A value on one line, cut to about so many characters.
    pub fn line(self, value: &Value, characters_max: usize) -> String {
        // What would be cut away need not be worked out.
        let head = value.len().min(characters_max);
        let whole = match self {
            Self::None => return String::new(),
            Self::Hex => hex(&value[..head]),
            Self::Base64 => base64(&value[..head]),
            _ => match self.tree(value) {
                Tree::Text(text) => text.escape_debug().to_string().replace("\\\"", "\""),
                Tree::Bytes(bytes) => hex(&bytes[..bytes.len().min(characters_max)]),
                tree => tree.to_string(),
            },
        };
        let mut cut: String = whole.chars().take(characters_max).collect();
        if cut.len() < whole.len() || head < value.len() && whole.len() < value.len() {
            cut.push_str("...");
        }
        cut
    }

    /// A value in full.
    pub fn text(self, value: &Value) -> String {
        match self {
            Self::None => String::new(),
            Self::Hex => hex(value),
            Self::Base64 => base64(value),
            Self::Json => format!("{:#}", self.tree(value).json()),
            _ => match self.tree(value) {
                Tree::Text(text) => text,
                Tree::Bytes(bytes) => dump(&bytes),
                tree => tree.to_string(),
            },
        }
    }

    /// What programs get of a value; nothing where values are not asked for.
    pub fn json(self, value: &Value) -> Option<Json> {
        match self {
            Self::None => None,
            Self::Hex => Some(json!(hex(value))),
            Self::Base64 => Some(json!(base64(value))),
            Self::Raw => Some(json!({ "$bytes": base64(value) })),
            _ => Some(self.tree(value).json()),
        }
    }

    fn tree(self, value: &Value) -> Tree {
        match self {
            Self::V8 => as_form(Form::V8, value).unwrap_or_else(|| read(value)).tree,
            Self::Utf8 => Tree::Text(String::from_utf8_lossy(value).into_owned()),
            _ => read(value).tree,
        }
    }
}

/// Bytes as lines of an offset, hex digits and what of them is ASCII.
pub fn dump(bytes: &[u8]) -> String {
    const LINE: usize = 16;
    let mut text = String::with_capacity(bytes.len() * 5);
    for (number, line) in bytes.chunks(LINE).enumerate() {
        let mut digits = String::new();
        for (index, byte) in line.iter().enumerate() {
            let gap = if index == LINE / 2 { "  " } else { " " };
            let _ = write!(digits, "{gap}{byte:02x}");
        }
        let plain = |byte: &u8| {
            if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }
        };
        let ascii: String = line.iter().map(plain).collect();
        let end = if (number + 1) * LINE < bytes.len() { "\n" } else { "" };
        let _ = write!(text, "{:08x} {digits:<49}  {ascii}{end}", number * LINE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::bytes::SharedBytes;
    use proptest::prelude::*;

    fn value(codec: Codec, bytes: &[u8]) -> Value {
        Value::new(codec, SharedBytes::from(bytes))
    }

    fn raw(bytes: &[u8]) -> (&'static str, String) {
        let value = value(Codec::Raw, bytes);
        (read(&value).form.name(), Shown::Auto.line(&value, 60))
    }

    #[test]
    fn what_no_codec_names_is_known_by_its_looks() {
        let own = |form, text: &str| (form, text.to_owned());
        assert_eq!(raw(b"15"), own("utf8", "15"));
        assert_eq!(raw(b"plain \"text\"\n"), own("utf8", "plain \"text\"\\n"));
        assert_eq!(raw(b"{\"a\":[1,null]}"), own("json", "{\"a\": [1, null]}"));
        assert_eq!(raw(b"\xA1\x61a\x01"), own("cbor", "{\"a\": 1}"));
        assert_eq!(raw(b"\xA1\x61a\xC0\x64now!"), own("cbor", "{\"a\": Tag(\"now!\")}"));
        assert_eq!(raw(b"\x81\xA1a\x01"), own("msgpack", "{\"a\": 1}"));
        assert_eq!(raw(b"\x81\xA1a\xC4\x01\xFF"), own("msgpack", "{\"a\": Bytes(ff)}"));
        assert_eq!(raw(b"\xFF\x0Fo\"\x01aI\x02{\x01"), own("v8", "{\"a\": 1}"));
        assert_eq!(raw(b"\0\x01\xFF"), own("bytes", "0001ff"));
        assert_eq!(raw(b""), own("utf8", ""));
    }

    #[test]
    fn a_codec_that_the_bytes_do_not_keep_to_is_not_believed() {
        let lying = value(Codec::Json, b"not json");
        assert_eq!(read(&lying).form, Form::Text);
        assert_eq!(read(&value(Codec::Json, b"15")).form, Form::Json);
        assert_eq!(read(&value(Codec::Cbor, b"\x18\x2A")).tree, Tree::Int(42));
        assert_eq!(read(&value(Codec::MessagePack, b"\x2A")).tree, Tree::Int(42));
        assert_eq!(read(&value(Codec::V8, b"\xFF\x0FT")).tree, Tree::Bool(true));
    }

    #[test]
    fn each_way_of_showing_is_what_it_says() {
        let bytes = value(Codec::Raw, &[0, b'a', 0xFF]);
        assert_eq!(Shown::Hex.text(&bytes), "0061ff");
        assert_eq!(Shown::Base64.text(&bytes), "AGH/");
        assert_eq!(Shown::Utf8.text(&bytes), "\0a\u{FFFD}");
        assert_eq!(Shown::None.json(&bytes), None);
        assert_eq!(Shown::Json.text(&bytes), "{\n  \"$bytes\": \"AGH/\"\n}");
        let text = Shown::Auto.text(&bytes);
        assert!(text.starts_with("00000000  00 61 ff ") && text.ends_with("  .a."), "{text}");
        assert_eq!(Shown::Auto.line(&value(Codec::Raw, b"abcdef"), 3), "abc...");
        let fewer_than_stored = value(Codec::Cbor, b"\x45\xFF\xFE\xFD\xFC\xFB");
        assert_eq!(Shown::Auto.line(&fewer_than_stored, 10), "fffefdfcfb");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            codec in 0_u8..5,
        ) {
            let value = value(Codec::from_byte(codec).unwrap(), &bytes);
            for shown in [Shown::Auto, Shown::Json, Shown::V8, Shown::Utf8, Shown::Hex] {
                let _ = (shown.line(&value, 10), shown.text(&value), shown.json(&value));
            }
        }
    }
}
