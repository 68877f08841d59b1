//! A physical limit: groups of encoded, checked commits, written in one call each to a file of
//! zeros and synced. No index, no checkpoint, no reads.
//!
//! Invariants:
//!   * While one group is written, the next is encoded, where more than one commit is in flight.
//!   * Every block that is written was written before, as in the log of a warm store.

use crate::Result;
use crate::engine::{AlarmTimes, Engine, Facts, Load, Peer, Role};
use crate::measure::Random;
use crate::raw::BLOCK;
use crate::recorder::Recorder;
use crate::workload::{Change, Layout};
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

const FILE_BYTES: u64 = 256 << 20;
const MEBIBYTE: usize = 1 << 20;
/// Commits in a group at most: about a mebibyte, from which on a group costs what its bytes cost.
const GROUP_MAX: usize = 4_000;

pub struct BareLog;

impl Engine for BareLog {
    fn facts(&self) -> Facts {
        Facts {
            id: "bare-log",
            title: "bare log (limit)",
            package: "",
            settings: "a thread encodes and checks groups, another writes each in one call",
            durability: "`fdatasync` of each group",
            source: "`benches/peers/src/engines/bare_log.rs`",
            family: "bare-log",
            objects_max: u64::MAX,
            object_bytes: 0,
            has_file_for_each: false,
            role: Role::Limit,
        }
    }

    fn open(&self, folder: &Path, _: Layout) -> Result<Box<dyn Peer>> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("log");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < FILE_BYTES {
            let zeros = vec![0; MEBIBYTE];
            for place in (0..FILE_BYTES).step_by(MEBIBYTE) {
                file.write_all_at(&zeros, place)?;
            }
            file.sync_all()?;
        }
        Ok(Box::new(Log { file }))
    }
}

struct Log {
    file: File,
}

/// Encoded commits on their way to the disk.
struct Group {
    began: Instant,
    commits: usize,
    bytes: Vec<u8>,
}

impl Group {
    fn new() -> Self {
        Self { began: Instant::now(), commits: 0, bytes: Vec::new() }
    }

    /// Takes the place of the last group.
    fn fill(&mut self, commits: usize, objects: u64, random: &mut Random) {
        self.began = Instant::now();
        self.commits = commits;
        self.bytes.clear();
        for _ in 0..commits {
            let change = Change::draw(objects, random);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&[0; 8]);
            for (key, value) in &change.puts {
                self.bytes.extend_from_slice(&Layout::Many.key(change.object, *key));
                self.bytes.extend_from_slice(value);
            }
            let sum = crc32fast::hash(&self.bytes[start + 8..]);
            let length = (self.bytes.len() - start) as u32;
            self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            self.bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }
}

/// Encodes groups into what comes back written, until time is over.
fn encode(load: &Load, commits: usize, back: &Receiver<Group>, on: &SyncSender<Group>) {
    let mut random = Random::new(1);
    let end = Instant::now() + load.time;
    while Instant::now() < end {
        let Ok(mut group) = back.recv() else { return };
        group.fill(commits, load.objects, &mut random);
        if on.send(group).is_err() {
            return;
        }
    }
}

impl Peer for Log {
    fn create(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn commit(&self, load: &Load, recorder: &Arc<Recorder>) -> Result<()> {
        let buffers = load.in_flight.min(2);
        let commits = (load.in_flight / buffers).min(GROUP_MAX);
        let (give_back, back) = sync_channel(buffers);
        let (on, groups) = sync_channel::<Group>(buffers);
        (0..buffers).try_for_each(|_| give_back.send(Group::new()))?;
        // What gives buffers back goes with the closure: after an error nobody waits for one.
        std::thread::scope(move |scope| {
            scope.spawn(move || encode(load, commits, &back, &on));
            let mut place = 0;
            for group in &groups {
                if place + group.bytes.len() as u64 > FILE_BYTES {
                    place = 0;
                }
                self.file.write_all_at(&group.bytes, place)?;
                self.file.sync_data()?;
                place += group.bytes.len() as u64;
                recorder.record(0, group.began, group.commits);
                // Whoever encodes may be done already.
                let _ = give_back.send(group);
            }
            Ok(())
        })
    }

    fn churn(&self, _: &Load, _: &Arc<Recorder>) -> Result<()> {
        Err("a limit for commits only".into())
    }

    fn alarms(&self, _: &Load, _: &Arc<Recorder>) -> Result<AlarmTimes> {
        Err("a limit for commits only".into())
    }

    fn read(&self, _: u64) -> Result<usize> {
        Err("a limit for commits only".into())
    }

    fn scan(&self) -> Result<u64> {
        Err("a limit for commits only".into())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
