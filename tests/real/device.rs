//! A file whose reads, writes and flushes come to this process: a file system of one file, in the
//! protocol of FUSE, for a loop device to stand on.
//!
//! Invariants:
//!   * Requests are answered one after the other, so that the log has them in the order in which
//!     they took effect, and nothing is acknowledged that is not in it.
//!   * The kernel keeps nothing of the file: each write comes before the flush that settles it.
//!   * However this process ends, it is not the last that sees its mounts: unmounting would wait
//!     for answers that it no longer gives.

#![expect(clippy::host_endian_bytes, reason = "the kernel speaks in its own order of bytes")]

use crate::blocks::{Disk, Event, Log};
use crate::rig;
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

/// What it needs: where the kernel asks, and the program of [`WITNESS`].
pub const NEEDS: [&str; 2] = [ASKS, WITNESS[0]];
const ASKS: &str = "/dev/fuse";
/// Reads its input to the end, and is not hit by what kills this group of processes.
const WITNESS: [&str; 2] = ["setsid", "cat"];
/// The version of the protocol that is spoken; the kernel speaks it too, however new it is.
const VERSION: [u32; 2] = [7, 31];
/// In one write, at most.
const WRITE_PAGES: u16 = 256;
/// Of a request, before what depends on its kind.
const HEADER_BYTES: usize = 40;
/// Of a request to read or write, between the header and the bytes.
const TRANSFER_BYTES: usize = 40;
/// In the answer to an open: the kernel keeps no pages of the file.
const DIRECT: u32 = 1;
/// In the first answer: writes of more than a page, and of more than 32 of them.
const LARGE_WRITES: u32 = 1 << 5 | 1 << 22;
/// A regular file, of its owner.
const MODE: u32 = 0o100_600;

/// Kinds of requests.
mod kind {
    pub const FORGET: u32 = 2;
    pub const ATTRIBUTES: u32 = 3;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const RELEASE: u32 = 18;
    pub const SYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const BEGIN: u32 = 26;
    pub const INTERRUPT: u32 = 36;
    pub const END: u32 = 38;
    pub const FORGET_MANY: u32 = 42;
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn halves(first: u16, second: u16) -> u32 {
    word(&[first.to_ne_bytes(), second.to_ne_bytes()].concat(), 0)
}

/// What is answered to a request of a kind, behind the header; none where none is expected.
fn answer(kind: u32, body: &[u8], log: &mut Log) -> Option<Result<Vec<u8>, Errno>> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let place = || (long(body, 8), usize::try_from(word(body, 16)).unwrap());
    Some(Ok(match kind {
        kind::FORGET | kind::FORGET_MANY | kind::INTERRUPT => return None,
        kind::BEGIN => {
            let ahead = word(body, 8);
            // Requests in the background and when they are many; pages in one.
            let [waiting, pages] = [halves(64, 48), halves(WRITE_PAGES, 0)];
            let bytes = u32::from(WRITE_PAGES) * 4096;
            let begin = [VERSION[0], VERSION[1], ahead, LARGE_WRITES, waiting, bytes, 1, pages];
            words(&[begin, [0; 8]].concat())
        }
        kind::ATTRIBUTES => {
            let bytes = log.disk.bytes();
            // Valid for an hour; file 1; its length in bytes and in sectors; no times.
            let longs = [3_600, 0, 1, bytes, bytes / 512, 0, 0, 0];
            let longs = longs.iter().flat_map(|long: &u64| long.to_ne_bytes());
            let rest: Vec<u8> = words(&[0, 0, 0, MODE, 1, 0, 0, 0, 4096, 0]);
            longs.chain(rest).collect()
        }
        kind::OPEN => words(&[0, 0, DIRECT, 0]),
        kind::READ => {
            let (at, bytes) = place();
            log.disk.read(at, bytes)
        }
        kind::WRITE => {
            let (at, bytes) = place();
            log.note(Event::Write(at, body[TRANSFER_BYTES..TRANSFER_BYTES + bytes].to_vec()));
            words(&[word(body, 16), 0])
        }
        kind::SYNC => {
            log.note(Event::Flush);
            Vec::new()
        }
        kind::FLUSH | kind::RELEASE | kind::END => Vec::new(),
        // The kernel does not ask again, and writes zeros where it may not punch holes.
        _ => return Some(Err(Errno::NOSYS)),
    }))
}

/// Answers until the file is no longer mounted.
fn serve(mut pipe: &File, log: &Mutex<Log>) {
    let mut request = vec![0; HEADER_BYTES + TRANSFER_BYTES + usize::from(WRITE_PAGES + 1) * 4096];
    loop {
        let bytes = match pipe.read(&mut request) {
            Ok(bytes) => bytes,
            Err(error) => match Errno::from_io_error(&error).unwrap() {
                Errno::NODEV => return,
                // A signal, or a request that was taken back.
                Errno::INTR | Errno::AGAIN | Errno::NOENT => continue,
                other => panic!("FUSE says {other}"),
            },
        };
        let (kind, number) = (word(&request, 4), &request[8..16]);
        let Some(answer) = answer(kind, &request[HEADER_BYTES..bytes], &mut log.lock()) else {
            continue;
        };
        let (failed, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap().to_ne_bytes();
        let header = [&length[..], &failed.to_ne_bytes(), number].concat();
        // Nobody may be waiting any more.
        let _ = pipe.write(&[header, body].concat());
    }
}

/// A file over FUSE.
#[derive(Debug)]
pub struct Device {
    pub file: PathBuf,
    log: Arc<Mutex<Log>>,
    /// Sees the mounts as well, and ends when this process has.
    witness: ManuallyDrop<Child>,
}

impl Device {
    /// Shows a disk as a file of this name.
    pub fn show(disk: Disk, file: &Path) -> Self {
        File::create_new(file).unwrap();
        let mut witness = Command::new(WITNESS[0]);
        witness.args(&WITNESS[1..]).stdin(Stdio::piped());
        let witness = witness.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(ASKS).unwrap();
        let options = format!("fd=0,rootmode={MODE:o},user_id=0,group_id=0");
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", &options, "none"]).arg(file);
        // The program that mounts passes on what it was given as its standard input.
        let mounted = mount.stdin(Stdio::from(pipe.try_clone().unwrap())).status().unwrap();
        assert!(mounted.success(), "FUSE cannot be mounted");
        let log = Arc::new(Mutex::new(Log::of(disk)));
        let (file, served) = (file.to_owned(), log.clone());
        let name = thread::Builder::new().name("block log".into());
        name.spawn(move || serve(&pipe, &served)).unwrap();
        Self { file, log, witness: ManuallyDrop::new(witness) }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // In a failure all stays as it is.
        if !thread::panicking() {
            // What stood on it may let go of it a moment later.
            rig::call("umount", &[OsStr::new("--lazy"), self.file.as_os_str()]);
            drop(self.witness.stdin.take());
            self.witness.wait().unwrap();
        }
    }
}
