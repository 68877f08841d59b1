//! The first block of a file of the log: what decodes encodes back; also with its checksums put
//! right, so that what is behind them is reached.

use dostore::format::group::WalHeader;
use dostore::format::header::HEADER_BYTES;
use dostore::format::{checksum, place_seed};

const COPY_BYTES: usize = HEADER_BYTES + 64;

/// Takes one input.
pub fn run(data: &[u8]) {
    check(data);
    let mut block = data.to_vec();
    block.resize(4096, 0);
    check(&block);
    let sum = checksum(0, &block[..HEADER_BYTES - 4]);
    block[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    let Ok(header) =
        dostore::format::header::Header::decode(&block, dostore::format::header::FileKind::Wal)
    else {
        return;
    };
    let seed = place_seed(header.salt, header.number.0, 0);
    let sum = checksum(seed, &block[..COPY_BYTES - 4]);
    block[COPY_BYTES - 4..COPY_BYTES].copy_from_slice(&sum.to_le_bytes());
    check(&block);
}

fn check(block: &[u8]) {
    if let Ok(header) = WalHeader::decode(block) {
        let again = header.encode();
        assert_eq!(again.len(), 4096);
        assert_eq!(WalHeader::decode(&again), Ok(header));
    }
}
