//! Adopting: what a commit says of pages that were written before it.
//!
//! Content that no commit may hold comes into an object so: its pages and a run of the directory
//! that names them are written and synced, and a small commit makes them the object's.
//!
//! Invariants:
//!   * The run holds page entries of one life of one object and nothing else; the segments hold the
//!     pages that it names and no others.

use super::page::SegmentFacts;
use super::run::{RunFacts, RunUse};
use super::{Cursor, Malformed, put_varint};
use crate::ids::{FileNumber, Life};
use crate::names::FileName;

/// Segments that one commit names at most: with files of the default size, a pebibyte.
const SEGMENTS_MAX: u64 = 1 << 22;

/// Pages that an object adopts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adoption<'a> {
    /// The life that begins, and that the pages are of: the LSN of its begin.
    pub life: Life,
    /// Keys of the user.
    pub count: u64,
    /// Bytes of all content, as a head counts them.
    pub content_bytes: u64,
    /// The run that names the pages.
    pub run: RunFacts,
    segments: &'a [u8],
}

impl<'a> Adoption<'a> {
    /// Adopts pages that lie in `segments`: what [`segments_bytes`] makes of them.
    #[must_use]
    pub fn new(
        life: Life,
        (count, content_bytes): (u64, u64),
        run: RunFacts,
        segments: &'a [u8],
    ) -> Self {
        Self { life, count, content_bytes, run, segments }
    }

    /// The segments of the pages.
    pub fn segments(&self) -> impl Iterator<Item = SegmentFacts> + use<'a> {
        let mut cursor = Cursor::new(self.segments);
        std::iter::from_fn(move || {
            if cursor.is_empty() {
                return None;
            }
            segment(&mut cursor).ok()
        })
    }

    /// The files that it names, and their bytes.
    pub fn files(&self) -> impl Iterator<Item = (FileName, u64)> + use<'a> {
        let run = (FileName::Run(self.run.number), self.run.bytes);
        let segments = self.segments().map(|facts| (FileName::Segment(facts.number), facts.bytes));
        segments.chain([run])
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.life.0);
        put_varint(out, self.count);
        put_varint(out, self.content_bytes);
        put_varint(out, self.run.number.0);
        put_varint(out, self.run.bytes);
        put_varint(out, self.run.entries);
        out.extend_from_slice(&self.run.checksum.to_le_bytes());
        put_varint(out, self.segments().count() as u64);
        out.extend_from_slice(self.segments);
    }

    pub(super) fn decode(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let life = Life(cursor.varint()?);
        let (count, content_bytes) = (cursor.varint()?, cursor.varint()?);
        let run = RunFacts {
            number: FileNumber(cursor.varint()?),
            usage: RunUse::Directory,
            bytes: cursor.varint()?,
            entries: cursor.varint()?,
            checksum: cursor.u32()?,
        };
        let segments = cursor.varint()?;
        if segments > SEGMENTS_MAX {
            return Err(Malformed("an adoption of too many files"));
        }
        let rest = cursor.rest();
        for _ in 0..segments {
            segment(cursor)?;
        }
        let segments = &rest[..rest.len() - cursor.rest().len()];
        Ok(Self { life, count, content_bytes, run, segments })
    }
}

/// Segments as a commit names them.
#[must_use]
pub fn segments_bytes(segments: impl Iterator<Item = SegmentFacts>) -> Vec<u8> {
    let mut out = Vec::new();
    for facts in segments {
        for field in [facts.number.0, facts.bytes, facts.page_bytes, facts.pages] {
            put_varint(&mut out, field);
        }
    }
    out
}

fn segment(cursor: &mut Cursor<'_>) -> Result<SegmentFacts, Malformed> {
    Ok(SegmentFacts {
        number: FileNumber(cursor.varint()?),
        bytes: cursor.varint()?,
        page_bytes: cursor.varint()?,
        pages: cursor.varint()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::{Operation, Operations, adoption, without_adoption};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn adoptions_read_back_and_stand_before_the_rest_of_their_commit(
            numbers in any::<(u64, u64, u64, u64, u64)>(), checksum in any::<u32>(),
            segments in proptest::collection::vec(any::<(u64, u64, u64, u64)>(), 0..5),
        ) {
            let segments: Vec<_> = segments
                .into_iter()
                .map(|(number, bytes, page_bytes, pages)| SegmentFacts {
                    number: FileNumber(number), bytes, page_bytes, pages,
                })
                .collect();
            let bytes = segments_bytes(segments.iter().copied());
            let (life, count, content, number, entries) = numbers;
            let (number, usage) = (FileNumber(number), RunUse::Directory);
            let run = RunFacts { number, usage, bytes: life, entries, checksum };
            let adopted = Adoption::new(Life(life), (count, content), run, &bytes);
            let operation = Operation::Adopt(adopted);
            let mut payload = Vec::new();
            operation.encode(&mut payload);
            Operation::ClearAlarm.encode(&mut payload);
            let found = Operations::new(&payload).collect::<Result<Vec<_>, _>>();
            prop_assert_eq!(found, Ok(vec![operation, Operation::ClearAlarm]));
            prop_assert_eq!(adopted.segments().collect::<Vec<_>>(), segments);
            prop_assert_eq!(adoption(&payload), Some(adopted));
            let rest = without_adoption(&payload);
            prop_assert_eq!(rest.len(), 1);
            prop_assert_eq!(without_adoption(rest), rest);
        }
    }
}
