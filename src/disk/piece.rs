//! Files that are written in the background from their beginning to their end, in pieces: by
//! threads of their own where a store has them, so that who makes the bytes goes on meanwhile, and
//! by who makes them otherwise: at once, or as late as threads may ([`Pieces::hold`]).
//!
//! Copying into new pages of the system's cache costs processor time, and waits for the device
//! besides; docs/decisions/0006 has what it came to.
//!
//! Invariants:
//!   * The pieces of a file are written one after the other, and a file is synced behind its last.
//!   * What failed is told by the next piece or by the end; a file is complete or has an error.
//!   * A piece that was handed over is written, or its file told that it was not, whatever becomes
//!     of the threads: nobody waits for ever.
//!   * All pieces but the last are whole: none shares a page of the cache with the one before,
//!     which may be under way to the device.

use super::pace::Pace;
use super::{File, SyncFailed, write_all_at};
use crate::locks::{Condvar, Mutex};
use crate::planted::{Mistake, planted};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// How much is written between two hints to write back.
pub const PIECE_BYTES: usize = 1024 * 1024;
/// Pieces that are held back at once.
const HELD_MAX: usize = 2;

/// Pieces on their way from who makes them to the threads that write them.
#[derive(Debug, Default)]
pub struct Pieces {
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Piece>,
    /// Threads that take pieces. None is waiting without one, but for those that are held back.
    writers: usize,
    is_over: bool,
    /// Bytes of a piece, where pieces are held back.
    held: Option<usize>,
}

impl Pieces {
    /// Writes pieces until it is over; what a thread is for.
    pub fn serve(&self) {
        self.queue.lock().writers += 1;
        let _leaving = Leaving(self);
        while let Some(piece) = self.next() {
            piece.write();
        }
    }

    /// The next piece; none when it is over and nothing is left.
    fn next(&self) -> Option<Piece> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(piece) = queue.waiting.pop_front() {
                return Some(piece);
            }
            if queue.is_over {
                return None;
            }
            self.came.wait(&mut queue);
        }
    }

    /// The threads end when nothing is left for them. Who has a piece later writes it alone.
    pub fn stop(&self) {
        self.queue.lock().is_over = true;
        self.came.notify_all();
    }

    /// Without threads, has files that are begun from now on written in pieces of so many bytes,
    /// each of which waits until there are others, or its own file has the next or ends: what a
    /// simulation does as threads might. With zero, at once again.
    pub fn hold(&self, piece_bytes: usize) {
        self.queue.lock().held = Some(piece_bytes).filter(|bytes| *bytes > 0);
    }

    fn piece_bytes(&self) -> usize {
        self.queue.lock().held.unwrap_or(PIECE_BYTES)
    }

    /// Hands a piece to a thread, or holds it back; back where there is neither.
    fn hand_over(&self, piece: Piece) -> Result<(), Piece> {
        let mut queue = self.queue.lock();
        let has_threads = queue.writers > 0;
        if queue.is_over || !has_threads && queue.held.is_none() {
            return Err(piece);
        }
        queue.waiting.push_back(piece);
        let is_much = !has_threads && queue.waiting.len() > HELD_MAX;
        let first = if is_much { queue.waiting.pop_front() } else { None };
        drop(queue);
        self.came.notify_one();
        if let Some(first) = first {
            first.write();
        }
        Ok(())
    }

    /// The piece that is to have this outcome, if it is held back.
    fn take_held(&self, outcome: &Arc<Outcome>) -> Option<Piece> {
        let mut queue = self.queue.lock();
        let own = |piece: &Piece| Arc::ptr_eq(&piece.outcome, outcome);
        let place = queue.waiting.iter().position(own).filter(|_| queue.writers == 0)?;
        queue.waiting.remove(place)
    }
}

/// A thread that ends, by a panic too: what nobody is left to take is dropped, and so told of.
struct Leaving<'p>(&'p Pieces);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.writers -= 1;
        if queue.writers == 0 {
            queue.waiting.clear();
        }
    }
}

/// Bytes that belong at one place of a file.
#[derive(Debug)]
struct Piece {
    file: Arc<dyn File>,
    pace: Arc<Pace>,
    bytes: Vec<u8>,
    offset: u64,
    outcome: Arc<Outcome>,
}

impl Piece {
    fn write(mut self) {
        let written = self.try_write();
        self.outcome.set(written.map(|()| std::mem::take(&mut self.bytes)));
    }

    /// Pays for the bytes, writes them, and hands them to write-back early, so that the sync at the
    /// end finds little to do.
    fn try_write(&self) -> io::Result<()> {
        let bytes = self.bytes.len() as u64;
        self.pace.spend(bytes);
        write_all_at(&*self.file, &self.bytes, self.offset)?;
        self.file.start_writeback(self.offset..self.offset + bytes)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.outcome.set(Err(io::Error::other("who was to write it went away")));
    }
}

/// What became of a piece; its buffer, to be filled again.
#[derive(Debug, Default)]
struct Outcome {
    is: Mutex<Option<io::Result<Vec<u8>>>>,
    came: Condvar,
}

impl Outcome {
    /// The first word counts.
    fn set(&self, outcome: io::Result<Vec<u8>>) {
        self.is.lock().get_or_insert(outcome);
        self.came.notify_all();
    }

    fn wait(&self) -> io::Result<Vec<u8>> {
        let mut is = self.is.lock();
        loop {
            match is.take() {
                Some(outcome) => return outcome,
                None => self.came.wait(&mut is),
            }
        }
    }
}

/// A file being written from its beginning to its end in pieces, each paid for.
#[derive(Debug)]
pub struct PacedFile {
    file: Arc<dyn File>,
    pace: Arc<Pace>,
    piece_bytes: usize,
    pending: Vec<u8>,
    /// Where `pending` belongs.
    offset: u64,
    /// The piece before it, which may not be written yet.
    before: Option<Arc<Outcome>>,
    /// A buffer that is filled while the other one is written.
    spare: Vec<u8>,
    /// Whether a piece was not written: the file has a hole, whatever comes behind it.
    has_failed: bool,
}

impl PacedFile {
    /// Begins to write `file`, which must be empty.
    pub fn new(file: Arc<dyn File>, pace: Arc<Pace>) -> Self {
        let piece_bytes = pace.pieces().piece_bytes();
        let (pending, spare, before, has_failed) = (Vec::new(), Vec::new(), None, false);
        Self { file, pace, piece_bytes, pending, offset: 0, before, spare, has_failed }
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// Appends bytes; they reach the file in pieces. May tell of an error of bytes before them.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append_with(|pending| pending.extend_from_slice(bytes))
    }

    /// Appends what `write` puts behind the bytes that it is given, without a copy of it.
    pub fn append_with<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> io::Result<R> {
        let before = self.pending.len();
        let written = write(&mut self.pending);
        assert!(self.pending.len() >= before, "what is appended takes nothing away");
        let whole = self.pending.len() / self.piece_bytes * self.piece_bytes;
        if whole > 0 {
            self.hand_over(whole)?;
        }
        Ok(written)
    }

    /// Lets the first bytes that are pending be written, once the piece before them is.
    fn hand_over(&mut self, bytes: usize) -> io::Result<()> {
        self.settle()?;
        let mut next = std::mem::take(&mut self.spare);
        next.extend_from_slice(&self.pending[bytes..]);
        self.pending.truncate(bytes);
        let outcome = Arc::new(Outcome::default());
        let piece = Piece {
            file: Arc::clone(&self.file),
            pace: Arc::clone(&self.pace),
            bytes: std::mem::replace(&mut self.pending, next),
            offset: self.offset,
            outcome: Arc::clone(&outcome),
        };
        self.offset += bytes as u64;
        self.before = Some(outcome);
        match self.pace.pieces().hand_over(piece) {
            Ok(()) => Ok(()),
            Err(piece) => {
                piece.write();
                self.settle()
            }
        }
    }

    /// Waits for the piece before, and keeps its buffer. Fails from the first piece on that was not
    /// written.
    fn settle(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Err(io::Error::other("an earlier part of the file was not written"));
        }
        if let Some(before) = self.before.take() {
            if let Some(held) = self.pace.pieces().take_held(&before) {
                held.write();
            }
            self.spare = before.wait().inspect_err(|_| self.has_failed = true)?;
            self.spare.clear();
        }
        Ok(())
    }

    /// Writes what is left and syncs the file. The name is the caller's to sync.
    pub fn finish(mut self) -> Result<(Arc<dyn File>, u64), FinishError> {
        let left = self.pending.len();
        self.hand_over(left).and_then(|()| self.settle()).map_err(FinishError::Write)?;
        if !planted(Mistake::ManifestEarly) {
            self.file.sync().map_err(FinishError::Sync)?;
        }
        Ok((Arc::clone(&self.file), self.offset))
    }
}

impl Drop for PacedFile {
    /// Nobody needs what is held back of a file that is given up.
    fn drop(&mut self) {
        drop(self.before.take().and_then(|before| self.pace.pieces().take_held(&before)));
    }
}

/// Why [`PacedFile::finish`] failed.
#[derive(Debug)]
pub enum FinishError {
    /// Bytes could not be written.
    Write(io::Error),
    /// The file could not be synced.
    Sync(SyncFailed),
}

impl FinishError {
    /// The operating system's words.
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Write(error) | Self::Sync(SyncFailed(error)) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::disk::{Disk, Map, ReadDisk, ReadFile, read_exact_at};
    use crate::ids::FileNumber;
    use crate::names::FileName;
    use std::ops::Range;
    use std::thread::{Scope, scope};

    /// A machine with this many threads that write pieces, all of them there.
    fn with_writers(writers: usize, test: impl FnOnce(&SimDisk, &Arc<Pace>)) {
        let disk = SimDisk::new(1);
        disk.make_folders().unwrap();
        let pace = Arc::new(Pace::new(disk.clock()));
        scope(|scope| {
            start(scope, &pace, writers);
            test(&disk, &pace);
            pace.pieces().stop();
        });
        assert_eq!(pace.pieces().queue.lock().writers, 0);
    }

    fn start<'s>(scope: &'s Scope<'s, '_>, pace: &'s Pace, writers: usize) {
        (0..writers).for_each(|_| drop(scope.spawn(|| pace.pieces().serve())));
        while pace.pieces().queue.lock().writers < writers {
            std::thread::yield_now();
        }
    }

    fn begin(disk: &SimDisk, pace: &Arc<Pace>, number: u64) -> PacedFile {
        let file = disk.create(FileName::Segment(FileNumber(number))).unwrap();
        PacedFile::new(file, Arc::clone(pace))
    }

    /// Parts of odd sizes, a few pieces long together.
    fn parts() -> impl Iterator<Item = Vec<u8>> {
        (0..40_u8).map(|part| vec![part; 70_000 + usize::from(part)])
    }

    #[test]
    fn what_is_appended_is_in_the_file_whoever_writes_it() {
        for writers in [0, 1, 2] {
            with_writers(writers, |disk, pace| {
                let mut files = [begin(disk, pace, 1), begin(disk, pace, 2)];
                for part in parts() {
                    for file in &mut files {
                        file.append(&part).unwrap();
                    }
                }
                let all: Vec<u8> = parts().flatten().collect();
                assert!(files.iter().all(|file| file.offset() == all.len() as u64));
                for file in files {
                    let (file, bytes) = file.finish().unwrap();
                    let mut read = vec![0; all.len()];
                    read_exact_at(&*file, &mut read, 0).unwrap();
                    assert_eq!((bytes, file.bytes().unwrap()), (all.len() as u64, bytes));
                    assert!(read == all);
                }
            });
        }
    }

    #[test]
    fn a_piece_that_fails_is_told_by_the_next_or_by_the_end() {
        for writers in [0, 1] {
            for parts_before_end in [16, 31] {
                with_writers(writers, |disk, pace| {
                    let mut file = begin(disk, pace, 1);
                    disk.fail_call(1, Fault::Io);
                    let appended = parts().take(parts_before_end).try_for_each(|p| file.append(&p));
                    let told = appended.is_err() || file.finish().is_err();
                    assert!(told, "{writers} writers, {parts_before_end} parts");
                });
            }
        }
    }

    #[test]
    fn what_is_held_back_is_written_in_the_end_and_what_is_given_up_is_not() {
        with_writers(0, |disk, pace| {
            pace.pieces().hold(4096);
            let mut files = [begin(disk, pace, 1), begin(disk, pace, 2), begin(disk, pace, 3)];
            let lengths = |disk: &SimDisk| {
                [1, 2, 3].map(|number| {
                    disk.open(FileName::Segment(FileNumber(number))).unwrap().bytes().unwrap()
                })
            };
            for file in &mut files[..2] {
                file.append(&[7; 4096 + 100]).unwrap();
            }
            assert_eq!(lengths(disk), [0; 3]);
            files[2].append(&[8; 4096]).unwrap();
            assert_eq!(lengths(disk), [4096, 0, 0], "the first, where there are others");
            let [first, second, given_up] = files;
            drop(given_up);
            for file in [first, second] {
                assert_eq!(file.finish().unwrap().1, 4196);
            }
            assert_eq!(lengths(disk), [4196, 4196, 0]);
            let begun = begin(disk, pace, 4);
            drop(begun);
            assert!(pace.pieces().queue.lock().waiting.is_empty());
        });
    }

    #[test]
    fn a_file_that_has_failed_is_never_finished() {
        with_writers(0, |disk, pace| {
            let mut file = begin(disk, pace, 1);
            disk.fail_call(1, Fault::Io);
            let told = parts().filter(|part| file.append(part).is_err()).count();
            assert!(told > 1, "by each piece from there on");
            assert!(matches!(file.finish(), Err(FinishError::Write(_))));
        });
    }

    #[test]
    fn what_comes_when_the_threads_are_over_is_written_by_who_makes_it() {
        let disk = SimDisk::new(2);
        disk.make_folders().unwrap();
        let pace = Arc::new(Pace::new(disk.clock()));
        let mut file = begin(&disk, &pace, 1);
        scope(|scope| {
            start(scope, &pace, 2);
            parts().for_each(|part| file.append(&part).unwrap());
            pace.pieces().stop();
        });
        parts().for_each(|part| file.append(&part).unwrap());
        let all: Vec<u8> = parts().chain(parts()).flatten().collect();
        let (file, bytes) = file.finish().unwrap();
        let mut read = vec![0; usize::try_from(bytes).unwrap()];
        read_exact_at(&*file, &mut read, 0).unwrap();
        assert!(read == all);
    }

    /// A file whose writes panic, as a fault of this crate would.
    #[derive(Debug)]
    struct Bomb;

    impl ReadFile for Bomb {
        fn bytes(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Ok(0)
        }

        fn map(&self, _: u64) -> io::Result<Arc<dyn Map>> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    impl File for Bomb {
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            panic!("a writer meets a fault");
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn start_writeback(&self, _: Range<u64>) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> Result<(), SyncFailed> {
            Ok(())
        }
    }

    #[test]
    fn a_thread_that_panics_leaves_nobody_waiting() {
        let disk = SimDisk::new(3);
        disk.make_folders().unwrap();
        let pace = Arc::new(Pace::new(disk.clock()));
        let mut bomb = PacedFile::new(Arc::new(Bomb), Arc::clone(&pace));
        let bytes = vec![1; PIECE_BYTES];
        scope(|scope| {
            let writer = scope.spawn(|| pace.pieces().serve());
            while pace.pieces().queue.lock().writers == 0 {
                std::thread::yield_now();
            }
            bomb.append(&bytes).unwrap();
            assert!(writer.join().is_err());
        });
        assert!(matches!(bomb.finish(), Err(FinishError::Write(_))));
        let mut file = begin(&disk, &pace, 1);
        file.append(&bytes).unwrap();
        assert_eq!(file.finish().unwrap().1, PIECE_BYTES as u64);
    }
}
