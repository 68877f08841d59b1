//! A value of any shape, whatever its codec: what people and programs are shown of it.
//!
//! Invariants:
//!   * What JSON has no word for is an object with one key that begins with `$`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{
    Deserialize, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Value as Json, json};
use std::fmt::{self, Write};

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing, on purpose.
    Null,
    /// Nothing, by omission; also the hole of a sparse array.
    Undefined,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A number of any size, in decimal.
    Big(String),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Items in order.
    List(Vec<Tree>),
    /// Properties in order.
    Object(Vec<(Tree, Tree)>),
    /// Keys of any kind and their values.
    Map(Vec<(Tree, Tree)>),
    /// Items without order.
    Set(Vec<Tree>),
    /// Milliseconds since 1970.
    Date(f64),
    /// A pattern and its flags.
    Pattern(String, String),
    /// Another type, by its name, and what it holds.
    Other(String, Box<Tree>),
}

impl Tree {
    /// Whether it has parts.
    pub fn is_compound(&self) -> bool {
        matches!(self, Self::List(_) | Self::Object(_) | Self::Map(_) | Self::Set(_))
    }

    /// As JSON.
    pub fn json(&self) -> Json {
        let pairs = |pairs: &[(Self, Self)]| -> Vec<Json> {
            pairs.iter().map(|(key, value)| json!([key.json(), value.json()])).collect()
        };
        match self {
            Self::Null => Json::Null,
            Self::Undefined => json!({ "$undefined": true }),
            Self::Bool(truth) => json!(truth),
            Self::Int(number) => match i64::try_from(*number) {
                Ok(number) => json!(number),
                Err(_) => u64::try_from(*number)
                    .map_or_else(|_| json!({ "$bigint": number.to_string() }), |it| json!(it)),
            },
            Self::Float(number) if number.is_finite() => json!(number),
            Self::Float(number) => json!({ "$number": number_text(*number) }),
            Self::Big(digits) => json!({ "$bigint": digits }),
            Self::Text(text) => json!(text),
            Self::Bytes(bytes) => json!({ "$bytes": STANDARD.encode(bytes) }),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Object(entries) => {
                object_json(entries).unwrap_or_else(|| json!({ "$map": pairs(entries) }))
            }
            Self::Map(entries) => json!({ "$map": pairs(entries) }),
            Self::Set(items) => json!({ "$set": items.iter().map(Self::json).collect::<Json>() }),
            Self::Date(millis) => json!({ "$date": date(*millis) }),
            Self::Pattern(pattern, flags) => json!({ "$pattern": [pattern, flags] }),
            Self::Other(name, inner) => json!({ "$type": name, "value": inner.json() }),
        }
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Undefined => out.write_str("undefined"),
            Self::Bool(truth) => write!(out, "{truth}"),
            Self::Int(number) => write!(out, "{number}"),
            Self::Float(number) => out.write_str(&number_text(*number)),
            Self::Big(digits) => write!(out, "{digits}n"),
            Self::Text(text) => write!(out, "{}", json!(text)),
            Self::Bytes(bytes) => write!(out, "Bytes({})", hex(bytes)),
            Self::List(items) => write_items(out, "[", items, "]"),
            Self::Object(entries) => write_pairs(out, "{", entries, ": "),
            Self::Map(entries) => {
                write_pairs(out, &format!("Map({}) {{", entries.len()), entries, " => ")
            }
            Self::Set(items) => write_items(out, &format!("Set({}) {{", items.len()), items, "}"),
            Self::Date(millis) => write!(out, "Date({})", date(*millis)),
            Self::Pattern(pattern, flags) => write!(out, "/{pattern}/{flags}"),
            Self::Other(name, inner) => write!(out, "{name}({inner})"),
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        out.write_str(&text)
    }
}

/// A plain JSON object, if all keys are text and none would be misread.
fn object_json(entries: &[(Tree, Tree)]) -> Option<Json> {
    let mut object = serde_json::Map::new();
    for (key, value) in entries {
        let Tree::Text(key) = key else { return None };
        if key.starts_with('$') || object.insert(key.clone(), value.json()).is_some() {
            return None;
        }
    }
    Some(Json::Object(object))
}

fn write_items(out: &mut String, open: &str, items: &[Tree], close: &str) -> fmt::Result {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        item.write(out)?;
    }
    out.push_str(close);
    Ok(())
}

fn write_pairs(out: &mut String, open: &str, pairs: &[(Tree, Tree)], sign: &str) -> fmt::Result {
    out.push_str(open);
    for (index, (key, value)) in pairs.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        key.write(out)?;
        out.push_str(sign);
        value.write(out)?;
    }
    out.push('}');
    Ok(())
}

fn number_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    number.to_string()
}

fn date(millis: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range is no date below")]
    let whole = millis as i64;
    let at = if millis.is_finite() { jiff::Timestamp::from_millisecond(whole).ok() } else { None };
    at.map_or_else(|| "invalid".to_owned(), |at| at.to_string())
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes as base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Int(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Int(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Tree, E> {
        Ok(Tree::Int(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Tree, E> {
        Ok(i128::try_from(number).map_or_else(|_| Tree::Big(number.to_string()), Tree::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(bytes.to_vec()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        Tree::deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        Ok(Tree::Other("Extension".to_owned(), Box::new(Tree::deserialize(inner)?)))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Tree, A::Error> {
        let (_, variant) = access.variant::<serde::de::IgnoredAny>()?;
        Ok(Tree::Other("Tag".to_owned(), Box::new(variant.newtype_variant()?)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Shape)
    }
}
