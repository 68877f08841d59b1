//! What a disk holds, what came to it in order, and what a loss of power leaves of that.
//!
//! Invariants:
//!   * What was written before a flush is whole in every image of a place behind that flush.
//!   * Of what was written since, an image has anything: all of a write, some of its sectors, none.
//!   * The same log, place and seed give the same image.

use crate::chance::Chance;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// A run is long enough once its log has so many bytes.
const LOG_BYTES: usize = 64 << 20;

/// The content of a disk. A copy shares all pages that are not written.
#[derive(Clone, Debug)]
pub struct Disk(Vec<Option<Arc<[u8; PAGE]>>>);

/// The parts of a range of a disk that lie in one page each: the page, where the part begins there,
/// and which bytes of the range it is.
fn parts(at: u64, bytes: usize) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
    let (at, mut done) = (usize::try_from(at).unwrap(), 0);
    std::iter::from_fn(move || {
        let (page, from) = ((at + done) / PAGE, (at + done) % PAGE);
        let part = (PAGE - from).min(bytes - done);
        done += part;
        (part > 0).then_some((page, from, done - part..done))
    })
}

impl Disk {
    pub fn empty(pages: usize) -> Self {
        Self(vec![None; pages])
    }

    pub fn of_file(path: &Path) -> Self {
        let mut file = File::open(path).unwrap();
        let pages = usize::try_from(file.metadata().unwrap().len()).unwrap() / PAGE;
        let mut page = [0; PAGE];
        let mut next = |_| {
            file.read_exact(&mut page).unwrap();
            (page != [0; PAGE]).then(|| Arc::new(page))
        };
        Self((0..pages).map(&mut next).collect())
    }

    /// Writes it into a file, which has holes where the disk is empty.
    pub fn into_file(self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.bytes()).unwrap();
        for (number, page) in self.0.iter().enumerate() {
            if let Some(page) = page {
                file.write_all_at(&page[..], (number * PAGE) as u64).unwrap();
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        (self.0.len() * PAGE) as u64
    }

    /// What stands at a place, as far as the disk reaches.
    pub fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let left = usize::try_from(self.bytes().saturating_sub(at)).unwrap();
        let mut read = vec![0; bytes.min(left)];
        for (page, from, range) in parts(at, read.len()) {
            if let Some(page) = &self.0[page] {
                let part = &page[from..from + range.len()];
                read[range].copy_from_slice(part);
            }
        }
        read
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        for (page, from, range) in parts(at, bytes.len()) {
            let page = self.0[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[from..from + range.len()].copy_from_slice(&bytes[range]);
        }
    }
}

/// What came to a disk.
#[derive(Debug)]
pub enum Event {
    Write(u64, Vec<u8>),
    /// What was written before is durable.
    Flush,
    /// A process told this line.
    Told(String),
}

/// A disk, and while a run is recorded all that came to it.
#[derive(Debug)]
pub struct Log {
    pub disk: Disk,
    events: Option<Vec<Event>>,
    bytes: usize,
}

impl Log {
    pub fn of(disk: Disk) -> Self {
        Self { disk, events: None, bytes: 0 }
    }

    pub fn begin(&mut self) {
        (self.events, self.bytes) = (Some(Vec::new()), 0);
    }

    pub fn end(&mut self) -> Vec<Event> {
        self.events.take().unwrap()
    }

    pub fn has_room(&self) -> bool {
        self.bytes < LOG_BYTES
    }

    pub fn note(&mut self, event: Event) {
        if let Event::Write(at, bytes) = &event {
            self.disk.write(*at, bytes);
            self.bytes += bytes.len();
        }
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

/// How many writes a loss of power took whole and in part.
#[derive(Debug, Default)]
pub struct Losses {
    pub lost: u64,
    pub torn: u64,
}

/// Whether a page or a part of one, written at this place, must not be torn, for the file system
/// itself has no answer to that.
pub type IsWhole = fn(u64, &[u8]) -> bool;

/// A way through a log, from its beginning.
#[derive(Debug)]
pub struct Walk<'a> {
    events: &'a [Event],
    place: usize,
    /// The disk as of the last flush.
    durable: Disk,
    /// What was written since.
    since: Vec<(u64, &'a [u8])>,
    is_whole: IsWhole,
}

impl<'a> Walk<'a> {
    pub fn new(disk: Disk, events: &'a [Event], is_whole: IsWhole) -> Self {
        Self { events, place: 0, durable: disk, since: Vec::new(), is_whole }
    }

    /// Goes on until so many events have happened.
    pub fn to(&mut self, place: usize) {
        for event in &self.events[self.place..place] {
            match event {
                Event::Write(at, bytes) => self.since.push((*at, bytes)),
                Event::Flush => {
                    let settled = self.since.drain(..);
                    settled.for_each(|(at, bytes)| self.durable.write(at, bytes));
                }
                Event::Told(_) => {}
            }
        }
        self.place = place;
    }

    /// What a loss of power here leaves.
    pub fn image(&self, chance: &mut Chance, losses: &mut Losses) -> Disk {
        let mut disk = self.durable.clone();
        let kept = chance.pick(&[0, 50, 90, 100]);
        let torn = chance.pick(&[0, 50, 100]);
        let mut left: Vec<_> = self.since.iter().filter(|_| chance.percent(kept)).collect();
        losses.lost += (self.since.len() - left.len()) as u64;
        if chance.percent(50) {
            for place in (1..left.len()).rev() {
                left.swap(place, chance.index(place + 1));
            }
        }
        for &&(at, bytes) in &left {
            if chance.percent(torn) {
                losses.torn += u64::from(self.tear(&mut disk, at, bytes, chance));
            } else {
                disk.write(at, bytes);
            }
        }
        disk
    }

    /// Writes some sectors only: the first of them, the last, or any. Says whether one is missing.
    fn tear(&self, disk: &mut Disk, at: u64, bytes: &[u8], chance: &mut Chance) -> bool {
        let style = chance.below(4);
        let bound = chance.index(bytes.len());
        let mut is_torn = false;
        for (page, from, range) in parts(at, bytes.len()) {
            let place = (page * PAGE + from) as u64;
            let whole = (self.is_whole)(place, &bytes[range.clone()]);
            for begin in range.clone().step_by(if whole { PAGE } else { SECTOR }) {
                let end = if whole { range.end } else { range.end.min(begin + SECTOR) };
                let is_kept = match style {
                    0 => end <= bound,
                    1 => begin >= bound,
                    _ => chance.percent(50),
                };
                if is_kept {
                    disk.write(at + begin as u64, &bytes[begin..end]);
                }
                is_torn |= !is_kept;
            }
        }
        is_torn
    }
}

/// The sectors of a disk of four pages, by their first bytes, after each of 1,000 losses of power
/// behind a log.
#[cfg(test)]
fn sectors(events: &[Event], is_whole: IsWhole) -> Vec<Vec<u8>> {
    let mut walk = Walk::new(Disk::empty(4), events, is_whole);
    walk.to(events.len());
    let image = |seed| walk.image(&mut Chance::new(seed), &mut Losses::default());
    let firsts = |disk: Disk| disk.read(0, 4 * PAGE).chunks(SECTOR).map(|each| each[0]).collect();
    (0..1_000).map(|seed| firsts(image(seed))).collect()
}

#[test]
fn what_was_flushed_is_there_and_of_the_rest_any_sector_may_be_missing() {
    let write = |at: usize, bytes: usize, with| Event::Write(at as u64, vec![with; bytes]);
    let events =
        [write(PAGE, 2 * PAGE, 1), Event::Flush, write(0, 2 * PAGE, 2), write(PAGE, PAGE, 3)];
    let all = sectors(&events, |_, _| false);
    for image in &all {
        assert!(image[..8].iter().all(|sector| [0, 2].contains(sector)), "{image:?}");
        assert!(image[8..16].iter().all(|sector| [1, 2, 3].contains(sector)), "{image:?}");
        assert!(image[16..24].iter().all(|sector| *sector == 1), "{image:?}");
        assert!(image[24..].iter().all(|sector| *sector == 0), "{image:?}");
    }
    // The older of two writes last, one sector of each kind in one page, and neither of them.
    assert!(all.iter().any(|image| image[8..16] == [2; 8]));
    assert!(all.iter().any(|image| (1..=3).all(|kind| image[8..16].contains(&kind))));
    assert!(all.iter().any(|image| image[..16] == [[0; 8], [1; 8]].concat()));
    // Parts that must stay whole do.
    for image in sectors(&events, |at, _| at == 0) {
        assert!(image[..8] == [0; 8] || image[..8] == [2; 8], "{image:?}");
    }
}

#[test]
fn bytes_are_read_where_they_were_written() {
    let mut disk = Disk::empty(3);
    let bytes: Vec<u8> = (0..=250).cycle().take(9_000).collect();
    disk.write(1_000, &bytes);
    let copy = disk.clone();
    disk.write(5_000, &[7; 10]);
    assert!(copy.read(1_000, 9_000) == bytes && disk.read(5_000, 10) == [7; 10]);
    assert!(copy.read(0, 1_000) == [0; 1_000] && copy.read(12_000, 1_000).len() == 288);
}
