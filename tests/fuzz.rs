//! What fuzzing has kept: each input of `fuzz/corpus` goes through the function of its target, and
//! so do changed copies of it; none takes memory out of proportion.
//!
//! `DOSTORE_FUZZ=n` makes n changed copies of each, from seed `DOSTORE_FIRST_SEED` on.
//!
//! Invariants:
//!   * One test runs everything: memory is counted for the whole process.
#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]
#![expect(clippy::cast_possible_truncation, reason = "files here are small")]

#[expect(dead_code, reason = "of the layout of files not all is needed")]
#[path = "../fuzz/src/lib.rs"]
mod cases;
#[expect(dead_code, reason = "that of another test; not all of it is needed")]
#[path = "it/chance.rs"]
mod chance;

use cases::kept::kept;
use cases::ledger::{self, Row};
use cases::{TARGETS, Target};
use chance::Chance;
use dostore::format::header::{FileKind, Header};
use dostore::store::transfer::Stream;
use peak_alloc::PeakAlloc;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What an input may take at once, whatever it says, beside a multiple of its own bytes.
const MEMORY_BYTES: usize = 64 << 20;
const MEMORY_TIMES: usize = 100;
/// Changed copies of each input, if nothing else is said.
const COPIES: u64 = 2;
const INPUT_BYTES_MAX: usize = 64 << 10;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Gives an input to a target; where it fails, says which it was.
fn give(target: Target, told: &str, input: &[u8]) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = catch_unwind(AssertUnwindSafe(|| target(input)));
    let most = MEMORY.peak_usage().saturating_sub(before);
    if let Err(panic) = done {
        eprintln!("{told}: {}", input.escape_ascii());
        resume_unwind(panic);
    }
    assert!(most < MEMORY_BYTES + MEMORY_TIMES * input.len(), "{told} takes {most} bytes");
}

/// A copy with a few changes, some of them taken from `other`.
fn changed(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut copy = input.to_vec();
    for _ in 0..chance.between(1, 4) {
        let at = chance.index(copy.len() + 1);
        let length = chance.index(copy.len() - at + 1).min(chance.pick(&[1, 2, 4, 16, 256]));
        match chance.below(6) {
            0 => drop(copy.drain(at..at + length)),
            1 => copy.extend_from_within(at..at + length),
            2 => copy[at..at + length].fill(chance.pick(&[0, 1, 0x7F, 0x80, 0xFF])),
            3 => {
                let from = chance.index(other.len() + 1);
                let end = from + length.min(other.len() - from);
                copy.splice(at..at, other[from..end].iter().copied());
            }
            _ => copy[at..at + length].iter_mut().for_each(|byte| *byte ^= chance.next() as u8),
        }
    }
    copy.truncate(INPUT_BYTES_MAX);
    copy
}

/// Inputs that begin with a version have that of today: behind another nothing is reached.
fn check_versions(corpora: &Path) {
    for (input, mut block) in kept(corpora, "wal_header") {
        block.resize(4_096, 0);
        assert!(Header::decode(&block, FileKind::Wal).is_ok(), "wal_header: {input}");
    }
    for target in ["export_text", "export_binary"] {
        for (input, bytes) in kept(corpora, target) {
            assert!(Stream::new(&bytes[..]).is_ok(), "{target}: {input}");
        }
    }
}

#[test]
fn no_input_that_was_kept_and_no_changed_copy_of_one_does_harm() {
    let first = from_environment("DOSTORE_FIRST_SEED").unwrap_or(1);
    let copies = from_environment("DOSTORE_FUZZ").unwrap_or(COPIES);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut executions = 0;
    check_versions(&corpora);
    for (name, target) in TARGETS {
        let inputs = kept(&corpora, name);
        for (index, (input, bytes)) in inputs.iter().enumerate() {
            give(*target, &format!("{name}: {input}"), bytes);
            for seed in first..first + copies {
                let mut chance = Chance::new(seed << 16 | index as u64);
                let other = &inputs[chance.index(inputs.len())].1;
                let copy = changed(bytes, other, &mut chance);
                give(*target, &format!("{name}: {input}, changed by {seed}"), &copy);
            }
            executions += 1 + copies;
        }
    }
    println!("{executions} inputs");
    ledger::add(&Row {
        kind: "fuzz",
        seeds: format!("{copies} from {first}"),
        executions,
        ..Row::default()
    });
}
