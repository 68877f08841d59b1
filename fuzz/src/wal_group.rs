//! Groups: a header that decodes encodes back, as given and with its checksum put right; any body
//! that is sealed reads back.

use dostore::format::checksum;
use dostore::format::group::{
    GROUP_HEADER_BYTES, GroupHeader, has_missing_sector, seal, unmask, unmask_part,
};

const SEED: u64 = 0x1234_5678_9ABC_DEF0;

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first_chunk::<GROUP_HEADER_BYTES>() else { return };
    check_header(first);
    let mut resealed = *first;
    let (covered, sum) = resealed.split_at_mut(GROUP_HEADER_BYTES - 4);
    sum.copy_from_slice(&checksum(SEED, covered).to_le_bytes());
    let Some(header) = check_header(&resealed) else { return };
    if header.body_bytes > 0 || header.records > 0 {
        check_seal(header, body);
    }
}

fn check_header(bytes: &[u8; GROUP_HEADER_BYTES]) -> Option<GroupHeader> {
    let (header, _) = GroupHeader::decode(bytes, SEED).ok()?;
    assert_eq!(header.encode(SEED), *bytes);
    assert!(header.group_bytes().is_multiple_of(4096));
    Some(header)
}

fn check_seal(header: GroupHeader, body: &[u8]) {
    let mut group = vec![0; GROUP_HEADER_BYTES];
    group.extend_from_slice(body);
    let chain = seal(&mut group, header, SEED);
    let Ok((sealed, sum)) = GroupHeader::decode(&group, SEED) else {
        panic!("a sealed group does not decode");
    };
    assert_eq!(sum, chain);
    assert_eq!(sealed.group_bytes(), group.len() as u64);
    let written = &mut group[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + body.len()];
    assert_eq!(checksum(SEED, written), sealed.body_crc);
    assert!(!has_missing_sector(written));
    let (left, right) = written.split_at_mut(body.len() / 3);
    unmask(left, sealed.mask);
    unmask_part(right, sealed.mask, left.len() as u64);
    assert_eq!(written, body);
}
