//! What the simulated disk promises, and what it does not.
//!
//! Invariants:
//!   * Whatever depends on chance is asked of many seeds.

use super::*;
use crate::disk::{read_exact_at, write_all_at};
use crate::ids::FileNumber;
use std::sync::atomic::{AtomicU64, Ordering};

const LOSE_ALL: Crash =
    Crash { sectors: KeepSectors::Nothing, length: KeepLength::Old, names: KeepNames::Nothing };
const KEEP_ALL: Crash = Crash {
    sectors: KeepSectors::Everything,
    length: KeepLength::New,
    names: KeepNames::Everything,
};

fn wal(number: u64) -> FileName {
    FileName::Wal(FileNumber(number))
}

fn machine(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.make_folders().unwrap();
    disk.sync_folder(Folder::Root).unwrap();
    disk
}

/// A file whose name and first bytes are durable.
fn settled(disk: &SimDisk, name: FileName, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(name).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_folder(name.folder()).unwrap();
    file
}

#[test]
fn a_name_is_lost_without_a_sync_of_its_folder() {
    let disk = machine(1);
    let file = disk.create(wal(1)).unwrap();
    write_all_at(&*file, &[1; 600], 0).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.names(), [wal(1)]);
    assert_eq!(disk.fork().kill().names(), [wal(1)]);
    assert_eq!(disk.fork().power_cut_keeping(KEEP_ALL).names(), [wal(1)]);
    assert_eq!(disk.power_cut_keeping(LOSE_ALL).names(), []);
    assert_eq!(file.bytes().unwrap_err().kind(), io::ErrorKind::Other);
}

#[test]
fn bytes_are_lost_without_a_sync_of_the_file() {
    let disk = machine(1);
    let file = disk.create(wal(1)).unwrap();
    disk.set_faults(Faults { write_back: 0.0, ..Faults::none() });
    write_all_at(&*file, &[1; 600], 0).unwrap();
    disk.sync_folder(Folder::Wal).unwrap();
    let killed = disk.fork().kill();
    assert_eq!(killed.file_bytes(wal(1)).unwrap(), [1; 600]);
    let zeros = disk.fork().power_cut_keeping(Crash { length: KeepLength::New, ..LOSE_ALL });
    assert_eq!(zeros.file_bytes(wal(1)).unwrap(), [0; 600]);
    assert!(disk.power_cut_keeping(LOSE_ALL).file_bytes(wal(1)).unwrap().is_empty());
}

#[test]
fn what_was_synced_survives_every_power_cut() {
    for seed in 0..200 {
        let disk = machine(seed);
        let file = settled(&disk, wal(1), &[1; 10_000]);
        let cut = disk.power_cut();
        assert_eq!(cut.file_bytes(wal(1)).unwrap(), [1; 10_000]);
        assert!(file.write_at(&[2], 0).is_err());
    }
}

#[test]
fn a_folder_that_is_not_synced_is_lost_with_all_in_it() {
    let disk = SimDisk::new(1);
    disk.make_folders().unwrap();
    settled(&disk, wal(1), b"x");
    let cut = disk.power_cut_keeping(LOSE_ALL);
    assert_eq!(cut.list(Folder::Wal).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(cut.create(wal(1)).is_err());
}

#[test]
fn a_power_cut_keeps_any_sectors_but_each_whole() {
    let mut mixed = 0;
    for seed in 0..300 {
        let disk = machine(seed);
        let file = settled(&disk, wal(1), &[1; 8192]);
        write_all_at(&*file, &[2; 8000], 100).unwrap();
        let bytes = disk.power_cut().file_bytes(wal(1)).unwrap();
        let mut new = vec![1; 8192];
        new[100..8100].fill(2);
        let sectors = bytes.chunks(512).zip(new.chunks(512));
        let kept = sectors.clone().filter(|(have, new)| have == new).count();
        assert!(sectors.clone().all(|(have, new)| have == new || have == [1; 512]));
        mixed += usize::from(kept > 1 && kept < 15);
    }
    assert!(mixed > 50, "{mixed}");
}

#[test]
fn a_failed_sync_loses_bytes_though_the_next_one_succeeds() {
    let (mut lost, mut reverted) = (0, 0);
    for seed in 0..100 {
        let disk = machine(seed);
        let file = settled(&disk, wal(1), &[1; 4096]);
        disk.set_faults(Faults { sync_reverts: 0.3, evict: 0.0, ..Faults::none() });
        write_all_at(&*file, &[2; 4096], 0).unwrap();
        disk.fail_call(1, if seed % 2 == 0 { Fault::Io } else { Fault::NoSpace });
        let SyncFailed(error) = file.sync().unwrap_err();
        assert_eq!(error.kind() == io::ErrorKind::StorageFull, seed % 2 == 1);
        file.sync().unwrap();
        let mut seen = [0; 4096];
        read_exact_at(&*file, &mut seen, 0).unwrap();
        let again = disk.kill();
        let mut medium = [0; 4096];
        let file = again.open(wal(1)).unwrap();
        read_exact_at(&*file, &mut medium, 0).unwrap();
        assert_eq!(medium, seen, "a new process sees what the old one saw");
        let file = again.open_medium(wal(1)).unwrap();
        read_exact_at(&*file, &mut medium, 0).unwrap();
        assert_eq!(again.power_cut().file_bytes(wal(1)).unwrap(), medium);
        lost += usize::from(seen == [2; 4096] && medium != seen);
        reverted += usize::from(seen != [2; 4096]);
    }
    assert!(lost > 20 && reverted > 5, "{lost} {reverted}");
}

#[test]
fn a_write_back_that_fails_is_told_once_by_a_later_sync_of_any_descriptor() {
    let mut told_elsewhere = 0;
    for seed in 0..40 {
        let disk = machine(seed);
        let file = settled(&disk, wal(1), &[1; 4096]);
        disk.set_faults(Faults { write_back_fails: 1.0, ..Faults::none() });
        write_all_at(&*file, &[2; 4096], 0).unwrap();
        file.start_writeback(0..4096).unwrap();
        disk.set_faults(Faults::none());
        let disk = if seed % 2 == 0 { disk.kill() } else { disk };
        let told = match disk.open_medium(wal(1)) {
            Err(MediumError::Sync(_)) => true,
            opened => opened.is_err(),
        };
        assert_eq!(told, disk.late_errors() == 1);
        told_elsewhere += usize::from(told);
        assert!(disk.open_medium(wal(1)).is_ok(), "told once");
        let mut medium = [0; 4096];
        read_exact_at(&*disk.open(wal(1)).unwrap(), &mut medium, 0).unwrap();
        assert_eq!(told, medium != [2; 4096], "what was lost was told");
    }
    assert!(told_elsewhere > 30, "{told_elsewhere}");
}

#[test]
fn descriptors_run_out_and_come_back_and_maps_need_none() {
    let disk = machine(1);
    let file = settled(&disk, wal(1), b"x");
    disk.set_faults(Faults { descriptors: 2, ..Faults::none() });
    let other = disk.open(wal(1)).unwrap();
    let refused = disk.create(wal(2)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    assert!(!disk.names().contains(&wal(2)) && disk.open_medium(wal(1)).is_err());
    let map = file.map(1).unwrap();
    drop((file, other));
    assert!(disk.open(wal(1)).is_ok() && disk.create(wal(2)).is_ok());
    assert_eq!(&*map.slice(0..1).unwrap(), b"x");
}

#[test]
fn a_rename_leaves_the_old_target_or_the_new_one() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let disk = machine(seed);
        settled(&disk, FileName::Manifest, b"old");
        settled(&disk, FileName::ManifestTemporary, b"new");
        disk.rename(FileName::ManifestTemporary, FileName::Manifest).unwrap();
        assert_eq!(disk.file_bytes(FileName::Manifest).unwrap(), b"new");
        let cut = disk.power_cut();
        let bytes = cut.file_bytes(FileName::Manifest).unwrap();
        assert!(bytes == b"old" || bytes == b"new");
        outcomes.insert((bytes, cut.names().len()));
    }
    assert_eq!(outcomes.len(), 4, "old and new, with and without the temporary: {outcomes:?}");
}

#[test]
fn one_holds_the_lock_until_it_is_dropped_or_killed() {
    let disk = machine(1);
    let lock = disk.lock().unwrap().unwrap();
    let other = disk.clone();
    let holder = other.lock().unwrap().unwrap_err();
    assert_eq!(other.lock_holder().unwrap(), Some(holder));
    drop(lock);
    assert_eq!(other.lock_holder().unwrap(), None);
    let lock = other.lock().unwrap().unwrap();
    let disk = disk.kill();
    let second = disk.lock().unwrap().unwrap();
    drop(lock);
    assert!(disk.lock().unwrap().is_err(), "a dead lock does not free a new one");
    drop(second);
}

#[test]
fn space_runs_out_but_not_inside_what_was_allocated() {
    let disk = machine(1);
    let file = disk.create(wal(1)).unwrap();
    disk.set_free_bytes(10_000);
    assert_eq!(file.allocate(12_000).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.allocate(4096).unwrap();
    let other = disk.create(wal(2)).unwrap();
    assert_eq!(other.write_at(&[1; 9000], 0).unwrap(), 4096);
    assert_eq!(other.write_at(&[1], 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.set_faults(Faults { no_space: 1.0, ..Faults::none() });
    assert_eq!(file.write_at(&[1; 4096], 0).unwrap(), 4096);
    disk.set_faults(Faults::none());
    disk.remove(wal(2)).unwrap();
    file.allocate(8192).unwrap_err();
    drop(other);
    file.allocate(8192).unwrap();
    let mut bytes = [1; 4096];
    read_exact_at(&*file, &mut bytes, 4096).unwrap();
    assert_eq!(bytes, [0; 4096]);
}

#[test]
fn the_chosen_call_fails_and_short_calls_are_finished_by_the_helpers() {
    let disk = machine(1);
    let file = disk.create(wal(1)).unwrap();
    disk.fail_call(2, Fault::Io);
    file.write_at(&[1; 10], 0).unwrap();
    assert!(file.write_at(&[1; 10], 0).is_err());
    disk.fail_call(1, Fault::Short);
    assert!(file.write_at(&vec![1; 64 << 10], 0).unwrap() < 64 << 10);
    assert_eq!(disk.fault_log().len(), 2);
    disk.set_faults(Faults {
        read_short: 0.5,
        write_short: 0.5,
        interrupted: 0.3,
        ..Faults::none()
    });
    for start in 0..50 {
        write_all_at(&*file, &[start as u8; 900], start * 700).unwrap();
        let mut bytes = [0; 900];
        read_exact_at(&*file, &mut bytes, start * 700).unwrap();
        assert_eq!(bytes, [start as u8; 900]);
    }
}

#[test]
fn after_the_power_failed_every_call_fails_and_the_last_may_have_taken_effect() {
    let mut effects = 0;
    for seed in 0..50 {
        let disk = machine(seed);
        settled(&disk, FileName::ManifestTemporary, b"x");
        disk.crash_after(1);
        assert!(disk.list(Folder::Root).is_ok() && !disk.is_off());
        assert!(disk.rename(FileName::ManifestTemporary, FileName::Manifest).is_err());
        assert!(disk.is_off() && disk.list(Folder::Root).is_err());
        let killed = disk.kill();
        assert!(!killed.is_off());
        effects += usize::from(killed.names() == [FileName::Manifest]);
    }
    assert!((10..40).contains(&effects), "{effects}");
}

#[test]
fn handles_given_out_while_the_power_fails_are_dropped_without_harm() {
    for seed in 0..20 {
        let disk = machine(seed);
        let file = settled(&disk, wal(1), &[1; 100]);
        disk.crash_after(0);
        assert!(if seed % 2 == 0 { file.map(10).is_err() } else { disk.open(wal(1)).is_err() });
    }
}

#[test]
fn a_removed_file_lives_while_it_is_open_and_comes_back_until_its_folder_is_synced() {
    let disk = machine(1);
    let file = settled(&disk, wal(1), b"kept");
    let map = file.map(4).unwrap();
    disk.remove(wal(1)).unwrap();
    drop(file);
    assert_eq!(&*map.slice(0..4).unwrap(), b"kept");
    assert!(map.slice(0..5).is_err() && map.memory().is_none());
    drop(map);
    let back = disk.fork().power_cut_keeping(LOSE_ALL);
    assert_eq!(back.file_bytes(wal(1)).unwrap(), b"kept");
    disk.sync_folder(Folder::Wal).unwrap();
    assert_eq!(disk.power_cut_keeping(LOSE_ALL).names(), []);
}

#[test]
fn a_file_is_forgotten_with_the_last_thing_that_leads_to_it() {
    let disk = machine(1);
    let kept: Vec<_> = (0..40).map(|number| settled(&disk, wal(number), b"x")).collect();
    let held = |disk: &SimDisk| disk.look(|state| state.files_held());
    for number in 0..40 {
        disk.remove(wal(number)).unwrap();
    }
    let mut kept = kept.into_iter();
    kept.by_ref().take(20).for_each(drop);
    assert_eq!(held(&disk), 40, "their names are durable");
    disk.sync_folder(Folder::Wal).unwrap();
    assert_eq!(held(&disk), 20, "handles lead to the others");
    drop(kept.next());
    assert_eq!(held(&disk), 19);
    assert_eq!(held(&disk.kill()), 0);
}

#[test]
fn damage_reaches_readers_and_an_unreadable_sector_fails_only_its_readers() {
    let disk = machine(1);
    let file = settled(&disk, wal(1), &[0xFF; 2000]);
    write_all_at(&*file, &[1], 0).unwrap();
    disk.flip_bit(wal(1), 9).unwrap();
    disk.zero_sector(wal(1), 1).unwrap();
    let mut bytes = [0; 514];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    assert_eq!((bytes[0], bytes[1], bytes[511], bytes[512]), (1, 0xFD, 0xFF, 0));
    disk.damage(wal(1), Damage::SwapSectors(0, 1)).unwrap();
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    assert_eq!((bytes[0], bytes[512], bytes[513]), (0, 1, 0xFD));
    disk.damage(wal(1), Damage::Unreadable(0)).unwrap();
    assert!(file.read_at(&mut bytes, 511).is_err() && file.read_at(&mut bytes, 512).is_ok());
    write_all_at(&*file, &[7; 512], 0).unwrap();
    assert!(file.read_at(&mut bytes, 0).is_ok());
    disk.damage(wal(1), Damage::SetLength(10)).unwrap();
    assert_eq!(file.bytes().unwrap(), 10);
    assert!(disk.flip_bit(wal(1), 80).is_err() && disk.flip_bit(wal(2), 0).is_err());
    disk.replace_file_bytes(wal(2), vec![5; 9]);
    assert_eq!(disk.power_cut_keeping(LOSE_ALL).file_bytes(wal(2)).unwrap(), [5; 9]);
}

#[test]
fn time_moves_by_itself_by_sleep_and_by_hand() {
    let disk = machine(1);
    let clock = disk.clock();
    let (before, wall) = (clock.uptime(), clock.wall_micros());
    disk.list(Folder::Wal).unwrap();
    clock.sleep(Duration::from_secs(1));
    disk.advance(Duration::from_secs(2));
    assert_eq!(clock.uptime(), before + Duration::from_micros(3_000_001));
    assert_eq!(clock.wall_micros(), wall + 3_000_001);
    disk.set_wall(5);
    assert_eq!(disk.kill().clock().wall_micros(), 5);
}

/// A run of calls whose results depend on chance.
fn run(seed: u64) -> (u64, u64, Vec<String>) {
    let mut disk = machine(seed);
    let rates = Faults { sync: 0.2, write_short: 0.2, no_space: 0.1, ..Faults::drawn(seed) };
    for round in 0..20 {
        disk.set_faults(rates);
        for step in 0..10 {
            let Ok(file) = disk.create(wal(round * 10 + step)) else { continue };
            let _ = write_all_at(&*file, &[step as u8; 5000], step * 100);
            let _ = file.sync();
            let _ = disk.sync_folder(Folder::Wal);
            let _ = disk.remove(wal(round * 7 + step));
        }
        disk = if round % 3 == 0 { disk.kill() } else { disk.power_cut() };
    }
    (disk.trace(), disk.calls(), disk.fault_log())
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_a_different_one() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed).0, run(seed + 1).0);
    }
}

#[test]
fn a_removed_file_keeps_its_space_while_a_handle_or_a_map_is_there() {
    let disk = SimDisk::new(1);
    disk.make_folders().unwrap();
    disk.set_free_bytes(1 << 20);
    let name = FileName::Run(FileNumber(1));
    let used = |disk: &SimDisk| (1 << 20) - disk.space().unwrap().free;
    let file = disk.create(name).unwrap();
    write_all_at(&*file, &vec![1; 100_000], 0).unwrap();
    let map = disk.open(name).unwrap().map(100_000).unwrap();
    let taken = used(&disk);
    assert!(taken >= 100_000);
    disk.remove(name).unwrap();
    assert_eq!(used(&disk), taken);
    drop(file);
    assert_eq!(used(&disk), taken);
    assert_eq!(&*map.slice(0..3).unwrap(), [1; 3]);
    drop(map);
    assert_eq!(used(&disk), 0);
    let _held = disk.create(name).unwrap();
    write_all_at(&*disk.create(FileName::Run(FileNumber(2))).unwrap(), &[1; 9], 0).unwrap();
    let before = used(&disk);
    disk.remove(FileName::Run(FileNumber(2))).unwrap();
    assert!(used(&disk) < before);
    assert_eq!(used(&disk.kill()), 0);
}

#[test]
fn a_moment_is_the_machine_before_a_call_that_changes_something() {
    let disk = machine(1);
    disk.set_faults(Faults { write_back: 0.0, ..Faults::none() });
    let file = settled(&disk, wal(1), &[1; 600]);
    let before = disk.content_hash();
    let asked = AtomicU64::new(7);
    disk.keep_moments_asking(move || asked.fetch_add(1, Ordering::Relaxed));
    write_all_at(&*file, &[2; 600], 0).unwrap();
    read_exact_at(&*file, &mut [0; 600], 0).unwrap();
    file.sync().unwrap();
    let moments = disk.take_moments();
    assert_eq!(moments.len(), 2, "a write and a sync");
    assert_eq!(moments[0].calls + 2, moments[1].calls, "behind the write and the read");
    assert_eq!((moments[0].told, moments[1].told), (7, 8), "asked once at each");
    assert_eq!(moments[0].disk.content_hash(), before);
    let unsynced = &moments[1].disk;
    assert_eq!(unsynced.fork().power_cut_keeping(LOSE_ALL).content_hash(), before);
    let kept = unsynced.fork().power_cut_keeping(KEEP_ALL);
    assert_eq!(kept.content_hash(), disk.content_hash());
    assert!(before != disk.content_hash() && disk.take_moments().is_empty());
}
