//! Cuts of the power under real file systems, while a process commits.

use crate::ledger::{self, Row};
use crate::load::{self, Heard, Load, Patience};
use crate::number;
use crate::rig::{self, Volume};

/// Cuts the power under a file system again and again.
fn cuts(kind: &'static str, row: &'static str, test: &str, mebibytes: u64) {
    let maker = Volume::maker(kind);
    rig::run(test, &[&maker, "perl"], 512, |folder| {
        let cuts = number("DOSTORE_CUTS", 3);
        let seed = number("DOSTORE_FIRST_SEED", 1);
        let volume = Volume::make(kind, mebibytes, folder, &folder.join("volume"));
        let store = volume.at.join("store");
        load::options().open(&store).unwrap().close().unwrap();
        let (mut heard, mut patience) = (Heard::default(), Patience::of(seed));
        for cut in 0..cuts {
            let mut load = Load::start(&store);
            patience.wait(&mut load, &mut heard);
            load.hear_all(|line| heard.note(line));
            volume.cut_power(cut % 2 == 1);
            // The power is gone: what was not heard before counts no more.
            load.kill(|line| heard.note_late(line));
            volume.restart();
            heard.check(&store);
        }
        assert!(heard.lines >= cuts, "{} commits in {cuts} lives", heard.lines);
        println!("{kind}: {cuts} cuts, {} commits acknowledged", heard.lines);
        let seeds = format!("{cuts} from {seed}");
        ledger::add(&Row { kind: row, seeds, crashes: cuts, executions: cuts, ..Row::default() });
    });
}

#[test]
fn what_was_acknowledged_on_ext4_outlives_the_power() {
    let test = "cut::what_was_acknowledged_on_ext4_outlives_the_power";
    cuts("ext4", "cut-ext4", test, 64);
}

#[test]
fn what_was_acknowledged_on_xfs_outlives_the_power() {
    let test = "cut::what_was_acknowledged_on_xfs_outlives_the_power";
    cuts("xfs", "cut-xfs", test, 320);
}
