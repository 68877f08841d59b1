//! The worked example of `docs/format.md` is what the code reads and writes.
//!
//! The bytes stand in the document and were not made by this crate; the code decodes them, and the
//! document's table must say the same of each of them.

use dostore::format::group::{GROUP_HEADER_BYTES, GroupHeader, GroupKind, seal};
use dostore::format::record::{Operation, Operations, RecordKind, records};
use dostore::format::{checksum, place_seed};
use dostore::ids::Codec;
use std::path::Path;

const HEADING: &str = "### A group, byte by byte";
const FILE: u64 = 3;
const OFFSET: u64 = 8192;
const SALT: u64 = 0x0123_4567_89AB_CDEF;

/// A row of the table: where, how many bytes, which field, which value.
type Row = (usize, usize, String, String);

/// The section of the document with the example.
fn section() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let (_, rest) = text.split_once(HEADING).expect("the section is there");
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The bytes between the fences.
fn bytes(section: &str) -> Vec<u8> {
    let fenced = section.split("```").nth(1).expect("the bytes stand between fences");
    let mut bytes = Vec::new();
    for line in fenced.lines().skip(1) {
        let (offset, digits) = line.split_once(": ").expect("an offset and bytes");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let line_bytes = digits.split(' ').map(|pair| u8::from_str_radix(pair, 16));
        bytes.extend(line_bytes.map(|byte| byte.expect("two hexadecimal digits")));
    }
    bytes
}

/// The table, without its head.
fn rows(section: &str) -> Vec<Row> {
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [at, size, field, value] = cells[..] else { panic!("{line}: not four cells") };
            let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{line}"));
            (number(at), number(size), field.to_owned(), value.trim_matches('`').to_owned())
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// What the code says of the group's header, by the table's names.
fn group_fields(bytes: &[u8], header: &GroupHeader, sum: u32) -> Vec<(&'static str, String)> {
    assert_eq!(header.kind, GroupKind::Data);
    vec![
        ("group: magic", hex(&bytes[..4])),
        ("group: kind", "data".to_owned()),
        ("group: unused", hex(&bytes[5..8])),
        ("group: number", header.number.to_string()),
        ("group: first LSN", header.first_lsn.0.to_string()),
        ("group: last LSN", header.last_lsn.0.to_string()),
        ("group: time", header.time.0.to_string()),
        ("group: records", header.records.to_string()),
        ("group: body bytes", header.body_bytes.to_string()),
        ("group: body checksum", format!("{:08x}", header.body_crc)),
        ("group: previous", format!("{:08x}", header.previous)),
        ("group: mask", header.mask.to_string()),
        ("group: durable", header.durable.to_string()),
        ("group: unused", hex(&bytes[72..92])),
        ("group: checksum", format!("{sum:08x}")),
    ]
}

/// The same of the one record in its body, and of the one operation in that.
fn record_fields(body: &[u8]) -> Vec<(&'static str, String)> {
    let found: Vec<_> = records(body).map(|record| record.expect("a record")).collect();
    let [record] = &found[..] else { panic!("{} records", found.len()) };
    let header = &record.header;
    assert_eq!(header.kind, RecordKind::Commit);
    let found: Vec<_> =
        Operations::new(record.payload).map(|found| found.expect("an operation")).collect();
    let [Operation::Put { key, codec: Codec::Raw, value }] = found[..] else {
        panic!("{found:?} is not the one put")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    vec![
        ("record: payload bytes", header.length.to_string()),
        ("record: kind", "commit".to_owned()),
        ("record: unused", hex(&body[5..8])),
        ("record: LSN", header.lsn.0.to_string()),
        ("record: time", header.time.0.to_string()),
        ("record: namespace", header.address.namespace.0.to_string()),
        ("record: id", hex(&header.address.id.0)),
        ("operation: tag", "put".to_owned()),
        ("operation: full key bytes", key.len().to_string()),
        ("operation: kind of key", key[0].to_string()),
        ("operation: key", text(&key[1..])),
        ("operation: codec", "raw".to_owned()),
        ("operation: value bytes", value.len().to_string()),
        ("operation: value", text(value)),
    ]
}

#[test]
fn the_table_says_what_the_code_reads() {
    let section = section();
    let bytes = bytes(&section);
    let seed = place_seed(SALT, FILE, OFFSET);
    assert!(section.contains(&format!("{SALT:016x}")) && section.contains(&format!("{seed:016x}")));
    let (header, sum) = GroupHeader::decode(&bytes, seed).expect("a group's header");
    let body = &bytes[GROUP_HEADER_BYTES..];
    assert_eq!(checksum(seed, body), header.body_crc);
    let mut decoded = group_fields(&bytes, &header, sum);
    decoded.extend(record_fields(body));
    let told: Vec<_> = rows(&section);
    let told: Vec<_> = told.iter().map(|row| (row.2.as_str(), row.3.clone())).collect();
    assert_eq!(told, decoded);
}

#[test]
fn the_table_covers_every_byte_once() {
    let section = section();
    let mut next = 0;
    for (at, size, field, _) in rows(&section) {
        assert_eq!(at, next, "{field}");
        next += size;
    }
    assert_eq!(next, bytes(&section).len());
}

#[test]
fn the_code_writes_the_same_bytes() {
    let mut wanted = bytes(&section());
    let seed = place_seed(SALT, FILE, OFFSET);
    let (header, sum) = GroupHeader::decode(&wanted, seed).expect("a group's header");
    let mut group = vec![0; GROUP_HEADER_BYTES];
    group.extend_from_slice(&wanted[GROUP_HEADER_BYTES..]);
    let blank = GroupHeader { body_bytes: 0, body_crc: 0, mask: 0, ..header };
    assert_eq!(seal(&mut group, blank, seed), sum);
    wanted.resize(4096, 0);
    assert_eq!(group, wanted);
}
