//! Every single bit of the golden stores: flipped, what is read is right, or an error that names
//! the damaged file; and exactly that is hurt of which the byte is a part.
//!
//! `DOSTORE_BITS=n` flips every n-th bit, 1 all of them, from `DOSTORE_BITS_FROM` on.

use crate::golden::{Answers, Golden, Question, all, options};
use crate::layout::{Layout, Unit};
use crate::ledger::{self, Row};
use dostore::disk::sim::SimDisk;
use dostore::error::{Error, ErrorKind};
use dostore::ids::Lsn;
use dostore::inspect::Scope;
use dostore::names::FileName;
use dostore::store::reader::Reader;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of every so many bits one is flipped, if nothing else is said. Prime to the bits of a byte.
const STRIDE: u64 = 1_009;
/// Bits that one thread takes at once.
const BATCH: u64 = 64;

/// What came of flips.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    flips: u64,
    /// Nothing differs.
    right: u64,
    /// A part of the present or of the past is an error.
    partly: u64,
    /// The store does not open for writing.
    refused: u64,
    /// Whoever reads is shown an earlier commit, for what proves the last one is damaged.
    unproven: u64,
    /// Silent, or a panic.
    wrong: u64,
}

impl Outcomes {
    fn add(&mut self, other: &Self) {
        self.flips += other.flips;
        self.right += other.right;
        self.partly += other.partly;
        self.refused += other.refused;
        self.unproven += other.unproven;
        self.wrong += other.wrong;
    }
}

/// A golden store and its right answers.
struct Subject {
    golden: Golden,
    layout: Option<Layout>,
    reader: Answers,
    writer: Answers,
    position: Lsn,
    /// Files with their lengths, in order.
    files: Vec<(FileName, u64)>,
}

impl Subject {
    fn new(golden: Golden) -> Self {
        let reader = Reader::open_on(golden.disk.fork()).unwrap();
        let store = options().open_on(golden.disk.fork()).unwrap();
        let length = |name: FileName| golden.disk.file_bytes(name).unwrap().len() as u64;
        let files = golden.disk.names().into_iter().map(|name| (name, length(name))).collect();
        let layout = (!golden.is_adopting).then(|| Layout::of(&golden.disk));
        let (position, asked) = (reader.position(), golden.ask_reader(&reader));
        let writer = golden.ask_writer(&store);
        Self { golden, layout, reader: asked, writer, position, files }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    fn place(&self, bit: u64) -> (FileName, u64) {
        let mut at = bit;
        for (name, bytes) in &self.files {
            if at < bytes * 8 {
                return (*name, at);
            }
            at -= bytes * 8;
        }
        panic!("there is no bit {bit}");
    }

    fn flip(&self, bit: u64, outcomes: &mut Outcomes) {
        let (file, bit) = self.place(bit);
        let disk = self.golden.disk.fork();
        disk.flip_bit(file, bit).unwrap();
        let unit = self.layout.as_ref().map(|layout| layout.unit(file, bit / 8));
        let case = Case { subject: self, file, bit, unit };
        case.examine(&disk, outcomes);
    }
}

/// One flipped bit.
struct Case<'a> {
    subject: &'a Subject,
    file: FileName,
    bit: u64,
    unit: Option<&'a Unit>,
}

impl Case<'_> {
    fn told(&self) -> String {
        let name = self.subject.golden.name;
        format!("{name}: bit {} of byte {} of {}", self.bit % 8, self.bit / 8, self.file)
    }

    fn examine(&self, disk: &SimDisk, outcomes: &mut Outcomes) {
        outcomes.flips += 1;
        let subject = self.subject;
        let mut is_hurt = false;
        match Reader::open_on(disk.fork()) {
            Err(error) => is_hurt |= self.check_refusal("opening for reading", &error),
            Ok(reader) if reader.position() < subject.position => {
                self.check_unproven();
                outcomes.unproven += 1;
            }
            Ok(reader) => {
                let answers = subject.golden.ask_reader(&reader);
                is_hurt |= self.compare("reading", &answers, &subject.reader);
            }
        }
        match options().open_on(disk.clone()) {
            Err(error) => {
                self.check_refusal("opening", &error);
                outcomes.refused += 1;
                return;
            }
            Ok(store) => {
                let answers = subject.golden.ask_writer(&store);
                is_hurt |= self.compare("writing", &answers, &subject.writer);
            }
        }
        outcomes.partly += u64::from(is_hurt);
        outcomes.right += u64::from(!is_hurt);
    }

    /// Whoever only reads cannot tell a damaged last group of the log from one being written.
    fn check_unproven(&self) {
        assert!(matches!(self.file, FileName::Wal(_)), "{}: an earlier commit", self.told());
    }

    /// An error names the damaged file.
    fn check_error(&self, what: &str, error: &Error) {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {what}: {error:?}", self.told());
        let place = error.place().map(|place| place.file.as_str());
        assert_eq!(place, Some(&*self.file.to_string()), "{}: {what}: {error:?}", self.told());
    }

    /// A store is refused where the damage concerns more than some objects.
    fn check_refusal(&self, what: &str, error: &Error) -> bool {
        self.check_error(what, error);
        let Some(unit) = self.unit else { return true };
        let is_whole = unit.objects.is_empty() || unit.kind == "log";
        let about = self.told();
        assert!(unit.scope == Some(Scope::Live) && is_whole, "{about}: {what}: {error:?} {unit:?}");
        true
    }

    /// Each answer is right, or an error about something that the damage concerns.
    fn compare(&self, what: &str, found: &Answers, expected: &Answers) -> bool {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.told());
        let mut is_hurt = false;
        for ((question, found), (_, expected)) in found.iter().zip(expected) {
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(found, expected, "{}: {what}: {question:?}", self.told());
                }
                // What was refused before the damage, for a reason of its own, still is.
                (Err(found), Err(expected)) if found.code() == expected.code() => {}
                (Err(found), _) => {
                    self.check_error(what, found);
                    self.check_scope(what, *question, found);
                    is_hurt = true;
                }
                (Ok(_), Err(error)) => panic!("{}: {question:?} was {error:?}", self.told()),
            }
        }
        is_hurt
    }

    fn check_scope(&self, what: &str, question: Question, error: &Error) {
        let Some(unit) = self.unit else { return };
        let objects = &self.subject.golden.objects;
        // The frame of a file of history is needed by all that stands in it.
        let is_frame = unit.objects.is_empty() && unit.perhaps.is_empty();
        let concerns = |index: usize| {
            let address = &objects[index].address;
            unit.objects.contains(address) || unit.perhaps.contains(address)
        };
        let may = match (question, unit.scope) {
            (_, None | Some(Scope::Spare)) => false,
            (Question::Past(_), Some(Scope::History)) if is_frame => true,
            (Question::Past(index), Some(_)) => concerns(index),
            (_, Some(Scope::History)) => false,
            (Question::Now(index) | Question::Name(index), _) => concerns(index),
            (Question::Listing | Question::Alarms, _) => true,
        };
        assert!(may, "{}: {what}: {question:?}: {error:?} {unit:?}", self.told());
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs a part of the bits on every core.
fn run(subject: &Subject, (from, stride): (u64, u64)) -> Outcomes {
    let count = (subject.bytes() * 8).saturating_sub(from).div_ceil(stride);
    let (next, total) = (AtomicU64::new(0), Mutex::new(Outcomes::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut outcomes = Outcomes::default();
        loop {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= count {
                break;
            }
            for flip in first..count.min(first + BATCH) {
                let flip = || subject.flip(from + flip * stride, &mut outcomes);
                // A panic of the store counts as an answer of this test does.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(flip)).is_err() {
                    outcomes.wrong += 1;
                }
            }
        }
        total.lock().unwrap().add(&outcomes);
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_that_names_the_file_or_changes_nothing() {
    let part = (number("DOSTORE_BITS_FROM", 0), number("DOSTORE_BITS", STRIDE));
    let (mut bytes, mut sum) = (0, Outcomes::default());
    for golden in all() {
        let subject = Subject::new(golden);
        bytes += subject.bytes();
        let outcomes = run(&subject, part);
        println!("{}, {} bytes: {outcomes:?}", subject.golden.name, subject.bytes());

        sum.add(&outcomes);
        assert!(outcomes.right > 0 && outcomes.partly > 0 && outcomes.refused > 0, "{outcomes:?}");
    }
    ledger::add(&Row {
        kind: "bits",
        seeds: format!("every {} from {}", part.1, part.0),
        faults: sum.flips,
        executions: sum.flips,
        failures: sum.wrong,
        ..Row::default()
    });
    assert_eq!(sum.wrong, 0, "{sum:?}");
    assert!(bytes < 256 << 10, "the golden stores have {bytes} bytes");
}
