//! How typed values become bytes and come back.

use crate::error::{Error, Result};
use crate::ids::Codec;
use crate::store::value::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::fmt::Display;

/// What writes a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    #[cfg(feature = "json")]
    Json,
    #[cfg(feature = "msgpack")]
    MessagePack,
}

impl Encoding {
    /// What is stored beside the bytes.
    pub fn codec(self) -> Codec {
        match self {
            #[cfg(feature = "json")]
            Self::Json => Codec::Json,
            #[cfg(feature = "msgpack")]
            Self::MessagePack => Codec::MessagePack,
        }
    }

    pub fn encode<T: Serialize>(self, value: &T) -> Result<Vec<u8>> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => serde_json::to_vec(value).map_err(|cause| refused(&cause)),
            #[cfg(feature = "msgpack")]
            Self::MessagePack => rmp_serde::to_vec_named(value).map_err(|cause| refused(&cause)),
        }
    }
}

fn refused(cause: &dyn Display) -> Error {
    Error::invalid("value.encode", format!("a value cannot be encoded: {cause}"))
}

/// The value in the bytes, read as their codec says.
pub(super) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T> {
    let malformed = |why: &str| {
        let wanted = type_name::<T>();
        Error::invalid("value.decode", format!("a value is not of the type {wanted}: {why}"))
    };
    match value.codec() {
        #[cfg(feature = "json")]
        Codec::Json => {
            serde_json::from_slice(value).map_err(|cause| malformed(&json_fault(&cause)))
        }
        #[cfg(feature = "msgpack")]
        Codec::MessagePack => {
            rmp_serde::from_slice(value).map_err(|cause| malformed(message_pack_fault(&cause)))
        }
        codec => Err(malformed(&format!("nothing here reads the codec {codec:?}"))),
    }
}

/// What is wrong and where. The cause's own words repeat what it found, which is a part of the
/// value.
#[cfg(feature = "json")]
fn json_fault(cause: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match cause.classify() {
        Category::Io => "it cannot be read",
        Category::Syntax => "it is no JSON",
        Category::Data => "something in it is of another type, or missing",
        Category::Eof => "it ends too early",
    };
    format!("{what}, at line {}, column {}", cause.line(), cause.column())
}

/// The same of the other encoding, which knows no place.
#[cfg(feature = "msgpack")]
fn message_pack_fault(cause: &rmp_serde::decode::Error) -> &'static str {
    use rmp_serde::decode::Error as Cause;
    match cause {
        Cause::InvalidMarkerRead(_) | Cause::InvalidDataRead(_) => "it ends too early",
        Cause::Utf8Error(_) => "a text in it is not UTF-8",
        Cause::DepthLimitExceeded => "it is nested too deeply",
        _ => "something in it is of another type, or missing",
    }
}
