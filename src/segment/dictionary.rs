//! Compression of page bodies, with a dictionary where one pays: small objects of a namespace share
//! most of their bytes with each other, and little within themselves.
//!
//! Invariants:
//!   * Nothing is allocated by a length that compressed bytes claim: the memory to fill is the
//!     caller's, and not filling it exactly is an error.
//!   * A dictionary's id is a hash of its bytes, never zero. Ids may collide: within one file they
//!     do not, and across files the bytes are compared.

use crate::format::Malformed;
use crate::limits::DICTIONARY_BYTES_MAX;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;
use zstd::zstd_safe::{
    CCtx, CDict, CParameter, DCtx, DDict, DParameter, FrameFormat, ResetDirective,
};

/// How hard to compress: on pages, higher levels cost much and save little.
const LEVEL: i32 = 1;
/// Bytes that a dictionary gets when trained; larger ones did not pay (decision 15).
pub const TRAINED_BYTES: usize = 4 * 1024;
/// No window reaches further back than the largest page.
const WINDOW_LOG_MAX: u32 = 25;

/// Tries that in a row were in vain, from which on only one in so many is still made.
const IN_VAIN_MAX: u32 = 16;

/// Whether compressing is worth a try, from how the tries before it went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trial {
    /// What came since the last that shrank enough.
    in_vain: u32,
}

impl Trial {
    /// Whether to try the next.
    #[must_use]
    pub fn is_due(self) -> bool {
        self.in_vain < IN_VAIN_MAX || self.in_vain.is_multiple_of(IN_VAIN_MAX)
    }

    /// Takes note of one more, tried or not, and whether it shrank enough.
    pub fn note(&mut self, has_shrunk: bool) {
        self.in_vain = if has_shrunk { 0 } else { self.in_vain.wrapping_add(1) };
    }
}

/// Bytes that compressed pages refer to.
pub struct Dictionary {
    id: u32,
    bytes: Vec<u8>,
    to_compress: OnceLock<CDict<'static>>,
    to_expand: OnceLock<DDict<'static>>,
}

impl Dictionary {
    /// A dictionary of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!(bytes.len() <= DICTIONARY_BYTES_MAX, "a dictionary beyond its limit");
        let hash = Sha256::digest(&bytes);
        let id = hash.first_chunk().map_or(1, |start| u32::from_le_bytes(*start).max(1));
        Self { id, bytes, to_compress: OnceLock::new(), to_expand: OnceLock::new() }
    }

    /// Learns what samples have in common; none where they are too few or too unlike.
    #[must_use]
    pub fn train(samples: &[Vec<u8>], bytes_max: usize) -> Option<Self> {
        let bytes_max = bytes_max.min(DICTIONARY_BYTES_MAX);
        let bytes = zstd::dict::from_samples(samples, bytes_max).ok()?;
        (!bytes.is_empty() && bytes.len() <= bytes_max).then(|| Self::new(bytes))
    }

    /// A hash of its bytes; never zero.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Dictionary({:08x}, {} bytes)", self.id, self.bytes.len())
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static EXPANDER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

fn compressor() -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    // The page's header says what the frame's would: the frame keeps just its blocks.
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::Format(FrameFormat::Magicless),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ] {
        context.set_parameter(parameter).ok()?;
    }
    Some(context)
}

fn expander() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    context.set_parameter(DParameter::Format(FrameFormat::Magicless)).ok()?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).ok()?;
    Some(context)
}

/// Compresses into `out`, whose contents are replaced; false when the result would not fit `most`
/// bytes.
#[must_use]
pub fn compress(
    dictionary: Option<&Dictionary>,
    raw: &[u8],
    most: usize,
    out: &mut Vec<u8>,
) -> bool {
    out.clear();
    out.resize(most, 0);
    let written = COMPRESSOR.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(compressor()?),
        };
        if let Some(dictionary) = dictionary {
            let prepared =
                dictionary.to_compress.get_or_init(|| CDict::create(&dictionary.bytes, LEVEL));
            context.ref_cdict(prepared).ok()?;
        }
        let written = context.compress2(out.as_mut_slice(), raw).ok();
        // The context outlives the dictionary, so it must not remember it. Where the result did not
        // fit, the frame is still open, and a context forgets nothing inside a frame.
        let is_forgotten = context.reset(ResetDirective::SessionOnly).is_ok()
            && context.disable_dictionary().is_ok();
        if !is_forgotten {
            *slot = None;
        }
        written
    });
    out.truncate(written.unwrap_or(0));
    written.is_some()
}

/// Fills `raw`, exactly, with what `frame` holds.
pub fn expand(
    dictionary: Option<&Dictionary>,
    frame: &[u8],
    raw: &mut [u8],
) -> Result<(), Malformed> {
    let wanted = raw.len();
    let written = EXPANDER.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(expander()?),
        };
        let Some(dictionary) = dictionary else { return context.decompress(raw, frame).ok() };
        let prepared = dictionary.to_expand.get_or_init(|| DDict::create(&dictionary.bytes));
        context.decompress_using_ddict(raw, frame, prepared).ok()
    });
    if written == Some(wanted) { Ok(()) } else { Err(Malformed("body does not expand as stated")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32) -> Vec<u8> {
        format!(r#"{{"kind":"player","name":"user{number}","score":{},"team":"red"}}"#, number * 7)
            .into_bytes()
    }

    #[test]
    fn bodies_come_back_exactly_and_small_ones_gain_by_a_dictionary() {
        let samples: Vec<_> = (0..2000).map(sample).collect();
        let dictionary = Dictionary::train(&samples, TRAINED_BYTES).unwrap();
        assert_eq!(Dictionary::new(dictionary.bytes().to_vec()).id(), dictionary.id());
        let raw = sample(123_456);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        assert!(compress(Some(&dictionary), &raw, raw.len(), &mut with));
        let _ = compress(None, &raw, raw.len() * 2, &mut without);
        assert!(with.len() < without.len(), "{} < {}", with.len(), without.len());
        for (dictionary, frame) in [(Some(&dictionary), &with), (None, &without)] {
            let mut back = vec![0; raw.len()];
            expand(dictionary, frame, &mut back).unwrap();
            assert_eq!(back, raw);
            assert!(expand(dictionary, frame, &mut vec![0; raw.len() - 1]).is_err());
            assert!(expand(dictionary, frame, &mut vec![0; raw.len() + 1]).is_err());
            assert!(expand(dictionary, &frame[..frame.len() - 1], &mut back).is_err());
        }
        assert!(expand(None, &with, &mut vec![0; raw.len()]).is_err());
    }

    #[test]
    fn a_dictionary_is_forgotten_even_where_the_result_did_not_fit() {
        let samples: Vec<_> = (0..2000).map(sample).collect();
        let dictionary = Dictionary::train(&samples, TRAINED_BYTES).unwrap();
        let raw = sample(123_456);
        assert!(!compress(Some(&dictionary), &raw, 3, &mut Vec::new()));
        drop(dictionary);
        let mut frame = Vec::new();
        assert!(compress(None, &raw, raw.len() * 2, &mut frame));
        let mut back = vec![0; raw.len()];
        expand(None, &frame, &mut back).unwrap();
        assert_eq!(back, raw);
    }

    #[test]
    fn what_never_shrinks_is_tried_ever_less_until_it_does() {
        let mut trial = Trial::default();
        let mut tried = |has_shrunk: bool| {
            let tries = (0..160).filter(|_| {
                let is_due = trial.is_due();
                trial.note(is_due && has_shrunk);
                is_due
            });
            tries.count()
        };
        assert_eq!([tried(false), tried(false)], [25, 10]);
        assert_eq!(tried(true), 160);
    }

    #[test]
    fn what_does_not_shrink_enough_is_refused() {
        let noise = Sha256::digest(b"noise");
        assert!(!compress(None, &noise, noise.len() * 7 / 8, &mut Vec::new()));
        assert!(Dictionary::train(&[], TRAINED_BYTES).is_none());
        assert!(Dictionary::train(&[b"one".to_vec()], TRAINED_BYTES).is_none());
    }
}
