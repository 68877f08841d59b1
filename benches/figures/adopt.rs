//! What it costs to bring back an object that is far larger than a commit: everything in it is
//! deleted, restored, undone and restored again.
//!
//! Invariants:
//!   * After each step every key and value is read in order and compared.
//!   * Memory is sampled all the time; what is printed is the most in each step.

use crate::load;
use crate::measure::{Goal, line};
use crate::{Result, Settings, system};
use dostore::bookmark::Bookmark;
use dostore::store::Store;
use dostore::store::object::Object;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS_PER_TURN: usize = 10_000;
const VALUE_BYTES: usize = 32;

/// The most memory since the last question.
#[derive(Default)]
struct Peak {
    bytes: AtomicU64,
    is_over: AtomicBool,
}

impl Peak {
    fn watch(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let now = system::memory().map_or(0, |memory| memory.anonymous);
            self.bytes.fetch_max(now, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Times steps, with the memory and the bytes that they take.
struct Steps<'p> {
    peak: &'p Peak,
}

impl Steps<'_> {
    fn take<T>(&self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        self.peak.bytes.store(0, Ordering::Relaxed);
        let (written, began) = (system::written_bytes()?, Instant::now());
        let done = step()?;
        let seconds = began.elapsed().as_secs_f64();
        let written = (system::written_bytes()? - written) as f64 / 1e6;
        let peak = self.peak.bytes.load(Ordering::Relaxed) as f64 / 1e6;
        line(&format!("adopt: {name}"), seconds, "s", Goal::None, None);
        line(&format!("adopt: {name}, written"), written, "MB", Goal::None, None);
        line(&format!("adopt: {name}, most memory"), peak, "MB", Goal::None, None);
        Ok(done)
    }
}

pub fn run(settings: &Settings) -> Result<()> {
    let keys = settings.objects(10_000_000);
    let folder = settings.root.join(format!("adopt-{keys}"));
    let peak = Peak::default();
    std::thread::scope(|scope| {
        scope.spawn(|| peak.watch());
        let done = steps(&Steps { peak: &peak }, &folder, keys);
        peak.is_over.store(true, Ordering::Relaxed);
        done
    })?;
    Ok(std::fs::remove_dir_all(&folder)?)
}

fn steps(steps: &Steps<'_>, folder: &std::path::Path, keys: usize) -> Result<()> {
    let store = options().open(folder)?;
    let namespace = load::namespace(&store)?;
    let mut object = namespace.open_by_name("large")?;
    let full = steps.take("filled", || fill(&mut object, keys))?;
    let checkpoint = || Ok(store.steps().checkpoint().map(drop)?);
    steps.take("  checkpoint", checkpoint)?;
    check(steps, &object, keys)?;
    steps.take("deleted", || {
        let mut turn = object.turn();
        turn.delete_all()?;
        Ok(turn.commit_durable()?)
    })?;
    check(steps, &object, 0)?;
    steps.take("  checkpoint, into history", checkpoint)?;
    let restored = steps.take("restored", || {
        let restored = object.restore(&full)?;
        restored.commit.wait()?;
        Ok(restored.undo)
    })?;
    check(steps, &object, keys)?;
    let undone = steps.take("undone", || {
        let undone = object.restore(&restored)?;
        undone.commit.wait()?;
        Ok(undone.undo)
    })?;
    check(steps, &object, 0)?;
    steps.take("undo undone", || Ok(object.restore(&undone)?.commit.wait()?))?;
    check(steps, &object, keys)?;
    drop(object);
    drop(namespace);
    steps.take("closed", || Ok(store.close()?))?;
    let store = options().open(folder)?;
    let object = load::namespace(&store)?.open_by_name("large")?;
    check(steps, &object, keys)?;
    let stats = store.stats()?;
    line("adopt: live", stats.live_bytes as f64 / 1e6, "MB", Goal::None, None);
    line("adopt: history", stats.history_bytes as f64 / 1e6, "MB", Goal::None, None);
    drop(object);
    Ok(store.close()?)
}

/// With little kept of what is committed: what memory there is, is that of the steps.
fn options() -> dostore::store::Options {
    Store::options().dirty_bytes(16 << 20)
}

fn value(key: usize) -> [u8; VALUE_BYTES] {
    let mut value = [b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&(key as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    value
}

fn fill(object: &mut Object, keys: usize) -> Result<Bookmark> {
    let mut last = None;
    for first in (0..keys).step_by(KEYS_PER_TURN) {
        let mut turn = object.turn();
        for key in first..keys.min(first + KEYS_PER_TURN) {
            turn.put((key as u64).to_be_bytes(), value(key))?;
        }
        last = Some(turn.commit()?);
    }
    let last = last.ok_or("no keys")?;
    let bookmark = last.bookmark();
    last.wait()?;
    Ok(bookmark)
}

/// Every key is there with its value, and no other.
fn check(steps: &Steps<'_>, object: &Object, keys: usize) -> Result<()> {
    steps.take("  all keys read", || {
        let mut next = 0;
        for entry in object.range::<&[u8]>(..)? {
            let (key, found) = entry?;
            if *key != (next as u64).to_be_bytes() || *found != value(next) {
                return Err(format!("key {next} is not what it was").into());
            }
            next += 1;
        }
        if next == keys { Ok(()) } else { Err(format!("{next} keys, not {keys}").into()) }
    })
}
