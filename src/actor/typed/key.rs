//! Keys of typed maps: bytes that order as the keys do.

use crate::ids::Timestamp;

/// A key of a [`Map`](super::Map).
///
/// Its bytes must order as the keys do, and `decode` must give back what was encoded.
pub trait MapKey: Sized {
    /// The length of every key of the type, where all have the same.
    const BYTES: Option<usize>;

    /// Appends the key's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// The key with exactly these bytes.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

macro_rules! unsigned_keys {
    ($($number:ty),*) => {$(
        impl MapKey for $number {
            const BYTES: Option<usize> = Some(size_of::<$number>());

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend(self.to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

unsigned_keys!(u8, u16, u32, u64, u128);

macro_rules! signed_keys {
    ($($number:ty as $unsigned:ty),*) => {$(
        impl MapKey for $number {
            const BYTES: Option<usize> = Some(size_of::<$number>());

            fn encode(&self, out: &mut Vec<u8>) {
                // With the sign turned over, the negative ones come first.
                out.extend((self.cast_unsigned() ^ (1 << (<$unsigned>::BITS - 1))).to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                let turned = <$unsigned>::from_be_bytes(bytes.try_into().ok()?);
                Some((turned ^ (1 << (<$unsigned>::BITS - 1))).cast_signed())
            }
        }
    )*};
}

signed_keys!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

impl MapKey for bool {
    const BYTES: Option<usize> = Some(1);

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl MapKey for Timestamp {
    const BYTES: Option<usize> = u64::BYTES;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        u64::decode(bytes).map(Self)
    }
}

impl MapKey for String {
    const BYTES: Option<usize> = None;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

impl MapKey for Vec<u8> {
    const BYTES: Option<usize> = None;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl<const N: usize> MapKey for [u8; N] {
    const BYTES: Option<usize> = Some(N);

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

/// Two keys in one; the first must be of a type whose keys have one length.
impl<A: MapKey, B: MapKey> MapKey for (A, B) {
    const BYTES: Option<usize> = match (A::BYTES, B::BYTES) {
        (Some(first), Some(second)) => Some(first + second),
        _ => None,
    };

    fn encode(&self, out: &mut Vec<u8>) {
        const { assert!(A::BYTES.is_some(), "the first of two keys must have one length") };
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, second) = bytes.split_at_checked(A::BYTES?)?;
        Some((A::decode(first)?, B::decode(second)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    #[track_caller]
    fn ordered<K: MapKey + PartialEq + Debug>(keys: &[K]) {
        let encoded: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| {
                let mut bytes = Vec::new();
                key.encode(&mut bytes);
                assert_eq!(K::decode(&bytes).as_ref(), Some(key));
                assert!(K::BYTES.is_none_or(|length| length == bytes.len()));
                bytes
            })
            .collect();
        assert!(encoded.is_sorted(), "{keys:?}");
    }

    #[test]
    fn keys_order_as_their_bytes_and_come_back() {
        ordered(&[0u64, 1, 255, 256, u64::MAX]);
        ordered(&[i64::MIN, -256, -1, 0, 1, 255, i64::MAX]);
        ordered(&[i8::MIN, -1, 0, i8::MAX]);
        ordered(&[false, true]);
        ordered(&[Timestamp(1), Timestamp(256)]);
        ordered(&[String::new(), "a".to_owned(), "a\0".to_owned(), "b".to_owned()]);
        ordered(&[vec![], vec![0], vec![0, 0], vec![1]]);
        ordered(&[[0u8, 1], [1, 0]]);
        ordered(&[
            (1u32, "b".to_owned()),
            (2, String::new()),
            (2, "a".to_owned()),
            (256, String::new()),
        ]);
        ordered(&[(-1i32, (0u8, true)), (0, (0, false)), (0, (1, false))]);
    }

    #[test]
    fn bytes_of_another_length_are_no_key() {
        assert_eq!(u64::decode(&[0; 7]), None);
        assert_eq!(u64::decode(&[0; 9]), None);
        assert_eq!(bool::decode(&[2]), None);
        assert_eq!(<(u32, u8)>::decode(&[0; 4]), None);
        assert_eq!(String::decode(&[0xFF]), None);
    }
}
