//! What a fuzzer has run, for the ledger.
//!
//! `DOSTORE_LEDGER` names the ledger. A run that is told by `-runs=` when to end adds its row with
//! the last input, and one that finds something adds it then.
//!
//! Invariants:
//!   * A row counts what has run, and what repeats it is what the fuzzer was told.
//!   * Without a ledger nothing is counted.

use super::Target;
use super::ledger::{self, Row};
use std::panic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many inputs a run is to take, as libFuzzer is told it.
const RUNS: &str = "-runs=";
/// What it begins at.
const SEED: &str = "-seed=";

struct Campaign {
    kind: &'static str,
    runs: u64,
    seed: u64,
    executions: AtomicU64,
}

static CAMPAIGN: OnceLock<Option<Campaign>> = OnceLock::new();

fn argument(name: &str) -> Option<u64> {
    std::env::args().find_map(|argument| argument.strip_prefix(name)?.parse().ok())
}

impl Campaign {
    fn of(kind: &'static str) -> Option<Self> {
        std::env::var_os("DOSTORE_LEDGER")?;
        let (runs, seed) = (argument(RUNS)?, argument(SEED).unwrap_or_default());
        // The fuzzer ends the process in the hook that is there.
        let ends = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            if let Some(campaign) = CAMPAIGN.get().and_then(Option::as_ref) {
                campaign.add(1);
            }
            ends(what);
        }));
        Some(Self { kind, runs, seed, executions: AtomicU64::new(0) })
    }

    fn add(&self, failures: u64) {
        ledger::add(&Row {
            kind: self.kind,
            seeds: format!("{} from {}", self.runs, self.seed),
            executions: self.executions.load(Ordering::Relaxed),
            failures,
            ..Row::default()
        });
    }
}

/// Takes one input of a fuzzer, and counts it.
pub fn counted(kind: &'static str, target: Target, input: &[u8]) {
    let campaign = CAMPAIGN.get_or_init(|| Campaign::of(kind)).as_ref();
    let done = campaign.map(|campaign| campaign.executions.fetch_add(1, Ordering::Relaxed) + 1);
    target(input);
    if let Some(campaign) = campaign.filter(|campaign| done == Some(campaign.runs)) {
        campaign.add(0);
    }
}
