//! Ids of objects: derived from a key and a name or drawn at random, and proven by the key.
//!
//! Invariants:
//!   * The second half of an id authenticates the first: an id that was not made with a namespace's
//!     key is not accepted there, so ids may be handed out and taken back from anywhere.
//!   * The same key and name give the same id, everywhere and always.

use crate::error::{Error, Result};
use crate::ids::{ObjectId, ShortId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

const HALF_BYTES: usize = 16;

/// Makes and checks the ids of one namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NamespaceKey([u8; 32]);

impl fmt::Debug for NamespaceKey {
    /// Shows nothing: who has the key can make ids.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("NamespaceKey")
    }
}

impl NamespaceKey {
    /// The key that a namespace's unique text stands for.
    #[must_use]
    pub fn new(unique_key: &str) -> Self {
        Self(Sha256::digest(unique_key.as_bytes()).into())
    }

    /// A key that was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, to be kept. Who has them can make ids.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What makes its ids.
    #[must_use]
    pub fn maker(&self) -> IdMaker {
        // A key shorter than a block of the hash is one followed by zeros.
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        IdMaker(<Hmac<Sha256> as KeyInit>::new(&block.into()))
    }

    /// The id of the object with this name; the empty name is a name.
    #[must_use]
    pub fn named(&self, name: &str) -> ObjectId {
        self.maker().named(name)
    }

    /// The id of an object without a name, from bytes drawn at random.
    #[must_use]
    pub fn random(&self, first16: [u8; HALF_BYTES]) -> ObjectId {
        self.from_short(ShortId(first16))
    }

    /// The whole id of which this is the identifying half.
    #[must_use]
    pub fn from_short(&self, short: ShortId) -> ObjectId {
        self.maker().from_short(short)
    }

    /// Reads an id of this namespace from its 64 hexadecimal digits, of either case.
    pub fn parse(&self, hex: &str) -> Result<ObjectId> {
        self.maker().parse(hex)
    }
}

/// Makes and checks many ids of one namespace: it has taken in the key, which is half of the work
/// of each.
#[derive(Clone)]
pub struct IdMaker(Hmac<Sha256>);

impl fmt::Debug for IdMaker {
    /// Shows nothing, as the key does.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("IdMaker")
    }
}

impl IdMaker {
    /// The id of the object with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> ObjectId {
        self.from_short(ShortId(self.half(name.as_bytes())))
    }

    /// The whole id of which this is the identifying half.
    #[must_use]
    pub fn from_short(&self, short: ShortId) -> ObjectId {
        let mut id = [0; 2 * HALF_BYTES];
        id[..HALF_BYTES].copy_from_slice(&short.0);
        id[HALF_BYTES..].copy_from_slice(&self.half(&short.0));
        ObjectId(id)
    }

    /// Reads an id from its 64 hexadecimal digits.
    pub fn parse(&self, hex: &str) -> Result<ObjectId> {
        let Some(id) = from_hex(hex) else {
            return Err(Error::invalid("id.malformed", "an object id is 64 hexadecimal digits"));
        };
        let (identifying, proof) = id.split_at(HALF_BYTES);
        // In constant time: how much of a guess was right must not show.
        if self.mac(identifying).verify_truncated_left(proof).is_err() {
            return Err(Error::invalid("id.foreign", "object id is not valid for this namespace"));
        }
        Ok(ObjectId(id))
    }

    fn mac(&self, message: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(message);
        mac
    }

    fn half(&self, message: &[u8]) -> [u8; HALF_BYTES] {
        let whole: [u8; 32] = self.mac(message).finalize().into_bytes().into();
        let mut half = [0; HALF_BYTES];
        half.copy_from_slice(&whole[..HALF_BYTES]);
        half
    }
}

fn from_hex(hex: &str) -> Option<[u8; 2 * HALF_BYTES]> {
    let mut id = [0; 2 * HALF_BYTES];
    if hex.len() != 2 * id.len() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, pair) in id.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: [(&str, &str); 3] = [
        ("name", "3652ef6221834806dc8df802d1d216e27b7d07e0a6b7adf6cfdaeec90f06459a"),
        ("http://foo/", "59002eb8cf872e541722977a258a12d6a93bbe8192b502e1c0cb250aa91af234"),
        ("", "5671fa8c78c77d33f1e2e2613dd33ef021665e44066444f8e9f9af35e972d39d"),
    ];

    #[test]
    fn names_have_the_ids_that_other_runtimes_give_them() {
        let key = NamespaceKey::new("mykey");
        for (name, id) in VECTORS {
            assert_eq!(key.named(name).to_string(), id);
            assert_eq!(key.parse(id).unwrap(), key.named(name));
            assert_eq!(key.parse(&id.to_uppercase()).unwrap(), key.named(name));
            assert_eq!(key.from_short(key.named(name).short()), key.named(name));
        }
    }

    #[test]
    fn an_id_of_another_namespace_or_with_a_digit_changed_is_foreign() {
        let key = NamespaceKey::new("mykey");
        let id = key.random([7; 16]).to_string();
        let code = |key: &NamespaceKey, text: &str| key.parse(text).unwrap_err().code();
        assert_eq!(code(&NamespaceKey::new("other"), &id), "id.foreign");
        for at in 0..id.len() {
            let mut changed = id.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(code(&key, std::str::from_utf8(&changed).unwrap()), "id.foreign");
        }
        let wide = "\u{e9}".repeat(32);
        for text in ["", &id[1..], &format!("{id}0"), &format!("+{}", &id[1..]), &wide] {
            assert_eq!(code(&key, text), "id.malformed", "{text}");
        }
    }
}
