//! Golden stores: tiny, with something of everything, made anew for each run and the same each
//! time; and an examination of all that can be asked of one.
//!
//! Invariants:
//!   * Files of the log end a block behind what was written into them, and their headers say so:
//!     zeros behind that are like those before.
//!   * Both who reads and who writes is asked every question, present and past.

use dostore::bookmark::Bookmark;
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, Result};
use dostore::format::group::WalHeader;
use dostore::ids::{Address, ObjectId, Timestamp};
use dostore::names::FileName;
use dostore::store::list::ListOptions;
use dostore::store::reader::Reader;
use dostore::store::snapshot::Snapshot;
use dostore::store::{Options, Store};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// A store and what there is to ask of it.
pub struct Golden {
    pub name: &'static str,
    pub disk: SimDisk,
    pub objects: Vec<Known>,
    /// Whether pages are named by the log that no manifest names.
    pub is_adopting: bool,
}

/// An object of a golden store.
pub struct Known {
    pub namespace: &'static str,
    pub id: ObjectId,
    pub address: Address,
    pub moments: Vec<Bookmark>,
}

/// What a question is about: an object of the list, now or in the past, or the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Now(usize),
    Name(usize),
    Past(usize),
    Listing,
    Alarms,
}

/// Answers as text, in a fixed order.
pub type Answers = Vec<(Question, Result<String>)>;

pub fn options() -> Options {
    let options = Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0);
    let options = options.epoch(Duration::from_secs(1), 1 << 10, Duration::from_hours(1));
    options.segment_bytes(16 << 10).page_bytes(512).retire_after(Duration::ZERO)
}

struct Making {
    disk: SimDisk,
    store: Store,
    objects: Vec<Known>,
}

impl Making {
    fn new(seed: u64, options: Options) -> Self {
        let disk = SimDisk::new(seed);
        let store = options.open_on(disk.clone()).unwrap();
        Self { disk, store, objects: Vec::new() }
    }

    /// A commit of these keys, whose moment is noted.
    fn put(&mut self, namespace: &'static str, name: &str, keys: std::ops::Range<u32>, round: u64) {
        let space = self.store.namespace(namespace).unwrap();
        let mut object = space.open_by_name(name).unwrap();
        let mut turn = object.turn();
        for key in keys {
            turn.put(format!("key/{key:03}"), format!("{name}, {key}, round {round}")).unwrap();
        }
        if namespace == "alarms" {
            let at = Timestamp(4_000_000_000_000_000 + round);
            turn.set_alarm(at).unwrap();
            turn.set_named_alarm("tick", at).unwrap();
        }
        let bookmark = turn.commit().unwrap().bookmark();
        let id = object.id();
        let known = self.objects.iter_mut().find(|known| known.id == id);
        if let Some(known) = known {
            known.moments.push(bookmark);
        } else {
            let address = address(namespace, id);
            self.objects.push(Known { namespace, id, address, moments: vec![bookmark] });
        }
    }

    fn round(&mut self, round: u64) {
        self.put("rooms", "one", 0..2, round);
        if round.is_multiple_of(2) {
            self.put("rooms", "two", 0..3, round);
            self.put("rooms", "large", (round as u32) * 4..30, round);
        } else {
            self.put("alarms", "clock", 0..1, round);
        }
    }

    fn end(self, name: &'static str, is_closed: bool) -> Golden {
        let Self { disk, store, objects } = self;
        if is_closed {
            store.close().unwrap();
        } else {
            store.steps().write_group().unwrap();
            store.steps().write_mark().unwrap();
            drop(store);
        }
        let disk = disk.kill();
        trim(&disk);
        Golden { name, disk, objects, is_adopting: name == "adopting" }
    }
}

/// Namespaces are made in this order.
fn address(namespace: &str, id: ObjectId) -> Address {
    let number = if namespace == "rooms" { 1_u32 } else { 2 };
    let hex = id.to_string();
    let half = (0..16).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
    let bytes: Vec<u8> = number.to_be_bytes().into_iter().chain(half).collect();
    Address::from_bytes(&bytes).unwrap()
}

fn trim(disk: &SimDisk) {
    for name in disk.names().into_iter().filter(|name| matches!(name, FileName::Wal(_))) {
        let mut bytes = disk.file_bytes(name).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used.next_multiple_of(4096) + 4096);
        if let Ok(header) = WalHeader::decode(&bytes[..4096]) {
            let header = WalHeader { bytes: bytes.len() as u64, ..header };
            bytes[..4096].copy_from_slice(&header.encode());
        }
        disk.replace_file_bytes(name, bytes);
    }
}

/// Checkpoints, a merge, history, two terms, a live log and a file ready for it.
fn live() -> Golden {
    let mut making = Making::new(1, options());
    for round in 0..3 {
        making.round(round);
        making.store.steps().checkpoint().unwrap();
        making.disk.advance(Duration::from_secs(100));
        if round == 1 {
            while making.store.steps().merge().unwrap() {}
            making.store.steps().clean().unwrap();
            making.store.steps().remove_retired().unwrap();
        }
    }
    let Making { disk, store, objects } = making;
    drop(store);
    let disk = disk.kill();
    let store = options().open_on(disk.clone()).unwrap();
    let mut making = Making { disk, store, objects };
    making.put("alarms", "clock", 0..2, 6);
    making.store.steps().write_group().unwrap();
    making.put("rooms", "three", 0..2, 6);
    making.store.steps().prepare_file().unwrap();
    making.end("live", false)
}

/// Closed, so that all is in pages.
fn closed() -> Golden {
    let mut making = Making::new(2, options());
    making.put("rooms", "one", 0..2, 0);
    making.end("closed", true)
}

/// A restoration whose pages are named by its commit in the log.
fn adopting() -> Golden {
    let mut making = Making::new(3, options().adopt_operations(0));
    making.put("rooms", "one", 0..2, 0);
    making.put("rooms", "large", 0..20, 0);
    making.put("rooms", "large", 10..30, 1);
    making.store.steps().checkpoint().unwrap();
    let rooms = making.store.namespace("rooms").unwrap();
    let large = making.objects.iter_mut().find(|known| known.moments.len() == 2).unwrap();
    rooms.restore(large.id, &large.moments[0]).unwrap().commit.wait().unwrap();
    large.moments.push(rooms.current_bookmark(large.id).unwrap());
    drop(rooms);
    making.put("rooms", "one", 1..2, 2);
    making.end("adopting", false)
}

pub fn all() -> Vec<Golden> {
    vec![live(), closed(), adopting()]
}

fn told(snapshot: &Snapshot) -> Result<String> {
    let mut text = format!("{} {:?};", snapshot.last_lsn(), snapshot.alarm_states()?);
    for entry in snapshot.list(ListOptions::new())? {
        let (key, value) = entry?;
        let _ = write!(text, " {}={}", key.escape_ascii(), value.escape_ascii());
    }
    Ok(text)
}

/// The same questions to either kind of open store.
macro_rules! ask {
    ($store:expr, $golden:expr, $answers:expr) => {
        for (index, known) in $golden.objects.iter().enumerate() {
            let space = match $store.namespace(known.namespace) {
                Ok(space) => space,
                Err(error) => {
                    $answers.push((Question::Listing, Err(error)));
                    continue;
                }
            };
            let snapshot = space.snapshot(known.id);
            let now = snapshot.as_ref().map_err(Error::clone).and_then(told);
            $answers.push((Question::Now(index), now));
            let name = snapshot.and_then(|it| it.name()).map(|name| format!("{name:?}"));
            $answers.push((Question::Name(index), name));
            for moment in &known.moments {
                let then = space.at(known.id, moment).and_then(|then| told(&then));
                $answers.push((Question::Past(index), then));
            }
            let commits = space.history(known.id, ..).and_then(|history| {
                let entry = |entry: Result<_>| entry.map(|entry| format!("{entry:?}"));
                history.map(entry).collect::<Result<Vec<_>>>()
            });
            $answers.push((Question::Past(index), commits.map(|commits| commits.join("\n"))));
        }
        let names: BTreeSet<_> = $golden.objects.iter().map(|known| known.namespace).collect();
        for name in names {
            let Ok(space) = $store.namespace(name) else { continue };
            let objects = space.objects().map(|info| info.map(|info| format!("{info:?}")));
            let objects = objects.collect::<Result<Vec<_>>>().map(|all| all.join("\n"));
            $answers.push((Question::Listing, objects));
        }
    };
}

impl Golden {
    /// What a store says that is open for writing.
    pub fn ask_writer(&self, store: &Store) -> Answers {
        let mut answers = Answers::new();
        ask!(store, self, answers);
        let due = store.alarms().next_due().map(|due| format!("{due:?}"));
        answers.push((Question::Alarms, due));
        answers
    }

    /// What a store says that is open for reading.
    pub fn ask_reader(&self, reader: &Reader) -> Answers {
        let mut answers = Answers::new();
        ask!(reader, self, answers);
        let set = reader.alarms().and_then(|alarms| {
            let told = |alarm: Result<dostore::store::reader_alarms::SetAlarm>| {
                let alarm = alarm?;
                Ok(format!("{} {:?} {:?}", alarm.object, alarm.name, alarm.alarm))
            };
            alarms.map(told).collect::<Result<Vec<_>>>()
        });
        answers.push((Question::Alarms, set.map(|set| set.join("\n"))));
        answers
    }
}
