//! How typed values become bytes and come back.

use crate::error::{Error, Result};
use crate::ids::Codec;
use crate::store::value::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;
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
    let malformed = |cause: &dyn Display| {
        Error::invalid("value.decode", format!("a value is not of the type asked for: {cause}"))
    };
    match value.codec() {
        #[cfg(feature = "json")]
        Codec::Json => serde_json::from_slice(value).map_err(|cause| malformed(&cause)),
        #[cfg(feature = "msgpack")]
        Codec::MessagePack => rmp_serde::from_slice(value).map_err(|cause| malformed(&cause)),
        codec => Err(malformed(&format!("nothing here reads the codec {codec:?}"))),
    }
}
