//! Any bytes are a manifest that encodes back to them, or are refused; also behind a right header
//! and in front of a right checksum, which chance does not find.

use dostore::format::header::{FileContext, FileKind, HEADER_BYTES};
use dostore::format::manifest::Manifest;
use dostore::format::{checksum, place_seed};
use dostore::ids::{FileNumber, StoreId, Term};

fn sealed(body: &[u8]) -> Vec<u8> {
    let context = FileContext { store: StoreId([1; 16]), term: Term(2) };
    let header = context.header(FileKind::Manifest, FileNumber(0), 3);
    let mut out = header.encode().to_vec();
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(body);
    let seed = place_seed(header.salt, 0, HEADER_BYTES as u64);
    let sum = checksum(seed, &out[HEADER_BYTES..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let _ = Manifest::decode(data);
    let bytes = sealed(data);
    if let Ok(manifest) = Manifest::decode(&bytes) {
        assert_eq!(manifest.encode(), bytes);
    }
}
