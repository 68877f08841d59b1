//! Section 2.8: deleting everything, beside other writes.

use crate::stage::{Stage, at_each_call, fill, keys};

#[test]
fn s2_8_writes_before_it_in_the_turn_are_gone_and_later_ones_stay() {
    let (stage, room) = Stage::with_room();
    fill(&room, "old");
    room.enter(|| {
        fill(&room, "a");
        room.delete_all().unwrap();
        fill(&room, "c");
    })
    .unwrap();
    assert_eq!(keys(&room), "c");
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "c");
}

#[test]
fn s2_8_it_is_one_commit_with_the_rest_of_its_turn() {
    let mut seen = [0; 2];
    at_each_call(|stage, calls| {
        let room = stage.room();
        fill(&room, "a b");
        stage.checkpoint();
        stage.disk.crash_after(calls);
        room.enter(|| {
            room.delete_all().unwrap();
            fill(&room, "c");
        })
        .unwrap();
        stage.store.steps().write_group().ok();
        stage.store.steps().checkpoint().ok();
        let is_over = !stage.disk.is_off();
        drop(room);
        let (_stage, room) = stage.power_cut_with_room();
        match &*keys(&room) {
            "a b" => seen[0] += 1,
            "c" => seen[1] += 1,
            other => panic!("half of it: {other}"),
        }
        is_over
    });
    assert!(seen[0] > 0 && seen[1] > 3, "{seen:?}");
}

#[test]
fn s2_8_two_in_a_turn_are_as_one() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b");
    let before = stage.lsn();
    room.enter(|| {
        room.delete_all().unwrap();
        fill(&room, "c");
        room.delete_all().unwrap();
        fill(&room, "d");
    })
    .unwrap();
    assert_eq!(keys(&room), "d");
    assert_eq!(stage.lsn() - before, 1);
}

#[test]
fn s2_8_alarms_that_are_kept_survive_a_crash_at_any_moment() {
    let mut ends = 0;
    at_each_call(|stage, calls| {
        let room = stage.room();
        let (plain, tea) = (stage.after(60), stage.after(70));
        room.enter(|| {
            fill(&room, "a b");
            room.set_alarm(plain).unwrap();
            room.set_named_alarm("tea", tea).unwrap();
        })
        .unwrap();
        stage.write();
        stage.disk.crash_after(calls);
        room.delete_all_keeping_alarms().unwrap();
        stage.store.steps().write_group().ok();
        stage.store.steps().checkpoint().ok();
        let is_over = !stage.disk.is_off();
        drop(room);
        let (_stage, room) = stage.power_cut_with_room();
        let alarms = room.alarms().unwrap();
        assert_eq!(alarms, [(None, plain), (Some("tea".to_owned()), tea)], "call {calls}");
        assert!(["", "a b"].contains(&&*keys(&room)));
        ends += usize::from(keys(&room).is_empty());
        is_over
    });
    assert!(ends > 3);
}

#[test]
fn s2_8_its_cost_does_not_depend_on_how_much_there_is() {
    let cost = |count: usize| {
        let (stage, room) = Stage::with_room();
        for number in 0..count {
            room.put(format!("{number:05}"), [1; 100]).unwrap();
        }
        stage.checkpoint();
        drop(room);
        let (stage, room) = stage.power_cut_with_room();
        stage.write();
        let calls = stage.disk.calls();
        room.delete_all().unwrap();
        stage.write();
        stage.disk.calls() - calls
    };
    let (few, many) = (cost(10), cost(3000));
    assert!(many <= few + 2, "{few} calls for 10 keys, {many} for 3,000");
}

#[test]
fn s2_8_later_unconfirmed_writes_stay_unconfirmed() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a");
    room.delete_all().unwrap();
    let gate = room.gate();
    assert!(!gate.is_open());
    stage.write();
    assert!(gate.is_open());
    room.put_unconfirmed("b", "1").unwrap();
    assert!(room.gate().is_open());
    assert_eq!(keys(&room), "b");
}

#[test]
fn s2_8_what_was_written_after_it_is_not_what_was_before() {
    let (stage, room) = Stage::with_room();
    fill(&room, "a b c");
    stage.checkpoint();
    room.delete_all().unwrap();
    room.put("b", "new").unwrap();
    stage.checkpoint();
    fill(&room, "d");
    drop(room);
    stage.write();
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(keys(&room), "b d");
    stage.checkpoint();
    assert_eq!(crate::stage::text(&room, "b"), Some("new".into()));
}
