//! Segments of which the device does not give all sectors, or that are cut short under a map.

use crate::chance::Chance;
use crate::rig::{self, Volume};
use dostore::error::ErrorKind;
use dostore::store::{Options, Store};
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const OBJECTS: u64 = 64;
/// The least that a file system has for one.
const BLOCK_BYTES: usize = 1024;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10)
}

/// What an object holds: more than a block, and nothing that could be compressed.
fn content(object: u64) -> Vec<u8> {
    let mut chance = Chance::new(object);
    (0..1_000).flat_map(|_| chance.next().to_le_bytes()).collect()
}

/// A store of objects in pages, closed.
fn make(folder: &Path) {
    let store = options().open(folder).unwrap();
    let rooms = store.namespace("rooms").unwrap();
    for object in 0..OBJECTS {
        let mut room = rooms.open_by_name(&object.to_string()).unwrap();
        room.put("content", content(object)).unwrap().wait().unwrap();
    }
    store.steps().checkpoint().unwrap();
    drop(rooms);
    store.close().unwrap();
}

/// Reads every object; says how many are right. Each other one must be an error that says so.
fn right(store: &Store) -> u64 {
    let rooms = store.namespace("rooms").unwrap();
    let read = |object: u64| {
        let room = rooms.snapshot(rooms.id_from_name(&object.to_string()))?;
        room.get("content")
    };
    let is_right = |object: &u64| match read(*object) {
        Ok(found) => {
            assert!(
                found.as_deref() == Some(&content(*object)[..]),
                "object {object} is another one"
            );
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            false
        }
    };
    (0..OBJECTS).filter(is_right).count() as u64
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder.join("seg")).unwrap().map(|entry| entry.unwrap().path());
    listed.filter(|path| path.is_file()).collect()
}

/// Where an object's content stands in a file, if it does.
fn place(bytes: &[u8], object: u64) -> Option<usize> {
    let content = content(object);
    bytes.windows(64).position(|window| window == &content[..64])
}

#[test]
fn a_segment_that_is_cut_short_under_its_map_is_an_error_and_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let store = options().create(false).open(folder.path()).unwrap();
    let found = segments(folder.path());
    let largest = found.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = fs::read(largest).unwrap();
    // One object far before the cut has been read, so that the file is mapped.
    let quarter = 0..bytes.len() / 4;
    let is_early = |object: &u64| place(&bytes, *object).is_some_and(|at| quarter.contains(&at));
    let early = (0..OBJECTS).find(is_early).expect("an object has its page there");
    let rooms = store.namespace("rooms").unwrap();
    let room = rooms.snapshot(rooms.id_from_name(&early.to_string())).unwrap();
    assert_eq!(room.get("content").unwrap().as_deref(), Some(&content(early)[..]));
    let file = OpenOptions::new().write(true).open(largest).unwrap();
    file.set_len(bytes.len() as u64 / 2).unwrap();
    let right = right(&store);
    assert!((OBJECTS / 4..OBJECTS).contains(&right), "{right} objects are right");
}

/// Where the blocks of these files are on the disk, by their content.
fn places(files: &[PathBuf], image: &[u8]) -> Vec<u64> {
    let read = files.iter().map(|path| fs::read(path).unwrap());
    let blocks: Vec<_> = read
        .flat_map(|bytes| bytes.chunks_exact(BLOCK_BYTES).map(<[u8]>::to_vec).collect::<Vec<_>>())
        .collect();
    let all: HashMap<_, _> = image.chunks_exact(BLOCK_BYTES).zip(0_u64..).collect();
    let mut places: Vec<_> = blocks.iter().filter_map(|block| all.get(&**block)).copied().collect();
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn sectors_that_the_device_does_not_give_hurt_who_has_something_there_and_come_back() {
    let test =
        "rot::sectors_that_the_device_does_not_give_hurt_who_has_something_there_and_come_back";
    rig::run(test, &["mkfs.ext4"], 64, |folder| {
        // Of the store only the segments are on the disk that fails.
        let store_folder = folder.join("store");
        fs::create_dir(&store_folder).unwrap();
        let volume = Volume::make("ext4", 32, folder, &store_folder.join("seg"));
        make(&store_folder);
        let files = segments(&store_folder);
        rustix::fs::syncfs(fs::File::open(&volume.at).unwrap()).unwrap();
        let image = fs::read(&volume.image).unwrap();
        let places = places(&files, &image);
        let cut = places[places.len() / 2] * BLOCK_BYTES as u64;
        volume.restart();

        // Behind the end of its file a loop device has sectors that it cannot read.
        let mut file = OpenOptions::new().write(true).open(&volume.image).unwrap();
        file.set_len(cut).unwrap();
        let store = options().create(false).open(&store_folder).unwrap();
        let without = right(&store);
        assert!(0 < without && without < OBJECTS, "{without} objects are right");

        file.seek(SeekFrom::Start(cut)).unwrap();
        file.write_all(&image[usize::try_from(cut).unwrap()..]).unwrap();
        assert_eq!(right(&store), OBJECTS);
        println!("{without} of {OBJECTS} objects were readable without the sectors");
    });
}
