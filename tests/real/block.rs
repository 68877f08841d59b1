//! Losses of power of the disk under real file systems: a process commits while each write and each
//! flush that reaches the disk is recorded, and then the disk is what a loss of power at any place
//! of that record leaves.
//!
//! Invariants:
//!   * A line counts from the place of the record at which this process had read it: by then its
//!     process had told it, and before that its commit had been durable. So it counts too late
//!     rather than too early.
//!   * The disk of a run is one that a loss of power left behind in the run before, as it was left:
//!     what the file system and the store do first about that is recorded too.
//!   * This process answers for the disk and so never waits for what stands on it.

use crate::blocks::{Disk, Event, IsWhole, Log, Losses, Walk};
use crate::chance::Chance;
use crate::checker;
use crate::device::{self, Device};
use crate::ledger::{self, Row};
use crate::load::{Heard, Load};
use crate::number;
use crate::rig::{self, Volume};
use std::fs;
use std::path::{Path, PathBuf};

/// How often the power is lost in what one run recorded.
const CUTS_OF_A_RUN: u64 = 25;

/// A kind of file system under test.
struct Kind {
    name: &'static str,
    row: &'static str,
    mebibytes: u64,
    words: &'static [&'static str],
    is_whole: IsWhole,
}

/// The checksum of its superblock stands in another sector than what it covers, and it is not
/// written through the journal.
const EXT4: Kind = Kind {
    name: "ext4",
    row: "block-ext4",
    mebibytes: 64,
    words: &["-b", "4096"],
    is_whole: |at, _| at < 4096,
};

/// Its recovery leaves a block as it is whose first sector is as new as the journal. Such blocks
/// have more than a sector where they are those of trees or folders.
const XFS: Kind = Kind {
    name: "xfs",
    row: "block-xfs",
    mebibytes: 320,
    words: &[],
    is_whole: |_, bytes| {
        let trees = [b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"BMA3", b"RMB3", b"R3FC"];
        let folders = [b"XDB3", b"XDD3", b"XDF3"];
        let inner = [[0x3E, 0xBE], [0x3D, 0xF1], [0x3D, 0xFF], [0x3B, 0xEE]];
        trees.iter().chain(&folders).any(|magic| bytes.starts_with(*magic))
            || inner.iter().any(|magic| bytes.get(8..10) == Some(magic))
    },
};

/// What becomes of one disk.
struct Course {
    kind: &'static Kind,
    device: Device,
    volume: Volume,
    store: PathBuf,
    /// The disk as the next run finds it, and what its store must have.
    disk: Disk,
    heard: Heard,
    losses: Losses,
}

impl Course {
    /// A file system with an empty store.
    fn begin(kind: &'static Kind, folder: &Path) -> Self {
        let (image, at) = (folder.join("image"), folder.join("volume"));
        Volume::format(kind.name, kind.mebibytes, &image, kind.words);
        let device = Device::show(Disk::of_file(&image), &folder.join("disk"));
        fs::create_dir(&at).unwrap();
        let volume = Volume { kind: kind.name, options: "loop", image: device.file.clone(), at };
        let store = volume.at.join("store");
        volume.mount();
        checker::begin(&store);
        volume.unmount();
        let disk = device.log().disk.clone();
        let (heard, losses) = Default::default();
        Self { kind, device, volume, store, disk, heard, losses }
    }

    /// The record of a process that commits until it has told so many lines.
    fn run(&self, lines: u64) -> Vec<Event> {
        let log = || self.device.log();
        *log() = Log::of(self.disk.clone());
        log().begin();
        self.volume.mount();
        let mut load = Load::start(&self.store);
        let note = |line: &str| log().note(Event::Told(line.to_owned()));
        for _ in 0..lines {
            if log().has_room() {
                load.hear(1, note);
            }
        }
        assert!(load.kill(note), "the process had ended by itself");
        let events = log().end();
        self.volume.unmount();
        events
    }

    /// Loses the power once for each seed, at a place of a record that the seed says.
    fn cut(&mut self, events: &[Event], seeds: impl Iterator<Item = u64>) {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            let mut place = chance.index(events.len() + 1);
            // Mostly where there is most to lose.
            if chance.percent(75) {
                let more = events[place..].iter().take_while(|event| !is_flush(event));
                place += more.count();
            }
            (place, seed, chance)
        };
        let mut drawn: Vec<_> = seeds.map(draw).collect();
        drawn.sort_by_key(|(place, ..)| *place);
        let mut walk = Walk::new(self.disk.clone(), events, self.kind.is_whole);
        let mut last = None;
        for (place, seed, mut chance) in drawn {
            walk.to(place);
            let disk = walk.image(&mut chance, &mut self.losses);
            let mut heard = self.heard.clone();
            told(&events[..place]).for_each(|line| heard.note(line));
            told(&events[place..]).for_each(|line| heard.note_late(line));
            *self.device.log() = Log::of(disk.clone());
            self.volume.mount();
            match checker::check(&self.store, &heard) {
                Ok(found) => last = Some((disk, found)),
                Err(why) => {
                    let (folder, row) = (env!("CARGO_TARGET_TMPDIR"), self.kind.row);
                    let kept = format!("{folder}/{row}-{seed}.disk");
                    disk.into_file(Path::new(&kept));
                    panic!("seed {seed}, event {place} of {}, {kept}: {why}", events.len());
                }
            }
            self.volume.unmount();
        }
        if let Some((disk, heard)) = last {
            (self.disk, self.heard) = (disk, heard);
        }
    }
}

fn is_flush(event: &Event) -> bool {
    matches!(event, Event::Flush)
}

/// What was told in a part of a record.
fn told(events: &[Event]) -> impl Iterator<Item = &str> {
    events
        .iter()
        .filter_map(|event| if let Event::Told(line) = event { Some(&**line) } else { None })
}

/// Loses the power of a disk again and again.
fn cuts(kind: &'static Kind, test: &str) {
    let maker = Volume::maker(kind.name);
    let needs = [&[&*maker], &device::NEEDS[..]].concat();
    rig::run(test, &needs, 512, |folder| {
        let cuts = number("DOSTORE_CUTS", 2 * CUTS_OF_A_RUN);
        let seed = number("DOSTORE_FIRST_SEED", 1);
        let mut course = Course::begin(kind, folder);
        let mut patience = Chance::new(seed);
        let (mut lines, mut writes) = (0, 0);
        for first in (0..cuts).step_by(usize::try_from(CUTS_OF_A_RUN).unwrap()) {
            let events = course.run(patience.between(1, 100));
            lines += told(&events).count();
            writes += events.iter().filter(|event| matches!(event, Event::Write(..))).count();
            course.cut(&events, (first..cuts.min(first + CUTS_OF_A_RUN)).map(|cut| seed + cut));
        }
        let Losses { lost, torn } = course.losses;
        println!("{}: {cuts} cuts, {lost} writes lost and {torn} torn", kind.name);
        println!("{}: {lines} lines and {writes} writes recorded", kind.name);
        assert!(cuts < CUTS_OF_A_RUN || lost > 0 && torn > 0, "no loss of power took anything");
        let (seeds, faults) = (format!("{cuts} from {seed}"), lost + torn);
        let done = Row { kind: kind.row, seeds, crashes: cuts, faults, ..Row::default() };
        ledger::add(&Row { executions: cuts, ..done });
    });
}

#[test]
fn what_was_acknowledged_on_ext4_outlives_lost_and_torn_sectors() {
    if checker::is_one() {
        return;
    }
    cuts(&EXT4, "block::what_was_acknowledged_on_ext4_outlives_lost_and_torn_sectors");
}

#[test]
fn what_was_acknowledged_on_xfs_outlives_lost_and_torn_sectors() {
    cuts(&XFS, "block::what_was_acknowledged_on_xfs_outlives_lost_and_torn_sectors");
}
