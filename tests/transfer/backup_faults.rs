//! Backups that are cut off, that meet errors, and that run beside a busy store.

use crate::backup::back_up;
use crate::world::{Chance, Model, World, content, open, options};
use dostore::disk::sim::{Fault, SimDisk};
use dostore::disk::{Clock, Disk, File, Listed, Lock, Map, MediumError, ReadDisk, ReadFile};
use dostore::disk::{Space, SyncFailed};
use dostore::error::ErrorKind;
use dostore::names::{FileName, Folder};
use dostore::store::backup::BackupOptions;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// What a target holds: the content, or none where it is no store that opens.
fn opened(target: &SimDisk) -> Option<Model> {
    let target = target.fork();
    let refused = match options().create(false).open_on(target) {
        Ok(store) => return Some(content(&store)),
        Err(error) => error.code(),
    };
    let known = ["store.missing", "manifest.missing", "manifest.damaged", "backup.incomplete"];
    assert!(known.contains(&refused), "{refused}");
    None
}

/// A store with two states behind each other; `between` leads from the first to the second.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.commit(25);
    world.work();
    world
}

#[test]
fn g24_a_backup_cut_off_at_any_call_is_no_backup_or_the_one_before_or_complete() {
    let (mut none, mut before, mut complete) = (0, 0, 0);
    for seed in 1..6 {
        let mut world = world(seed);
        let empty = SimDisk::new(seed);
        let mut full = SimDisk::new(seed);
        back_up(&world.store, &full).unwrap();
        full = full.kill();
        let first = world.model.clone();
        world.commit(10);
        world.work();
        world.commit(2);
        for (target, old) in [(empty, None), (full, Some(first))] {
            for calls in 0.. {
                let torn = target.fork();
                torn.crash_after(calls);
                let done = back_up(&world.store, &torn);
                let torn = torn.power_cut();
                let found = opened(&torn);
                match &found {
                    None => none += 1,
                    Some(model) if *model == world.model => complete += 1,
                    Some(_) => before += 1,
                }
                if done.is_ok() {
                    assert_eq!(found.as_ref(), Some(&world.model));
                } else {
                    let is_right = found == old || found.as_ref() == Some(&world.model);
                    assert!(is_right, "seed {seed}, call {calls}: {done:?}");
                }
                // What was cut off is gone on with, whatever is there.
                let again = back_up(&world.store, &torn);
                again.unwrap_or_else(|error| panic!("seed {seed}, call {calls}: {error:?}"));
                assert_eq!(opened(&torn.power_cut()).as_ref(), Some(&world.model));
                if done.is_ok() {
                    break;
                }
            }
        }
    }
    assert!(none > 50 && before > 50 && complete > 20, "{none} {before} {complete}");
}

#[test]
fn a_store_that_is_cut_off_in_a_backup_leaves_the_backup_before_or_the_new_one() {
    for seed in 1..4 {
        let mut world = world(seed);
        let full = SimDisk::new(seed);
        back_up(&world.store, &full).unwrap();
        let (full, first) = (full.kill(), world.model.clone());
        world.commit(10);
        drop(world.store);
        let disk = world.disk.kill();
        for calls in 0.. {
            let (disk, target) = (disk.fork(), full.fork());
            let store = open(&disk);
            disk.crash_after(calls);
            let done = back_up(&store, &target);
            drop(store);
            let target = target.power_cut();
            let found = opened(&target).unwrap();
            assert!(found == first && done.is_err() || found == world.model, "call {calls}");
            let store = open(&disk.power_cut());
            back_up(&store, &target).unwrap();
            assert_eq!(opened(&target.power_cut()).as_ref(), Some(&world.model));
            if done.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn an_error_of_the_target_leaves_the_backup_before_and_the_next_call_succeeds() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::Short, Fault::Interrupted] {
        let mut world = world(20);
        let full = SimDisk::new(20);
        back_up(&world.store, &full).unwrap();
        let (full, first) = (full.kill(), world.model.clone());
        world.commit(10);
        let mut failed = 0;
        for call in 1.. {
            let target = full.fork();
            let calls = target.calls();
            target.fail_call(call, fault);
            let done = back_up(&world.store, &target);
            let is_over = target.calls() - calls < call;
            if let Err(error) = &done {
                failed += 1;
                let kinds = [ErrorKind::Io, ErrorKind::Full];
                assert!(kinds.contains(&error.kind()), "call {call}: {error:?}");
            }
            let target = if call % 2 == 0 { target.kill() } else { target.power_cut() };
            let found = opened(&target).unwrap();
            assert!(found == first && done.is_err() || found == world.model, "call {call}");
            back_up(&world.store, &target).unwrap();
            assert_eq!(opened(&target.power_cut()).as_ref(), Some(&world.model));
            if is_over {
                break;
            }
        }
        assert!(failed > 10, "{fault:?}: {failed}");
    }
}

#[test]
fn a_full_target_is_told_takes_no_space_and_is_gone_on_with_when_there_is_room() {
    let world = world(21);
    for seed in 0..10 {
        let target = SimDisk::new(seed);
        target.set_free_bytes(Chance(seed + 5).below(20_000));
        let error = back_up(&world.store, &target).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Full, "disk.full"));
        assert!(target.names().iter().all(|name| name.number().is_none()), "{:?}", target.names());
        target.set_free_bytes(1 << 30);
        back_up(&world.store, &target).unwrap();
        assert_eq!(opened(&target.power_cut()).as_ref(), Some(&world.model));
    }
}

type Hook = Arc<Mutex<dyn FnMut(FileName) + Send>>;

/// A target on which something happens before each file is made, and which may write a wrong byte.
#[derive(Clone)]
struct Hooked {
    disk: SimDisk,
    hook: Hook,
    is_wrong: bool,
}

impl fmt::Debug for Hooked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(out)
    }
}

#[derive(Debug)]
struct WrongFile(Arc<dyn File>);

impl ReadFile for WrongFile {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn map(&self, bytes: u64) -> io::Result<Arc<dyn Map>> {
        self.0.map(bytes)
    }
}

impl File for WrongFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut wrong = bytes.to_vec();
        // In the padding of a header block, where nobody else would ever look.
        if let Some(byte) = wrong.get_mut(3000) {
            *byte ^= 1;
        }
        self.0.write_at(&wrong, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }

    fn start_writeback(&self, range: Range<u64>) -> io::Result<()> {
        self.0.start_writeback(range)
    }

    fn sync(&self) -> Result<(), SyncFailed> {
        self.0.sync()
    }
}

impl ReadDisk for Hooked {
    fn open(&self, name: FileName) -> io::Result<Arc<dyn ReadFile>> {
        self.disk.open(name)
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

impl Disk for Hooked {
    fn lock(&self) -> io::Result<Result<Box<dyn Lock>, String>> {
        self.disk.lock()
    }

    fn make_folders(&self) -> io::Result<()> {
        self.disk.make_folders()
    }

    fn create(&self, name: FileName) -> io::Result<Arc<dyn File>> {
        (self.hook.lock().unwrap())(name);
        let file = self.disk.create(name)?;
        let is_wrong = self.is_wrong && name.number().is_some();
        Ok(if is_wrong { Arc::new(WrongFile(file)) } else { file })
    }

    fn open_medium(&self, name: FileName) -> Result<Arc<dyn ReadFile>, MediumError> {
        self.disk.open_medium(name)
    }

    fn rename(&self, from: FileName, to: FileName) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_folder(&self, folder: Folder) -> Result<(), SyncFailed> {
        self.disk.sync_folder(folder)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random(bytes)
    }
}

#[test]
fn g24_commits_and_files_that_go_while_a_backup_runs_do_not_show_in_it() {
    for seed in 30..36 {
        let mut world = world(seed);
        world.commit(15);
        let model = world.model.clone();
        let store = world.store.clone();
        let disk = world.disk.clone();
        let busy = Arc::new(Mutex::new(world));
        let worker = Arc::clone(&busy);
        let hook: Hook = Arc::new(Mutex::new(move |name: FileName| {
            let mut world = worker.lock().unwrap();
            if name.number().is_some() {
                world.commit(10);
                world.work();
            }
        }));
        let target = SimDisk::new(seed);
        let hooked = Hooked { disk: target.clone(), hook, is_wrong: false };
        let backup = store.backup_on(hooked, BackupOptions::new()).unwrap();
        assert!(backup.files_copied > 2 && busy.lock().unwrap().last > backup.position.lsn);
        assert_eq!(opened(&target.power_cut()), Some(model));
        // What was held for the backup goes now.
        assert!(store.steps().remove_retired().unwrap() > 0);
        drop(disk);
    }
}

#[test]
fn what_does_not_read_back_as_it_was_copied_fails_the_backup() {
    let world = world(40);
    let target = SimDisk::new(40);
    let hook: Hook = Arc::new(Mutex::new(|_| {}));
    let hooked = Hooked { disk: target.clone(), hook, is_wrong: true };
    let error = world.store.backup_on(hooked, BackupOptions::new()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "backup.copy"));
    assert_eq!(opened(&target.power_cut()), None);
}
