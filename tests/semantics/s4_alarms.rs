//! Sections 4.1 to 4.3: when alarms fire, and what a crash makes of them.

use crate::stage::{
    BEGIN, Crew, SECOND, Stage, at_each_call, due, fill, fired, keys, options, owner,
};
use dostore::actor::Storage;
use dostore::disk::sim::Fault;
use dostore::error::Error;
use dostore::ids::Timestamp;
use dostore::store::alarms::{Failure, Fired, Outcome};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn s4_1_an_alarm_fires_when_it_is_due_and_not_before() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    room.set_alarm(at).unwrap();
    stage.write();
    stage.pass_until(Timestamp(at.0 - 1));
    assert!(due(&stage).is_none());
    stage.pass_until(at);
    assert_eq!(fired(&stage).scheduled(), at);
}

#[test]
fn s4_1_an_alarm_that_was_handed_out_is_not_handed_out_again() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let held = fired(&stage);
    stage.pass_seconds(3600);
    assert!(due(&stage).is_none());
    drop(held);
}

#[test]
fn s4_1_a_fired_alarm_says_what_it_is() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    room.set_alarm(at).unwrap();
    room.set_named_alarm("tea", at).unwrap();
    stage.pass_seconds(12);
    let mut both = [fired(&stage), fired(&stage)];
    both.sort_by_key(|fired| fired.alarm_name().map(str::to_owned));
    assert_eq!(both.each_ref().map(|fired| fired.alarm_name()), [None, Some("tea")]);
    for fired in both {
        assert_eq!((fired.object_id().unwrap(), owner(&fired)), (room.id(), "room".to_owned()));
        assert_eq!(fired.namespace().unwrap().name(), "rooms");
        assert_eq!((fired.scheduled(), fired.attempt(), fired.is_retry()), (at, 0, false));
        assert!(!fired.missed());
        let late = Duration::from_secs(2)..Duration::from_millis(2001);
        assert!(late.contains(&fired.late()), "{:?}", fired.late());
    }
}

#[test]
fn s4_1_an_alarm_fires_while_its_object_is_not_open() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.after(10)).unwrap();
    let id = room.id();
    drop(room);
    stage.checkpoint();
    stage.pass_seconds(10);
    assert_eq!(fired(&stage).object_id().unwrap(), id);
}

#[test]
fn s4_1_an_overdue_alarm_fires_after_reopening_and_says_that_it_was_missed() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    room.set_alarm(at).unwrap();
    room.set_named_alarm("later", stage.after(90)).unwrap();
    stage.write();
    drop(room);
    stage.disk.advance(Duration::from_mins(1));
    let stage = stage.power_cut();
    let missed = fired(&stage);
    assert!(missed.missed());
    assert_eq!((missed.alarm_name(), missed.scheduled()), (None, at));
    assert!(due(&stage).is_none());
    stage.pass_seconds(30);
    let later = fired(&stage);
    assert_eq!((later.alarm_name(), later.missed()), (Some("later"), false));
}

#[test]
fn s4_1_alarms_of_many_objects_survive_a_restart() {
    let stage = Stage::new();
    for number in 0..100 {
        let room = stage.actor(&format!("{number}"));
        room.set_alarm(stage.after(10 + number % 7)).unwrap();
        if number % 3 == 0 {
            stage.checkpoint();
        }
    }
    stage.write();
    let stage = stage.power_cut();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        stage.pass_seconds(1);
        while let Some(fired) = due(&stage) {
            assert!(names.insert(owner(&fired)), "twice");
            let room = stage.actor(&owner(&fired));
            room.complete_alarm(&fired).unwrap();
        }
    }
    assert_eq!(names.len(), 100);
    assert_eq!(stage.store.alarms().next_due().unwrap(), None);
}

#[test]
fn s4_1_thousands_of_alarms_that_are_due_at_once_all_fire() {
    let stage = Stage::new();
    for number in 0..1_500 {
        stage.actor(&format!("{number}")).set_alarm(stage.after(10 + number % 7)).unwrap();
    }
    stage.write();
    stage.pass_seconds(60);
    let fired: Vec<_> = std::iter::from_fn(|| due(&stage)).collect();
    assert_eq!(fired.len(), 1_500);
    assert!(fired.is_sorted_by_key(Fired::scheduled));
}

#[test]
fn s4_1_alarms_fire_in_the_order_of_their_times() {
    let stage = Stage::new();
    for (name, seconds) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
        stage.actor(name).set_alarm(stage.after(seconds)).unwrap();
        stage.checkpoint();
    }
    stage.actor("aa").set_alarm(stage.after(15)).unwrap();
    stage.pass_seconds(60);
    let mut held = Vec::new();
    while let Some(fired) = due(&stage) {
        held.push(fired);
    }
    let names: Vec<_> = held.iter().map(owner).collect();
    assert_eq!(names, ["a", "aa", "b", "c", "d"]);
}

#[test]
fn s4_1_the_next_time_can_be_asked_for() {
    let (stage, room) = Stage::with_room();
    let next = || stage.store.alarms().next_due().unwrap();
    assert_eq!(next(), None);
    let (soon, late) = (stage.after(5), stage.after(50));
    room.set_alarm(late).unwrap();
    stage.checkpoint();
    assert_eq!(next(), Some(late));
    room.set_named_alarm("tea", soon).unwrap();
    stage.write();
    assert_eq!(next(), Some(soon));
    room.clear_named_alarm("tea").unwrap();
    stage.write();
    assert_eq!(next(), Some(late));
}

/// A task that waits for one alarm and says in which second it came.
fn wait_for_one(stage: &Stage, crew: &mut Crew) -> Rc<Cell<Option<Timestamp>>> {
    let came = Rc::new(Cell::new(None));
    let (alarms, seen) = (stage.store.alarms(), Rc::clone(&came));
    crew.spawn(async move { seen.set(Some(alarms.next().await.unwrap().scheduled())) });
    came
}

#[test]
fn s4_1_who_waits_for_the_next_alarm_is_woken_when_it_is_due() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    let came = wait_for_one(&stage, &mut crew);
    stage.settle(&mut crew);
    let at = stage.after(10);
    room.set_alarm(at).unwrap();
    for _ in 0..9 {
        stage.settle(&mut crew);
        stage.write();
        stage.pass_seconds(1);
        stage.settle(&mut crew);
        assert_eq!(came.get(), None);
    }
    stage.pass_seconds(1);
    stage.settle(&mut crew);
    assert_eq!(came.get(), Some(at));
}

#[test]
fn s4_1_an_earlier_alarm_wakes_who_waits_for_a_later_one() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    room.set_alarm(stage.after(1000)).unwrap();
    stage.write();
    let came = wait_for_one(&stage, &mut crew);
    stage.settle(&mut crew);
    let soon = stage.after(5);
    room.set_named_alarm("soon", soon).unwrap();
    stage.write();
    stage.settle(&mut crew);
    stage.pass_seconds(5);
    stage.settle(&mut crew);
    assert_eq!(came.get(), Some(soon));
}

#[test]
fn s4_1_a_wait_that_is_dropped_loses_no_alarm() {
    let (stage, room) = Stage::with_room();
    let mut crew = Crew::new();
    room.set_alarm(stage.after(5)).unwrap();
    stage.write();
    wait_for_one(&stage, &mut crew);
    stage.settle(&mut crew);
    stage.pass_seconds(5);
    crew.cancel(0);
    assert_eq!(fired(&stage).object_id().unwrap(), room.id());
}

#[test]
fn s4_2_an_alarm_whose_turn_was_dropped_is_not_set() {
    let (stage, room) = Stage::with_room();
    room.enter(|| {
        room.set_alarm(stage.now()).unwrap();
        room.abort("planned");
    })
    .unwrap_err();
    drop(room);
    assert_eq!(stage.room().alarm().unwrap(), None);
    stage.pass_seconds(5);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_2_an_alarm_that_was_moved_fires_at_its_new_time_only() {
    for (first, second) in [(10, 30), (30, 10)] {
        for is_checkpointed in [false, true] {
            let (stage, room) = Stage::with_room();
            room.set_alarm(stage.after(first)).unwrap();
            stage.write();
            if is_checkpointed {
                stage.checkpoint();
            }
            room.set_alarm(stage.after(second)).unwrap();
            stage.write();
            let mut came = Vec::new();
            for now in 1..=60 {
                stage.pass_seconds(1);
                if let Some(fired) = due(&stage) {
                    room.complete_alarm(&fired).unwrap();
                    came.push(now);
                }
            }
            assert_eq!(came, [second]);
        }
    }
}

#[test]
fn s4_2_an_alarm_moved_away_and_back_fires_at_its_last_time() {
    let (stage, room) = Stage::with_room();
    let (near, far) = (stage.after(10), stage.after(1000));
    for at in [near, far, near, far, near] {
        room.set_alarm(at).unwrap();
        stage.checkpoint();
    }
    stage.pass_seconds(10);
    let first = fired(&stage);
    assert_eq!(first.scheduled(), near);
    assert!(due(&stage).is_none(), "one setting, one firing");
    room.complete_alarm(&first).unwrap();
    stage.pass_seconds(2000);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_2_setting_the_same_time_again_fires_once() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    for _ in 0..5 {
        room.set_alarm(at).unwrap();
    }
    stage.checkpoint();
    room.set_alarm(at).unwrap();
    stage.pass_seconds(10);
    let only = fired(&stage);
    assert!(due(&stage).is_none());
    room.complete_alarm(&only).unwrap();
    stage.pass_seconds(60);
    assert!(due(&stage).is_none());
    assert_eq!(room.alarm().unwrap(), None);
}

#[test]
fn s4_2_an_alarm_set_in_its_handler_to_the_time_that_it_fires_at_fires_again() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    room.set_alarm(at).unwrap();
    let first = fired(&stage);
    room.enter(|| {
        room.set_alarm(at).unwrap();
        room.complete_alarm(&first).unwrap();
    })
    .unwrap();
    drop(first);
    assert_eq!(room.alarm().unwrap(), Some(at), "the new setting stays");
    let again = fired(&stage);
    assert_eq!((again.scheduled(), again.attempt()), (at, 0));
    room.complete_alarm(&again).unwrap();
    assert_eq!(room.alarm().unwrap(), None);
}

/// Sets, moves and clears alarms, and puts the time that counts beside them.
fn move_alarms(stage: &Stage, room: &Storage) -> Result<(), Error> {
    for (round, seconds) in [20, 50, 10, 50, 30, 0, 40].into_iter().enumerate() {
        let at = Timestamp(BEGIN + seconds * SECOND);
        room.transaction(|room| {
            if seconds == 0 {
                room.clear_alarm()?;
                room.clear_named_alarm("tea")?;
            } else {
                room.set_alarm(at)?;
                room.set_named_alarm("tea", at)?;
            }
            room.put("seconds", seconds.to_string())
        })?;
        stage.store.steps().write_group()?;
        if round % 2 == 1 {
            stage.store.steps().checkpoint()?;
            stage.store.steps().merge()?;
        }
    }
    Ok(())
}

#[test]
fn s4_2_no_crash_parts_an_alarm_from_what_was_written_with_it() {
    let mut rounds = std::collections::BTreeSet::new();
    at_each_call(|stage, calls| {
        let room = stage.room();
        stage.disk.crash_after(calls);
        move_alarms(&stage, &room).ok();
        let is_over = !stage.disk.is_off();
        drop(room);
        let (stage, room) = stage.power_cut_with_room();
        let seconds: u64 =
            crate::stage::text(&room, "seconds").map_or(0, |text| text.parse().unwrap());
        let at = (seconds > 0).then_some(Timestamp(BEGIN + seconds * SECOND));
        assert_eq!((room.alarm().unwrap(), room.named_alarm("tea").unwrap()), (at, at));
        stage.disk.set_wall(BEGIN + 60 * SECOND);
        let came = [due(&stage), due(&stage), due(&stage)];
        let times: Vec<_> = came.iter().flatten().map(Fired::scheduled).collect();
        assert_eq!(times, at.map_or(vec![], |at| vec![at, at]), "call {calls}");
        rounds.insert(seconds);
        is_over
    });
    assert!(rounds.len() >= 5, "{rounds:?}");
}

#[test]
fn s4_2_an_alarm_whose_commit_failed_holds_up_no_other() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    other.set_alarm(stage.after(5)).unwrap();
    stage.write();
    room.set_alarm(stage.after(1)).unwrap();
    stage.disk.fail_call(2, Fault::Io);
    stage.store.steps().write_group().unwrap_err();
    drop((room, other));
    let disk = stage.disk.kill();
    drop(stage);
    let stage = Stage::on(disk, options());
    stage.pass_seconds(5);
    let mut names = Vec::new();
    while let Some(fired) = due(&stage) {
        names.push(owner(&fired));
        stage.actor(&names[names.len() - 1]).complete_alarm(&fired).unwrap();
    }
    assert!(names == ["other"] || names == ["room", "other"], "{names:?}");
}

#[test]
fn s4_3_an_alarm_that_was_replaced_does_not_fire_at_its_old_time() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.after(10)).unwrap();
    stage.checkpoint();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    let at = stage.after(100);
    room.set_alarm(at).unwrap();
    stage.write();
    stage.pass_seconds(50);
    assert!(due(&stage).is_none());
    assert_eq!(room.alarm().unwrap(), Some(at));
}

#[test]
fn s4_3_an_alarm_that_was_cleared_or_deleted_does_not_fire() {
    let (stage, room) = Stage::with_room();
    let other = stage.actor("other");
    room.set_alarm(stage.after(10)).unwrap();
    room.set_named_alarm("tea", stage.after(10)).unwrap();
    other.set_alarm(stage.after(10)).unwrap();
    stage.checkpoint();
    room.clear_alarm().unwrap();
    room.clear_named_alarm("tea").unwrap();
    let id = other.id();
    drop(other);
    stage.rooms.delete(id).unwrap().wait().unwrap();
    stage.pass_seconds(20);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_3_completing_an_alarm_that_was_set_again_leaves_the_new_one() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    let later = stage.after(60);
    room.set_alarm(later).unwrap();
    assert!(!room.complete_alarm(&first).unwrap());
    drop(first);
    assert_eq!(room.alarm().unwrap(), Some(later));
    assert!(due(&stage).is_none());
    stage.pass_seconds(60);
    assert_eq!(fired(&stage).scheduled(), later);
}

#[test]
fn s4_3_failing_an_alarm_that_was_set_again_changes_nothing() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    let later = stage.after(60);
    room.set_alarm(later).unwrap();
    let outcome = room.fail_alarm(&first, Failure::Counted, "no more").unwrap();
    assert_eq!(outcome, Outcome::Superseded);
    drop(first);
    stage.pass_seconds(60);
    let second = fired(&stage);
    assert_eq!((second.scheduled(), second.attempt()), (later, 0));
}

#[test]
fn s4_3_an_alarm_in_an_object_that_was_emptied_while_it_was_out_is_gone() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    room.delete_all().unwrap();
    assert!(!room.complete_alarm(&first).unwrap());
    drop(first);
    stage.pass_seconds(60);
    assert!(due(&stage).is_none());
    assert_eq!(keys(&room), "");
}

#[test]
fn s4_3_named_alarms_of_one_time_are_told_apart() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    for name in ["a", "b", "c"] {
        room.set_named_alarm(name, at).unwrap();
    }
    stage.pass_seconds(10);
    let all = [fired(&stage), fired(&stage), fired(&stage)];
    let done = all.iter().find(|fired| fired.alarm_name() == Some("b")).unwrap();
    assert!(room.complete_alarm(done).unwrap());
    let left = room.alarms().unwrap();
    assert_eq!(left, [(Some("a".to_owned()), at), (Some("c".to_owned()), at)]);
}
