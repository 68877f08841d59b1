//! The promises of actors, with the power failing at every call to the disk in turn.

use crate::stage::{finish, pause, poll, refusal};
use dostore::actor::Storage;
use dostore::disk::sim::SimDisk;
use dostore::error::{ErrorKind, Result};
use dostore::store::{Options, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// Fewer calls than this would mean that the script does nothing.
const CALLS_MIN: u64 = 50;

fn options() -> Options {
    Store::options().threads(false).wal_file_bytes(64 << 10).segment_bytes(16 << 10)
}

fn actor(disk: &SimDisk) -> Result<(Store, Storage)> {
    let store = options().open_on(disk.clone())?;
    let lobby = store.namespace("rooms")?.open_by_name("lobby")?;
    Ok((store, Storage::open(lobby)))
}

fn number(storage: &Storage, key: &str) -> Result<u32> {
    let value = storage.get(key)?;
    Ok(value.map_or(0, |value| u32::from_le_bytes(value[..].try_into().unwrap())))
}

/// Runs the script with the power failing at its first call, at its second, and so on, until it
/// runs to its end; after each, `check` sees what is left and what the script has noted.
fn at_every_call<N: Default>(
    script: impl Fn(&SimDisk, &mut N) -> Result<()>,
    check: impl Fn(&Storage, &N),
) {
    for calls in 1.. {
        let disk = SimDisk::new(calls);
        disk.crash_after(calls);
        let mut noted = N::default();
        let is_finished = script(&disk, &mut noted).is_ok();
        let (_store, storage) = actor(&disk.power_cut()).unwrap();
        check(&storage, &noted);
        if is_finished {
            assert!(calls > CALLS_MIN, "the script is too short to mean anything: {calls} calls");
            return;
        }
    }
}

#[test]
fn g16_a_gate_opens_only_when_what_it_covers_is_safe() {
    let script = |disk: &SimDisk, shown: &mut u32| -> Result<()> {
        let (store, storage) = actor(disk)?;
        for round in 1..=24u32 {
            let value = round.to_le_bytes();
            let reply = storage.enter(|| -> Result<_> {
                storage.put("a", value)?;
                // Some gates are taken inside the turn that they cover, others behind it.
                Ok((round % 2 == 0).then(|| storage.gated(round)))
            })??;
            if round % 5 == 0 {
                storage.put_unconfirmed("later", value)?;
            }
            let reply = reply.unwrap_or_else(|| storage.gated(round));
            match finish(reply) {
                Ok(round) => *shown = round,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Broken, "{error:?}");
                    assert_eq!(storage.gate().wait().unwrap_err().kind(), ErrorKind::Broken);
                    return Err(error);
                }
            }
            if round % 8 == 0 {
                store.steps().checkpoint()?;
            }
        }
        Ok(())
    };
    at_every_call(script, |storage, shown| {
        let kept = number(storage, "a").unwrap();
        assert!(kept >= *shown, "{shown} was shown, {kept} is there");
    });
}

#[test]
fn g17_a_turn_of_an_actor_is_whole_or_absent_and_never_mixed_with_another() {
    let script = |disk: &SimDisk, (): &mut ()| -> Result<()> {
        let (store, storage) = actor(disk)?;
        for round in 1..=16u32 {
            let value = round.to_le_bytes();
            finish(storage.run(async {
                storage.put("a", value)?;
                // Ready at once: it does not end the turn.
                std::future::ready(()).await;
                storage.put("b", value)?;
                pause().await;
                storage.put("c", value)?;
                storage.put("d", value)
            }))??;
            storage.sync().wait()?;
            if round % 5 == 0 {
                store.steps().checkpoint()?;
            }
        }
        let torn = || storage.enter(|| storage.put("a", [0xFF; 4]).map(|()| panic!("of the test")));
        let caught: std::thread::Result<Result<Result<()>>> = catch_unwind(AssertUnwindSafe(torn));
        assert!(caught.is_err());
        store.steps().write_group()?;
        store.steps().checkpoint().map(drop)
    };
    at_every_call(script, |storage, ()| {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|key| number(storage, key).unwrap());
        assert_eq!((a, c), (b, d), "a part of a turn");
        assert!(a == c || a == c + 1, "turns in another order: {a} {c}");
        assert!(a <= 16, "a turn that panicked");
    });
}

#[test]
fn g18_a_critical_section_runs_alone_and_its_transaction_is_one_commit() {
    let script = |disk: &SimDisk, done: &mut u32| -> Result<()> {
        let (store, storage) = actor(disk)?;
        for round in 1..=12u32 {
            let value = round.to_le_bytes();
            storage.put("loose", value)?;
            let mut moving = pin!(storage.transaction_async(async |storage| {
                storage.put("x", value)?;
                pause().await;
                storage.put("y", value)?;
                if round % 3 == 0 { Err(refusal()) } else { Ok(round) }
            }));
            assert!(poll(&mut moving).is_pending());
            let mut other = pin!(storage.run(async { number(&storage, "x") }));
            assert!(poll(&mut other).is_pending(), "not beside a section");
            let moved = finish(moving);
            assert_eq!(finish(other)??, number(&storage, "y")?);
            storage.gate().wait()?;
            if let Ok(round) = moved {
                *done = round;
            }
            if round % 5 == 0 {
                store.steps().checkpoint()?;
            }
        }
        Ok(())
    };
    at_every_call(script, |storage, done| {
        let [x, y, loose] = ["x", "y", "loose"].map(|key| number(storage, key).unwrap());
        assert_eq!(x, y, "a part of a transaction");
        assert!(x >= *done && loose >= x, "{done} {x} {loose}");
        assert_ne!(x % 3, if x == 0 { 3 } else { 0 }, "one that was undone");
    });
}
