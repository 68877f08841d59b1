//! `bench`: how quick the medium of a store is, and a store on it.

use super::restore::LAYOUTS;
use crate::cli::call::{Call, fields};
use crate::cli::failure::{DONE, Outcome};
use crate::cli::table::{Columns, table};
use crate::cli::usage;
use crate::disk::real::{RealClock, RealDisk};
use crate::disk::{Clock, Disk, File, write_all_at};
use crate::error::{Error, Result};
use crate::ids::FileNumber;
use crate::names::FileName;
use crate::store::object::Object;
use crate::store::{Options, Store};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  dostore bench --seconds 0.2
  dostore bench --seconds 0.1 --json";

const COLUMNS: Columns = &["ONE AT A TIME", "-P50", "-P99"];

/// Bytes of a raw write: what a group of one small commit takes.
const RAW_BYTES: u64 = 4096;
/// Bytes of the file that raw writes go round in.
const FILE_BYTES: u64 = 16 << 20;
/// Commits in flight when many are measured.
const IN_FLIGHT: usize = 1000;
/// How long each part may be measured.
const TIME_MAX: Duration = Duration::from_hours(1);
const VALUE: [u8; 100] = [b'x'; 100];

/// Measures the medium of the store, and a store on it
///
/// Writes for a second or two into a folder of its own beside the store, which is removed again;
/// the store is left alone. A commit that waits for its sync should take little more than a raw
/// write and sync of 4 KiB. Both are measured in turns, so other work on the machine slows both.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How long each of the two parts takes
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    seconds: f64,
}

/// A folder that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(store: &Path) -> Result<Self> {
        let store = std::path::absolute(store);
        let store = store.map_err(|cause| Error::io("finding the store's folder", cause))?;
        let parent = store.parent().unwrap_or(&store);
        let path = parent.join(format!(".dostore-bench-{}", std::process::id()));
        let made = std::fs::create_dir(&path);
        made.map_err(|cause| Error::io(format!("making {}", path.display()), cause))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed has a name that says whose it is.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Latencies in microseconds.
#[derive(Default)]
struct Latencies(Vec<u64>);

impl Latencies {
    fn add(&mut self, clock: &RealClock, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = clock.uptime();
        work()?;
        let took = clock.uptime().saturating_sub(before);
        self.0.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// The median and the latency that 99 of 100 stay below.
    fn figures(&mut self) -> [u64; 2] {
        self.0.sort_unstable();
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len() - 1));
        [50, 99].map(|share| at(share).copied().unwrap_or(0))
    }
}

/// What was measured.
struct Measured {
    raw: [u64; 2],
    commit: [u64; 2],
    rounds: usize,
    commits_per_second: u64,
}

fn raw_file(path: &Path) -> Result<Arc<dyn File>> {
    let failed = |cause| Error::io("making a file to write to", cause);
    let disk = RealDisk::create(path).map_err(failed)?;
    disk.make_folders().map_err(failed)?;
    let file = disk.create(FileName::Wal(FileNumber(1))).map_err(failed)?;
    // Written and not only allocated, as the files of a log are.
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        write_all_at(&*file, &zeros, at).map_err(failed)?;
    }
    sync(&*file)?;
    Ok(file)
}

fn sync(file: &dyn File) -> Result<()> {
    file.sync().map_err(|failed| Error::io("syncing", failed.0))
}

/// One raw write and one commit by turns, then many commits in flight.
fn measure(folder: &Path, time: Duration, bar: &ProgressBar) -> Result<Measured> {
    let clock = RealClock::new();
    let file = raw_file(&folder.join("raw"))?;
    let store: Store = Options::default().wal_file_bytes(FILE_BYTES).open(folder.join("store"))?;
    let mut object = store.namespace("bench")?.open_by_name("object")?;
    object.put("key", VALUE)?.wait()?;
    let (mut raw, mut commit) = (Latencies::default(), Latencies::default());
    let (page, give_up) =
        (vec![b'x'; usize::try_from(RAW_BYTES).unwrap_or(0)], clock.uptime() + time);
    let mut at = 0;
    bar.set_message("one at a time");
    while clock.uptime() < give_up || raw.0.is_empty() {
        raw.add(&clock, || {
            write_all_at(&*file, &page, at).map_err(|cause| Error::io("writing", cause))?;
            sync(&*file)
        })?;
        at = (at + RAW_BYTES) % FILE_BYTES;
        commit.add(&clock, || object.put("key", VALUE)?.wait().map(drop))?;
    }
    drop(object);
    bar.set_message("many at once");
    let (began, mut commits) = (clock.uptime(), 0);
    let mut objects = Vec::new();
    for number in 0..IN_FLIGHT {
        objects.push(store.namespace("bench")?.open_by_name(&number.to_string())?);
    }
    while clock.uptime() < began + time || commits == 0 {
        commits += round(&mut objects)?;
    }
    let took = clock.uptime().saturating_sub(began).as_micros().max(1);
    let per_second = u128::from(commits) * 1_000_000 / took;
    let rounds = raw.0.len();
    drop(objects);
    store.close()?;
    let commits_per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
    Ok(Measured { raw: raw.figures(), commit: commit.figures(), rounds, commits_per_second })
}

/// A commit of each object, all waited for together.
fn round(objects: &mut [Object]) -> Result<u64> {
    let mut last = None;
    for object in &mut *objects {
        last = Some(object.put("key", VALUE)?);
    }
    last.map(crate::store::commit::Commit::wait).transpose()?;
    Ok(objects.len() as u64)
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let time = Duration::try_from_secs_f64(self.seconds).ok();
        let Some(time) = time.filter(|time| *time <= TIME_MAX) else {
            return Err(usage("--seconds takes a number from 0 to 3600"));
        };
        let scratch = Scratch::beside(call.directory()?)?;
        let bar = call.spinner("making files");
        let measured = measure(&scratch.0, time, &bar);
        bar.finish_and_clear();
        let Measured { raw, commit, rounds, commits_per_second } = measured?;
        let row = |name: &str, [p50, p99]: [u64; 2]| {
            vec![name.to_owned(), format!("{p50} us"), format!("{p99} us")]
        };
        let rows = [row("raw write and sync of 4 KiB", raw), row("commit, waited for", commit)];
        let tenths = commit[0] * 10 / raw[0].max(1);
        let text = format!(
            "{}\n\na commit takes {}.{} times the raw write ({rounds} of each, in turns)\n\
             {commits_per_second} commits/s with {IN_FLIGHT} in flight",
            table(COLUMNS, &rows, call.paper),
            tenths / 10,
            tenths % 10,
        );
        let figures = |[p50, p99]: [u64; 2]| -> Json { json!({ "p50": p50, "p99": p99 }) };
        let document = fields([
            ("raw_us", figures(raw)),
            ("commit_us", figures(commit)),
            ("rounds", json!(rounds)),
            ("commits_per_second", json!(commits_per_second)),
            ("in_flight", json!(IN_FLIGHT)),
        ]);
        call.document("bench", document, &text)?;
        Ok(DONE)
    }
}
