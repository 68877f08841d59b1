//! Objects whose head cannot be read when the store is opened, though the log has commits of them:
//! what only the head says is an error, for as long as it cannot be read, and then it is there.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use dostore::disk::sim::{Damage, SimDisk};
use dostore::error::Error;
use dostore::format::run::RunUse;
use dostore::ids::Timestamp;
use dostore::limits::Limits;
use dostore::manifest;
use dostore::names::FileName;
use dostore::run::Run;
use dostore::store::list::ListOptions;
use dostore::store::namespace::Namespace;
use dostore::store::object::Object;
use dostore::store::reader::Reader;
use dostore::store::restore::RestoreOptions;
use dostore::store::transfer::{Form, ImportOptions};
use dostore::store::{Options, Store};
use std::io;
use std::time::Duration;

const SECOND: u64 = 1_000_000;
const START: u64 = 1_700_000_000 * SECOND;
/// When the alarm of the lobby is due.
const DUE: Timestamp = Timestamp(START + 1_000 * SECOND);
const SECTOR_BYTES: u64 = 512;
/// So many others that their heads fill more than a sector.
const OTHERS: u32 = 60;
const LOBBY: &str = "lobby";

fn options() -> Options {
    // The import of a test takes several commits.
    let limits = Limits { commit_operations: 11, ..Limits::default() };
    Store::options().threads(false).wal_file_bytes(64 << 10).pool_files(0).limits(limits)
}

fn code<T>(result: Result<T, Error>) -> &'static str {
    result.map(drop).unwrap_err().code()
}

/// A store on a disk that gives back the entries of the directory, or does not.
struct Stage {
    disk: SimDisk,
    store: Store,
    rooms: Namespace,
    lost: Vec<(FileName, u64)>,
}

impl Stage {
    fn open(disk: SimDisk, lost: Vec<(FileName, u64)>) -> Self {
        let store = options().open_on(disk.clone()).unwrap();
        let rooms = store.namespace("rooms").unwrap();
        Self { disk, store, rooms, lost }
    }

    /// A store whose lobby has an alarm, and what `before` has made of it, in pages; and in the log
    /// what `after` has. It is opened while no entry of the directory can be read.
    fn new(seed: u64, before: impl FnOnce(&mut Object), after: impl FnOnce(&mut Object)) -> Self {
        let disk = SimDisk::new(seed);
        disk.set_wall(START);
        let stage = Self::open(disk, Vec::new());
        for other in 0..OTHERS {
            let mut other = stage.rooms.open_by_name(&format!("other {other}")).unwrap();
            other.put("key", "value").unwrap().detach();
        }
        let mut lobby = stage.lobby().unwrap();
        lobby.put("key", "value").unwrap().wait().unwrap();
        let mut turn = lobby.turn();
        turn.set_alarm(DUE).unwrap();
        turn.commit_durable().unwrap();
        before(&mut lobby);
        stage.store.steps().checkpoint().unwrap();
        after(&mut lobby);
        lobby.sync().unwrap().wait().unwrap();
        drop(lobby);
        stage.reopened_without_heads()
    }

    fn reopened_without_heads(self) -> Self {
        let Self { disk, store, rooms, .. } = self;
        let disk = disk.kill();
        drop((rooms, store));
        let lost = directory_sectors(&disk);
        for (name, sector) in &lost {
            disk.damage(*name, Damage::Unreadable(*sector)).unwrap();
        }
        Self::open(disk, lost)
    }

    /// The medium gives back everything.
    fn heal(&self) {
        for (name, sector) in &self.lost {
            self.disk.damage(*name, Damage::Readable(*sector)).unwrap();
        }
    }

    fn lobby(&self) -> Result<Object, Error> {
        self.rooms.open_by_name(LOBBY)
    }

    fn pass(&self, seconds: u64) {
        self.disk.advance(Duration::from_secs(seconds));
    }

    /// The alarm of the lobby fires now, and is left as it is.
    #[track_caller]
    fn fires(&self) {
        let fired = self.store.alarms().try_next().unwrap().expect("the alarm is due");
        assert_eq!(
            (fired.object_name().unwrap().as_deref(), fired.scheduled()),
            (Some(LOBBY), DUE)
        );
    }

    fn crashed(self) -> Self {
        let Self { disk, store, rooms, lost } = self;
        let disk = disk.power_cut();
        drop((rooms, store));
        Self::open(disk, lost)
    }
}

/// The first sector of each block of entries.
fn directory_sectors(disk: &SimDisk) -> Vec<(FileName, u64)> {
    let manifest = manifest::read(disk).unwrap().unwrap();
    let mut sectors = Vec::new();
    for facts in manifest.runs.iter().filter(|run| run.usage == RunUse::Directory) {
        let run = Run::open(disk, manifest.store, facts).unwrap();
        let first = |block| run.block_at(block).0.start / SECTOR_BYTES;
        sectors.extend((0..run.blocks()).map(|block| (run.name(), first(block))));
    }
    sectors
}

fn put_other(lobby: &mut Object) {
    lobby.put("other", "more").unwrap().detach();
}

fn empty_but_for_the_alarm(lobby: &mut Object) {
    let mut turn = lobby.turn();
    turn.delete_all_keeping_alarms().unwrap().put("other", "more").unwrap();
    turn.commit().unwrap().detach();
}

#[test]
fn an_alarm_fires_though_its_object_could_not_be_read_at_the_open() {
    for is_due_before in [false, true] {
        let stage = Stage::new(1, |_| {}, put_other);
        if is_due_before {
            stage.pass(1_001);
            for _ in 0..3 {
                assert_eq!(code(stage.store.alarms().try_next()), "run.unreadable");
                assert!(stage.store.alarms().try_next().unwrap().is_none(), "not each moment");
                stage.pass(60);
            }
            stage.heal();
        } else {
            stage.heal();
            stage.pass(1_001);
        }
        stage.fires();
        assert!(stage.store.steps().checkpoint().unwrap());
        let stage = stage.crashed();
        stage.fires();
        let lobby = stage.lobby().unwrap();
        assert_eq!(lobby.alarm().unwrap(), Some(DUE));
        assert_eq!(lobby.list(ListOptions::new()).unwrap().count(), 2);
    }
}

#[test]
fn what_only_the_head_says_is_an_error_until_it_can_be_read() {
    let stage = Stage::new(2, |_| {}, put_other);
    let id = stage.rooms.id_from_name(LOBBY);
    assert_eq!(code(stage.lobby()), "run.unreadable");
    assert_eq!(code(stage.rooms.snapshot(id)), "run.unreadable");
    assert_eq!(code(stage.rooms.cancel_restore(id)), "run.unreadable");
    let mut reader = Reader::open_on(stage.disk.clone()).unwrap();
    for is_healed in [false, true] {
        if is_healed {
            stage.heal();
            reader.refresh().unwrap();
        }
        let shown = reader.namespace("rooms").unwrap().snapshot(id);
        let alarms: Vec<_> = reader.alarms().unwrap().collect();
        if is_healed {
            assert_eq!(shown.unwrap().alarm().unwrap(), Some(DUE));
            assert_eq!(alarms.into_iter().flatten().count(), 1);
        } else {
            assert_eq!(code(shown), "run.unreadable");
            assert!(alarms.iter().all(Result::is_err) && !alarms.is_empty());
        }
    }
    assert_eq!(stage.lobby().unwrap().alarm().unwrap(), Some(DUE));
    assert_eq!(stage.rooms.snapshot(id).unwrap().alarm().unwrap(), Some(DUE));
}

#[test]
fn an_alarm_that_a_deletion_keeps_is_kept_though_it_could_not_be_read() {
    let stage = Stage::new(3, |_| {}, empty_but_for_the_alarm);
    // A life that began behind the head says whether it is whole.
    let lobby = stage.lobby().unwrap();
    assert_eq!(&*lobby.get("other").unwrap().unwrap(), b"more");
    assert!(lobby.get("key").unwrap().is_none());
    assert_eq!(code(lobby.alarm()), "run.unreadable");
    assert_eq!(code(lobby.alarms()), "run.unreadable");
    stage.heal();
    assert_eq!(lobby.alarm().unwrap(), Some(DUE));
    assert!(stage.store.steps().checkpoint().unwrap());
    assert_eq!(lobby.alarm().unwrap(), Some(DUE), "while a handle is open");
    stage.pass(1_001);
    stage.fires();
    drop(lobby);
    let stage = stage.crashed();
    stage.fires();
    assert_eq!(stage.lobby().unwrap().alarm().unwrap(), Some(DUE));
}

#[test]
fn a_head_that_was_given_up_leaves_no_alarm_and_no_none() {
    for ends_life in [false, true] {
        let after = if ends_life { empty_but_for_the_alarm } else { put_other };
        let stage = Stage::new(4, |_| {}, after);
        assert!(stage.store.steps().checkpoint().unwrap());
        stage.heal();
        let stage = stage.crashed();
        let id = stage.rooms.id_from_name(LOBBY);
        stage.pass(1_001);
        assert_eq!(code(stage.store.alarms().try_next()), "object.lost");
        stage.pass(60);
        assert_eq!(code(stage.store.alarms().try_next()), "object.lost", "again and again");
        let infos: Vec<_> = stage.rooms.objects().collect();
        assert_eq!(infos.iter().filter(|info| info.is_err()).count(), 1);
        if ends_life {
            let mut lobby = stage.lobby().unwrap();
            assert_eq!(code(lobby.alarm()), "object.lost");
            let mut turn = lobby.turn();
            turn.clear_alarm().unwrap();
            turn.commit_durable().unwrap();
            assert_eq!(lobby.alarm().unwrap(), None, "a commit has said it");
        } else {
            assert_eq!(code(stage.lobby()), "object.lost");
            stage.rooms.delete(id).unwrap().wait().unwrap();
        }
        assert!(stage.store.steps().checkpoint().unwrap());
        let stage = stage.crashed();
        stage.pass(60);
        assert!(stage.store.alarms().try_next().unwrap().is_none());
        assert_eq!(stage.lobby().unwrap().alarm().unwrap(), None);
        let left = usize::from(ends_life);
        assert_eq!(
            stage.rooms.snapshot(id).unwrap().list(ListOptions::new()).unwrap().count(),
            left
        );
    }
}

#[test]
fn a_fork_is_not_made_over_an_alarm_that_cannot_be_read() {
    let nothing = |lobby: &mut Object| {
        let mut turn = lobby.turn();
        turn.delete_all_keeping_alarms().unwrap();
        turn.commit().unwrap().detach();
    };
    let stage = Stage::new(5, |_| {}, nothing);
    let mut source = stage.rooms.open_by_name("source").unwrap();
    source.put("key", "forked").unwrap().wait().unwrap();
    let then = source.current_bookmark().unwrap();
    let fork = || {
        let id = stage.rooms.id_from_name("source");
        stage.rooms.fork_by_name(id, &then, &stage.rooms, LOBBY, RestoreOptions::new())
    };
    assert_eq!(code(fork()), "run.unreadable");
    stage.heal();
    assert_eq!(code(fork()), "fork.occupied");
}

#[test]
fn a_restoration_that_waits_is_made_though_it_could_not_be_read() {
    let wait = |lobby: &mut Object| {
        let then = lobby.current_bookmark().unwrap();
        lobby.put("key", "later").unwrap().wait().unwrap();
        lobby.restore_on_next_open(&then).unwrap().0.detach();
    };
    let stage = Stage::new(6, wait, put_other);
    assert_eq!(code(stage.lobby()), "run.unreadable");
    stage.heal();
    let lobby = stage.lobby().unwrap();
    assert_eq!(&*lobby.get("key").unwrap().unwrap(), b"value");
    assert!(lobby.get("other").unwrap().is_none());
}

/// A stream of a room with many keys.
fn stream() -> Vec<u8> {
    let store = options().open_on(SimDisk::new(9)).unwrap();
    let mut room = store.namespace("rooms").unwrap().open_by_name("imported").unwrap();
    for key in 0..60 {
        room.put(format!("{key:04}"), vec![b'x'; 2_000]).unwrap().detach();
    }
    drop(room);
    let mut stream = Vec::new();
    store.export(Form::Text, &mut stream).unwrap();
    stream
}

/// Gives a third of a stream, makes a checkpoint, and ends with the second third.
struct CutOff<'s> {
    stream: &'s [u8],
    at: usize,
    store: &'s Store,
}

impl io::Read for CutOff<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let third = self.stream.len() / 3;
        if self.at == third {
            self.store.steps().checkpoint().unwrap();
        }
        let end = if self.at < third { third } else { 2 * third };
        let bytes = out.len().min(end - self.at);
        out[..bytes].copy_from_slice(&self.stream[self.at..][..bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

#[test]
fn a_half_import_is_not_shown_though_its_mark_could_not_be_read() {
    let stage = Stage::new(7, |_| {}, put_other);
    stage.heal();
    let stream = stream();
    let half = CutOff { stream: &stream, at: 0, store: &stage.store };
    stage.store.import(half, ImportOptions::new()).unwrap_err();
    let stage = stage.reopened_without_heads();
    let id = stage.rooms.id_from_name("imported");
    assert!(stage.store.report().records_replayed > 0, "the log has pieces of it");
    assert_eq!(code(stage.rooms.open(id)), "run.unreadable");
    assert_eq!(code(stage.rooms.snapshot(id)), "run.unreadable");
    stage.heal();
    assert_eq!(code(stage.rooms.open(id)), "object.unfinished");
    assert_eq!(code(stage.rooms.snapshot(id)), "object.unfinished");
    assert!(stage.store.steps().checkpoint().unwrap());
    assert_eq!(code(stage.rooms.open(id)), "object.unfinished");
    stage.store.import(&*stream, ImportOptions::new()).unwrap();
    let room = stage.rooms.open(id).unwrap();
    assert_eq!(room.list(ListOptions::new()).unwrap().count(), 60);
}
