//! Bytes that several holders share: a slice of memory, or of a mapped file.
//!
//! Invariants:
//!   * The bytes do not change while a holder lives: memory is never written again once shared, and
//!     a map is of a sealed file.
//!   * `start..start + length` lies inside the owner; established by every constructor.

use super::Map;
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A reference-counted slice. Cloning costs one atomic increment; the bytes are not copied.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Owner,
    start: usize,
    length: usize,
}

#[derive(Clone)]
enum Owner {
    Memory(Arc<[u8]>),
    // Invariant: `memory()` is `Some`.
    Mapped(Arc<dyn Map>),
}

impl SharedBytes {
    /// The bytes of `range` of a map, without a copy where the memory is shared.
    pub fn from_map(map: &Arc<dyn Map>, range: Range<u64>) -> io::Result<Self> {
        let bytes = map.slice(range.clone())?;
        if map.memory().is_none() {
            return Ok(Self::from(&*bytes));
        }
        let start = usize::try_from(range.start).map_err(|_| io::ErrorKind::InvalidInput)?;
        let length = bytes.len();
        drop(bytes);
        Ok(Self { owner: Owner::Mapped(Arc::clone(map)), start, length })
    }

    /// How many these are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes of heap memory that these hold; none where they lie in a map.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.owner {
            Owner::Memory(memory) => memory.len(),
            Owner::Mapped(_) => 0,
        }
    }

    /// A part of these bytes; none beyond the end.
    #[inline]
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.length {
            return None;
        }
        let start = self.start + range.start;
        Some(Self { owner: self.owner.clone(), start, length: range.end - range.start })
    }

    /// The same in place of these bytes, which saves the count of one more holder.
    #[must_use]
    pub fn into_slice(self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.length {
            return None;
        }
        let start = self.start + range.start;
        Some(Self { owner: self.owner, start, length: range.end - range.start })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let all = match &self.owner {
            Owner::Memory(memory) => memory,
            Owner::Mapped(map) => map.memory().unwrap_or_default(),
        };
        &all[self.start..self.start + self.length]
    }
}

impl From<Arc<[u8]>> for SharedBytes {
    fn from(memory: Arc<[u8]>) -> Self {
        let length = memory.len();
        Self { owner: Owner::Memory(memory), start: 0, length }
    }
}

impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Arc::<[u8]>::from(bytes))
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_stays_inside_its_owner() {
        let bytes = SharedBytes::from(&b"abcdef"[..]);
        let part = bytes.slice(1..5).unwrap();
        assert_eq!(&*part, b"bcde");
        assert_eq!(&*part.slice(1..3).unwrap(), b"cd");
        assert!(part.slice(0..5).is_none());
    }
}
