//! Reading the store of a stranger: verified whole first, nothing mapped, each read checked, and
//! never more than was allowed.
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::real::RealReadDisk;
use dostore::disk::sim::SimDisk;
use dostore::disk::{Clock, Listed, Map, ReadDisk, ReadFile};
use dostore::error::{Error, ErrorKind};
use dostore::names::{FileName, Folder};
use dostore::store::Store;
use dostore::store::reader::Reader;
use dostore::store::untrusted::{Bounds, OpenMode};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const OBJECTS: u64 = 20;

fn untrusted() -> OpenMode {
    OpenMode::Untrusted(Bounds::new())
}

fn text(object: u64) -> String {
    format!("what object {object} says ").repeat(40)
}

/// Objects in pages, and one commit behind them.
fn fill(store: &Store) {
    let rooms = store.namespace("rooms").unwrap();
    for object in 0..OBJECTS {
        let mut room = rooms.open_by_name(&object.to_string()).unwrap();
        room.put("k", text(object)).unwrap().wait().unwrap();
    }
    store.steps().checkpoint().unwrap();
    rooms.open_by_name("late").unwrap().put("k", "late").unwrap().wait().unwrap();
    store.steps().write_mark().unwrap();
}

fn get(reader: &Reader, name: &str) -> Result<Option<String>, Error> {
    let rooms = reader.namespace("rooms")?;
    let found = rooms.snapshot(rooms.id_from_name(name))?.get("k")?;
    Ok(found.map(|found| String::from_utf8_lossy(&found).into_owned()))
}

fn small() -> dostore::store::Options {
    Store::options().threads(false).wal_file_bytes(64 << 10)
}

fn on_sim() -> SimDisk {
    let disk = SimDisk::new(1);
    fill(&small().open_on(disk.clone()).unwrap());
    disk
}

/// A store in a folder, closed.
fn in_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = small().open(folder.path()).unwrap();
    fill(&store);
    store.close().unwrap();
    folder
}

/// A disk that counts what is mapped of it.
#[derive(Debug)]
struct Counting {
    disk: Arc<dyn ReadDisk>,
    maps: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn ReadFile>,
    maps: Arc<AtomicU64>,
}

impl ReadDisk for Counting {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        let (file, maps) = (self.disk.open(name)?, Arc::clone(&self.maps));
        Ok(Arc::new(CountingFile { file, maps }))
    }

    fn list(&self, folder: Folder) -> io::Result<Vec<Listed>> {
        self.disk.list(folder)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.disk.clock()
    }

    fn lock_holder(&self) -> io::Result<Option<String>> {
        self.disk.lock_holder()
    }
}

impl ReadFile for CountingFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        self.maps.fetch_add(1, Ordering::Relaxed);
        self.file.map(bytes)
    }
}

#[test]
fn a_right_store_reads_as_ever_and_nothing_of_it_is_mapped() {
    let folder = in_folder();
    let mapped = [OpenMode::Trusted, untrusted()].map(|mode| {
        let maps = Arc::<AtomicU64>::default();
        let disk: Arc<dyn ReadDisk> = Arc::new(RealReadDisk::open(folder.path()).unwrap());
        let disk = Counting { disk, maps: Arc::clone(&maps) };
        let mut reader = Reader::open_on_with(disk, mode).unwrap();
        reader.refresh().unwrap();
        for object in 0..OBJECTS {
            assert_eq!(get(&reader, &object.to_string()).unwrap(), Some(text(object)));
        }
        assert_eq!(get(&reader, "late").unwrap().as_deref(), Some("late"));
        assert_eq!(get(&reader, "nobody").unwrap(), None);
        maps.load(Ordering::Relaxed)
    });
    assert!(mapped[0] > 0 && mapped[1] == 0, "{mapped:?}");
}

/// Objects that a reader cannot show.
fn lost(reader: &Reader) -> usize {
    (0..OBJECTS).filter(|object| get(reader, &object.to_string()).is_err()).count()
}

/// A bit of a page, whose damage costs one object.
fn bit_of_a_page(disk: &SimDisk) -> (FileName, u64) {
    let names = disk.names().into_iter().filter(|name| matches!(name, FileName::Segment(_)));
    let bits = names.flat_map(|name| {
        let bytes = disk.file_bytes(name).unwrap().len() as u64;
        (4_096..bytes).step_by(100).map(move |byte| (name, byte * 8))
    });
    let costs_one = |(name, bit): &(FileName, u64)| {
        let disk = disk.fork();
        disk.flip_bit(*name, *bit).unwrap();
        lost(&Reader::open_on(disk).unwrap()) == 1
    };
    bits.into_iter().find(costs_one).expect("a page of one object")
}

#[test]
fn any_fault_refuses_the_store_before_anything_of_it_is_shown() {
    let disk = on_sim();
    // A reader that trusts the store shows all but one object.
    let (segment, bit) = bit_of_a_page(&disk);
    disk.flip_bit(segment, bit).unwrap();
    let refused = Reader::open_on_with(disk.fork(), untrusted()).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Corrupt, "untrusted.damaged"));
    assert_eq!(refused.place().unwrap().file, segment.to_string());
}

#[test]
fn a_refresh_verifies_again() {
    let disk = on_sim();
    let (segment, bit) = bit_of_a_page(&disk);
    let mut reader = Reader::open_on_with(disk.clone(), untrusted()).unwrap();
    disk.flip_bit(segment, bit).unwrap();
    assert_eq!(reader.refresh().unwrap_err().code(), "untrusted.damaged");
    // What was handed out stays as it was, and is checked as it is read.
    assert_eq!(lost(&reader), 1);
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder.join(kind)).unwrap();
    listed.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_is_changed_behind_the_readers_back_is_noticed_at_each_read() {
    let folder = in_folder();
    let reader = Reader::open_with(folder.path(), untrusted()).unwrap();
    assert_eq!(get(&reader, "7").unwrap(), Some(text(7)));
    for run in files(folder.path(), "run") {
        let file = OpenOptions::new().read(true).write(true).open(run).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 4_100).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 4_100).unwrap();
    }
    // The block was right once, in this reader.
    assert_eq!(get(&reader, "7").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_cut_short_behind_the_readers_back_is_an_error_and_no_signal() {
    let folder = in_folder();
    let reader = Reader::open_with(folder.path(), untrusted()).unwrap();
    assert_eq!(get(&reader, "7").unwrap(), Some(text(7)));
    // The other page lies beside the one that was read: a map of both would be in use.
    for (kind, object) in [("seg", "8"), ("run", "7")] {
        for path in files(folder.path(), kind) {
            OpenOptions::new().write(true).open(path).unwrap().set_len(4_096).unwrap();
        }
        assert_eq!(get(&reader, object).unwrap_err().kind(), ErrorKind::Corrupt, "{kind}");
    }
}

#[test]
fn a_store_that_is_larger_than_allowed_is_not_read() {
    let disk = on_sim();
    let bytes_of = |name: FileName| disk.file_bytes(name).map_or(0, |bytes| bytes.len() as u64);
    let all: u64 = disk.names().into_iter().map(bytes_of).sum();
    let is_held =
        |name: &FileName| matches!(name, FileName::Wal(_) | FileName::Run(_) | FileName::Manifest);
    let held: u64 = disk.names().into_iter().filter(is_held).map(bytes_of).sum();
    let open = |bounds| {
        let opened = Reader::open_on_with(disk.fork(), OpenMode::Untrusted(bounds));
        opened.map(drop).map_err(|error| error.code())
    };
    assert_eq!(open(Bounds::new().store_bytes(all)), Ok(()));
    assert_eq!(open(Bounds::new().store_bytes(all - 1)), Err("untrusted.large"));
    assert_eq!(open(Bounds::new().memory_bytes(held)), Ok(()));
    assert_eq!(open(Bounds::new().memory_bytes(held - 1)), Err("untrusted.large"));
    assert!(held < all);
}

#[test]
fn where_no_store_is_none_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let error = Reader::open_with(folder.path(), untrusted()).unwrap_err();
    assert_eq!(error.code(), "store.missing");
}
