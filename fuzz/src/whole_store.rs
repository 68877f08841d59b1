//! A small store of whose files an input changes bytes: alone, or with every checksum put right
//! that covers them.
//!
//! The first byte says which. Each change is six bytes: the file, what is done, where (three
//! bytes), and a byte more.
//!
//! Invariants:
//!   * Where checksums are left, whoever reads gets what some commit has left, or an error that
//!     says where the damage is. Without a change to the log it is the last commit.
//!   * Where they are put right, nothing panics and nothing goes on for ever.

use super::layout::Layout;
use super::seals::Seals;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind, Result};
use dostore::ids::Timestamp;
use dostore::inspect::verify;
use dostore::names::FileName;
use dostore::store::commit::Commit;
use dostore::store::list::{Entries, ListOptions};
use dostore::store::reader::Reader;
use dostore::store::transfer::SalvageOptions;
use dostore::store::{Options, Store};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

/// The files of a store.
pub type Files = BTreeMap<FileName, Vec<u8>>;
/// The keys of an object.
type Keys = BTreeMap<Vec<u8>, Vec<u8>>;

const NAMESPACE: &str = "rooms";
const OBJECTS: usize = 8;
const ROUNDS: u8 = 5;
/// The object of many pages.
const LARGE: usize = 7;
const CHANGE_BYTES: usize = 6;
const CHANGES_MAX: usize = 64;
const SECTOR: usize = 512;

/// The store before it is changed.
struct Subject {
    disk: SimDisk,
    files: Files,
    seals: Seals,
    /// What each object was after each of its commits.
    states: Vec<Vec<Keys>>,
}

static SUBJECT: OnceLock<Subject> = OnceLock::new();

fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(1);
    let options = options.epoch(Duration::from_secs(1), 1 << 10, Duration::from_hours(1));
    options.segment_bytes(16 << 10).page_bytes(512).retire_after(Duration::ZERO)
}

fn name(index: usize) -> String {
    format!("room {index}")
}

/// What is listed, whole.
fn keys_of(entries: Result<Entries>) -> Result<Keys> {
    entries?.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

impl Subject {
    fn get() -> &'static Self {
        SUBJECT.get_or_init(|| Self::make().expect("nothing fails here"))
    }

    fn make() -> Result<Self> {
        let disk = SimDisk::new(1);
        let store = options().open_on(disk.clone())?;
        let mut states = vec![vec![Keys::new()]; OBJECTS];
        for round in 0..ROUNDS {
            for (index, states) in states.iter_mut().enumerate() {
                if index == LARGE || index % 3 == usize::from(round) % 3 {
                    commit(&store, index, round, states)?;
                }
            }
            if round == 2 {
                let rooms = store.namespace(NAMESPACE)?;
                rooms.delete(rooms.id_from_name(&name(1)))?.wait()?;
                states[1].push(Keys::new());
            }
            // The last two stay in the log.
            if round + 2 < ROUNDS {
                store.steps().checkpoint()?;
                disk.advance(Duration::from_secs(100));
            }
            if round == 1 {
                store.steps().clean()?;
                while store.steps().merge()? {}
                store.steps().remove_retired()?;
            }
        }
        store.steps().write_mark()?;
        let left = disk.kill();
        drop(store);
        let files: Files = left
            .names()
            .into_iter()
            .filter_map(|name| left.file_bytes(name).map(|bytes| (name, bytes)))
            .collect();
        let seals = Seals::of(&files, &Layout::of(&left));
        Ok(Self { disk: left, files, seals, states })
    }
}

fn commit(store: &Store, index: usize, round: u8, states: &mut Vec<Keys>) -> Result<()> {
    let mut object = store.namespace(NAMESPACE)?.open_by_name(&name(index))?;
    let mut turn = object.turn();
    let keys = if index == LARGE { 0..30 } else { 0..1 + index };
    for key in keys.filter(|key| index != LARGE || key % 5 == usize::from(round)) {
        turn.put(format!("key {key:03}"), format!("{key} of {index} in {round}").repeat(3))?;
    }
    if index == 2 {
        turn.set_alarm(Timestamp(4_000_000_000_000_000 + u64::from(round)))?;
    }
    turn.commit()?.wait()?;
    states.push(keys_of(object.list(ListOptions::new()))?);
    Ok(())
}

/// One change, as an input says it.
struct Change {
    file: usize,
    how: u8,
    at: usize,
    byte: u8,
}

impl Change {
    fn of(bytes: &[u8]) -> Self {
        let at = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], 0]) as usize;
        Self { file: usize::from(bytes[0]), how: bytes[1], at, byte: bytes[5] }
    }

    /// Changes one of the files; gives its name.
    fn apply(&self, files: &mut Files) -> FileName {
        let count = files.len();
        let (name, bytes) = files.iter_mut().nth(self.file % count).expect("below their count");
        if bytes.is_empty() {
            return *name;
        }
        let at = self.at % bytes.len();
        let sector = at / SECTOR * SECTOR..bytes.len().min(at / SECTOR * SECTOR + SECTOR);
        match self.how % 8 {
            0 => bytes[sector].fill(0),
            1 => bytes.truncate(at),
            2 => bytes[sector].fill(self.byte),
            3 => bytes.extend(std::iter::repeat_n(self.byte, self.at % 5_000)),
            4 => {
                // What belongs to another place.
                let from = usize::from(self.byte) * SECTOR % bytes.len();
                let length = sector.len().min(bytes.len() - from);
                bytes.copy_within(from..from + length, sector.start);
            }
            5 => bytes[at] = bytes[at].wrapping_add(self.byte),
            _ => bytes[at] ^= self.byte,
        }
        *name
    }
}

/// Takes one input.
pub fn run(data: &[u8]) {
    let Some((how, changes)) = data.split_first() else { return };
    let is_sealed = how % 2 == 1;
    let subject = Subject::get();
    let mut files = subject.files.clone();
    let mut is_log_hurt = false;
    for change in changes.chunks_exact(CHANGE_BYTES).take(CHANGES_MAX) {
        let name = Change::of(change).apply(&mut files);
        is_log_hurt |= matches!(name, FileName::Wal(_));
    }
    if is_sealed {
        subject.seals.put_right(&mut files);
    }
    let disk = subject.disk.fork();
    for (name, bytes) in files.iter().filter(|(name, bytes)| subject.files[name] != **bytes) {
        disk.replace_file_bytes(*name, bytes.clone());
    }
    let judge = Judge { subject, is_sealed, is_log_hurt };
    judge.write(&disk);
    judge.read(&disk);
    let _ = verify(disk.fork());
    let options = SalvageOptions::new().doubtful(true);
    let fresh = self::options().open_on(SimDisk::new(2)).expect("an empty disk");
    let _ = fresh.salvage_on(disk, &options);
}

/// What may be said of the changed store.
struct Judge {
    subject: &'static Subject,
    is_sealed: bool,
    is_log_hurt: bool,
}

impl Judge {
    fn refused(&self, error: &Error) {
        if !self.is_sealed {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            assert!(error.place().is_some(), "{error:?}");
        }
    }

    fn read_of(&self, index: usize, keys: Result<Keys>) {
        match keys {
            Err(error) => self.refused(&error),
            Ok(_) if self.is_sealed => {}
            Ok(keys) => {
                let states = &self.subject.states[index];
                let may_be =
                    if self.is_log_hurt { &states[..] } else { &states[states.len() - 1..] };
                assert!(may_be.contains(&keys), "object {index} is {keys:?}");
            }
        }
    }

    /// Opens it for writing, reads all of it, and goes on with it.
    fn write(&self, disk: &SimDisk) {
        let store = match options().open_on(disk.fork()) {
            Ok(store) => store,
            Err(error) => return self.refused(&error),
        };
        let rooms = match store.namespace(NAMESPACE) {
            Ok(rooms) => rooms,
            Err(error) => return self.refused(&error),
        };
        for index in 0..OBJECTS {
            let opened = rooms.open_by_name(&name(index));
            self.read_of(index, opened.and_then(|object| keys_of(object.list(ListOptions::new()))));
        }
        if let Ok(mut object) = rooms.open_by_name(&name(0)) {
            let _ = object.put("one", "more").and_then(Commit::wait);
        }
        let steps = store.steps();
        let _ = (steps.checkpoint(), steps.clean(), steps.merge(), store.scrub());
    }

    /// The same beside a writer, as a reader sees it.
    fn read(&self, disk: &SimDisk) {
        let reader = match Reader::open_on(disk.fork()) {
            Ok(reader) => reader,
            Err(error) => return self.refused(&error),
        };
        let Ok(rooms) = reader.namespace(NAMESPACE) else { return };
        for index in 0..OBJECTS {
            let snapshot = rooms.snapshot(rooms.id_from_name(&name(index)));
            let listed = snapshot.and_then(|snapshot| keys_of(snapshot.list(ListOptions::new())));
            self.read_of(index, listed);
        }
    }
}
