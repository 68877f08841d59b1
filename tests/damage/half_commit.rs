//! A commit of the log with an operation that no version writes, checksums and all: what is before
//! it in the same commit counts for nothing.

use crate::world;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind};
use dostore::format::group::{GROUP_HEADER_BYTES, GroupHeader, WalHeader, seal, unmask};
use dostore::format::place_seed;
use dostore::format::record::{Operations, records};
use dostore::ids::ObjectId;
use dostore::inspect::verify;
use dostore::names::FileName;
use dostore::store::Store;
use dostore::store::reader::Reader;
use dostore::store::transfer::SalvageOptions;

const BLOCK_BYTES: usize = 4096;

/// The place of the last operation in a payload, if it is the third.
fn third_operation(payload: &[u8]) -> Option<usize> {
    let mut operations = Operations::new(payload);
    let places = std::iter::from_fn(|| {
        let place = operations.offset();
        operations.next().map(|_| place)
    });
    let places: Vec<usize> = places.collect();
    (places.len() == 3).then(|| places[2])
}

/// Gives the last operation of the one commit that has three a tag that means nothing, and chains
/// the groups behind it anew.
fn spoil_third_operation(disk: &SimDisk) {
    let is_log = |name: &FileName| matches!(name, FileName::Wal(_));
    let mut is_spoiled = false;
    for name in disk.names().into_iter().filter(is_log) {
        let mut bytes = disk.file_bytes(name).unwrap();
        let Ok(header) = WalHeader::decode(&bytes[..BLOCK_BYTES]) else { continue };
        let header = header.header;
        let (mut at, mut chain) = (BLOCK_BYTES, None);
        loop {
            let seed = place_seed(header.salt, header.number.0, at as u64);
            let Ok((group, _)) = GroupHeader::decode(&bytes[at..], seed) else { break };
            let body_at = at + GROUP_HEADER_BYTES;
            let mut body = bytes[body_at..body_at + group.body_bytes as usize].to_vec();
            unmask(&mut body, group.mask);
            let last = records(&body).last().map(Result::unwrap);
            let last = last.and_then(|last| {
                Some(body.len() - last.payload.len() + third_operation(last.payload)?)
            });
            if let Some(place) = last {
                (body[place], is_spoiled) = (99, true);
            }
            let group = GroupHeader { previous: chain.unwrap_or(group.previous), ..group };
            let mut sealed = vec![0; GROUP_HEADER_BYTES];
            sealed.extend_from_slice(&body);
            chain = Some(seal(&mut sealed, group, seed));
            bytes[at..at + sealed.len()].copy_from_slice(&sealed);
            at += sealed.len();
        }
        disk.replace_file_bytes(name, bytes);
    }
    assert!(is_spoiled, "no commit has three operations");
}

fn log_of_two_objects() -> (SimDisk, [ObjectId; 2]) {
    let disk = SimDisk::new(1);
    let store = world::open(&disk);
    let rooms = store.namespace("rooms").unwrap();
    let mut other = rooms.open_by_name("other").unwrap();
    other.put("key", "value").unwrap().wait().unwrap();
    let mut hit = rooms.open_by_name("hit").unwrap();
    hit.put("before", "it").unwrap().wait().unwrap();
    let mut turn = hit.turn();
    turn.put("a", "1").unwrap().put("b", "2").unwrap().put("c", "3").unwrap();
    turn.commit_durable().unwrap();
    // It proves the group before it.
    other.put("key", "value").unwrap().wait().unwrap();
    let ids = [hit.id(), other.id()];
    drop((hit, other, rooms, store));
    let disk = disk.kill();
    spoil_third_operation(&disk);
    (disk, ids)
}

fn code<T>(result: Result<T, Error>) -> String {
    result.err().map_or_else(String::new, |error| error.code().to_owned())
}

#[test]
fn a_store_with_half_a_commit_in_its_log_does_not_open() {
    let (disk, _) = log_of_two_objects();
    let options = Store::options().threads(false).wal_file_bytes(64 << 10);
    let refused = options.open_on(disk.fork()).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Corrupt, "log.record"));
    assert!(refused.place().unwrap().lsn.is_some(), "{refused:?}");
}

#[test]
fn a_reader_shows_nothing_of_it_and_all_other_objects() {
    let (disk, [hit, other]) = log_of_two_objects();
    let reader = Reader::open_on(disk).unwrap();
    let rooms = reader.namespace("rooms").unwrap();
    assert_eq!(code(rooms.snapshot(hit).and_then(|hit| hit.get("a"))), "log.record");
    let other = rooms.snapshot(other).unwrap();
    assert_eq!(&*other.get("key").unwrap().unwrap(), b"value");
}

#[test]
fn verification_names_its_object_and_salvage_takes_what_is_before_it() {
    let (disk, [id, _]) = log_of_two_objects();
    let report = verify(disk.clone());
    let named =
        report.faults.iter().any(|fault| fault.object.is_some_and(|it| it.id == id.short()));
    assert!(named, "{report}");
    for is_doubtful in [false, true] {
        let fresh = SimDisk::new(2);
        let store = world::open(&fresh);
        let options = SalvageOptions::new().doubtful(is_doubtful);
        let told = store.salvage_on(disk.clone(), &options).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        let hit = rooms.open_by_name("hit").unwrap();
        assert_eq!(&*hit.get("before").unwrap().unwrap(), b"it", "{told}");
        assert!(hit.get("a").unwrap().is_none() && hit.get("b").unwrap().is_none(), "{told}");
        assert!(told.to_string().contains("operation"), "{told}");
    }
}
