//! A run changed at places that the input chooses is refused, or answers what was written or an
//! error, and a walk over it ends.

use dostore::disk::Disk;
use dostore::disk::ReadDisk;
use dostore::disk::pace::Pace;
use dostore::disk::sim::SimDisk;
use dostore::format::header::FileContext;
use dostore::format::run::{RunFacts, RunUse};
use dostore::ids::{FileNumber, StoreId, Term};
use dostore::names::FileName;
use dostore::run::{Run, RunWriter};
use std::sync::{Arc, OnceLock};

const STORE: StoreId = StoreId([5; 16]);
const NUMBER: FileNumber = FileNumber(1);
const ENTRIES: u32 = 300;

fn key(number: u32) -> Vec<u8> {
    let mut key = vec![7; 16];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(number as usize % 9 + 1)
}

static WRITTEN: OnceLock<(RunFacts, Vec<u8>)> = OnceLock::new();

/// The run before it is changed, and its bytes.
fn written() -> (RunFacts, Vec<u8>) {
    let disk = SimDisk::new(1);
    let facts = write(&disk);
    (facts, disk.file_bytes(FileName::Run(NUMBER)).expect("the run"))
}

fn write(disk: &SimDisk) -> RunFacts {
    disk.make_folders().expect("folders of an empty disk");
    let context = FileContext { store: STORE, term: Term(1) };
    let pace = Arc::new(Pace::new(disk.clock()));
    let mut writer = RunWriter::create(disk, pace, context, NUMBER, RunUse::Directory)
        .expect("a new file on an empty disk");
    for number in (0..ENTRIES).filter(|number| number % 7 != 3) {
        writer.add(&key(number), &value(number)).expect("an empty disk has room");
    }
    writer.finish().expect("an empty disk has room")
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let disk = SimDisk::new(1);
    disk.make_folders().expect("folders of an empty disk");
    let (facts, bytes) = WRITTEN.get_or_init(written);
    let mut bytes = bytes.clone();
    for change in data.chunks_exact(4) {
        let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % bytes.len();
        bytes[at] ^= change[3];
    }
    bytes.truncate(bytes.len() - data.len() % 4);
    disk.replace_file_bytes(FileName::Run(NUMBER), bytes);
    let Ok(run) = Run::open(&disk, STORE, facts) else { return };
    for number in 0..ENTRIES {
        let wanted = (number % 7 != 3).then(|| value(number));
        if let Ok(found) = run.get(&key(number), <[u8]>::to_vec) {
            assert_eq!(found, wanted, "entry {number}");
        }
        let _ = run.floor(&key(number));
        let _ = run.ceiling(&key(number));
    }
    assert!(run.iter().take(2 * ENTRIES as usize).count() < 2 * ENTRIES as usize, "a walk ends");
}
