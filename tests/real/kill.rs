//! Kills of a process that commits.

use crate::ledger::{self, Row};
use crate::load::{self, Heard, Load, Patience};
use crate::number;

#[test]
fn every_acknowledged_commit_is_there_after_a_kill() {
    if load::is_one() {
        return;
    }
    let kills = number("DOSTORE_KILLS", 8);
    let seed = number("DOSTORE_FIRST_SEED", 1);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    load::options().open(&store).unwrap().close().unwrap();
    let (mut heard, mut patience) = (Heard::default(), Patience::of(seed));
    for kill in 1..=kills {
        let mut load = Load::start(&store);
        patience.wait(&mut load, &mut heard);
        let was_alive = load.kill(|line| heard.note(line));
        assert!(was_alive, "kill {kill}: the process had ended by itself");
        heard.check(&store);
    }
    assert!(heard.lines >= kills, "{} commits in {kills} lives", heard.lines);
    println!("{kills} kills, {} commits acknowledged", heard.lines);
    let seeds = format!("{kills} from {seed}");
    ledger::add(&Row { kind: "kill", seeds, crashes: kills, executions: kills, ..Row::default() });
}
