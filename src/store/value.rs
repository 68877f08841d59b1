//! Keys and values as callers get them, and the full keys below.
//!
//! Invariants:
//!   * The bytes of a value do not change, and are shown by no `Debug`.

use crate::disk::bytes::SharedBytes;
use crate::ids::{Codec, KeyKind};
use std::fmt;
use std::ops::Deref;

/// A value, or a key: bytes that are shared, not copied. Cloning is cheap.
///
/// Holds the memory that it lies in: a record, a page, or a mapped file.
#[derive(Clone)]
pub struct Value {
    bytes: SharedBytes,
    codec: Codec,
}

impl Value {
    pub(crate) fn new(codec: Codec, bytes: SharedBytes) -> Self {
        Self { bytes, codec }
    }

    /// The user's key in a full key.
    pub(crate) fn of_key(full: SharedBytes) -> Self {
        let length = full.len();
        let bytes = full.into_slice(1.min(length)..length);
        Self::new(Codec::Raw, bytes.unwrap_or_else(|| SharedBytes::from(&[][..])))
    }

    pub(crate) fn empty() -> Self {
        Self::new(Codec::Raw, SharedBytes::from(&[][..]))
    }

    /// How tools may read the bytes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Value {
    /// Says how long it is; never what it holds.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Value({} bytes)", self.len())
    }
}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

const INLINE_BYTES: usize = 64;

/// A full key made from a user's key, without allocation for short ones.
pub(crate) enum FullKey {
    Inline([u8; INLINE_BYTES], usize),
    Heap(Vec<u8>),
}

impl FullKey {
    #[inline]
    pub fn user(key: &[u8]) -> Self {
        Self::of(KeyKind::User, key)
    }

    /// The full key of an entry of any kind.
    #[inline]
    pub fn of(kind: KeyKind, key: &[u8]) -> Self {
        let length = key.len() + 1;
        if length <= INLINE_BYTES {
            let mut bytes = [0; INLINE_BYTES];
            bytes[0] = kind as u8;
            bytes[1..length].copy_from_slice(key);
            return Self::Inline(bytes, length);
        }
        Self::Heap([&[kind as u8], key].concat())
    }
}

impl Deref for FullKey {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline(bytes, length) => &bytes[..*length],
            Self::Heap(bytes) => bytes,
        }
    }
}
