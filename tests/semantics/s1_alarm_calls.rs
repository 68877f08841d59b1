//! Section 1.10: setting, reading and clearing alarms.

use crate::stage::{SECOND, Stage, keys};
use dostore::actor::Storage;
use dostore::error::Error;
use dostore::ids::Timestamp;
use std::time::{Duration, SystemTime};

fn names(room: &Storage) -> Vec<Option<String>> {
    room.alarms().unwrap().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn s1_10_alarm_says_when_or_none() {
    let (stage, room) = Stage::with_room();
    assert_eq!(room.alarm().unwrap(), None);
    let at = stage.after(30);
    room.set_alarm(at).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(at));
}

#[test]
fn s1_10_a_second_set_replaces_the_first() {
    let (stage, room) = Stage::with_room();
    for at in [stage.after(30), stage.after(10), stage.after(60)] {
        room.set_alarm(at).unwrap();
        assert_eq!(room.alarm().unwrap(), Some(at));
    }
    stage.write();
    stage.pass_seconds(40);
    assert!(stage.store.alarms().try_next().unwrap().is_none(), "only the last setting counts");
    stage.pass_seconds(20);
    assert!(stage.store.alarms().try_next().unwrap().is_some());
}

#[test]
fn s1_10_clear_alarm_leaves_none() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.after(1)).unwrap();
    room.clear_alarm().unwrap();
    assert_eq!(room.alarm().unwrap(), None);
    stage.write();
    stage.pass_seconds(5);
    assert!(stage.store.alarms().try_next().unwrap().is_none());
}

#[test]
fn s1_10_clearing_no_alarm_is_no_error() {
    let (_stage, room) = Stage::with_room();
    room.clear_alarm().unwrap();
    room.clear_named_alarm("none").unwrap();
    assert_eq!(names(&room), []);
}

#[test]
fn s1_10_an_alarm_survives_a_power_cut_and_a_checkpoint() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(3600);
    room.set_alarm(at).unwrap();
    stage.write();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarm().unwrap(), Some(at));
    stage.checkpoint();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarm().unwrap(), Some(at));
}

#[test]
fn s1_10_an_alarm_may_be_set_by_system_time_and_by_delay() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(90);
    room.set_alarm(SystemTime::UNIX_EPOCH + Duration::from_micros(at.0)).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(at));
    room.set_alarm(Duration::from_mins(2)).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(stage.after(120)));
}

#[test]
fn s1_10_an_alarm_keeps_its_microseconds() {
    let (stage, room) = Stage::with_room();
    let at = Timestamp(stage.after(1).0 + 123_457);
    room.set_alarm(at).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(at));
}

#[test]
fn s1_10_a_time_before_now_is_kept_and_due_at_once() {
    let (stage, room) = Stage::with_room();
    let past = Timestamp(stage.now().0 - 3600 * SECOND);
    room.set_alarm(past).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(past));
    stage.write();
    let fired = stage.store.alarms().try_next().unwrap().unwrap();
    assert_eq!(fired.scheduled(), past);
}

#[test]
fn s1_10_time_zero_is_a_time() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(Timestamp(0)).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(Timestamp(0)));
    stage.write();
    assert!(stage.store.alarms().try_next().unwrap().is_some());
}

#[test]
fn s1_10_the_greatest_time_is_a_time() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(Timestamp(u64::MAX)).unwrap();
    stage.checkpoint();
    stage.pass(Duration::from_hours(400 * 365 * 24));
    assert!(stage.store.alarms().try_next().unwrap().is_none());
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarm().unwrap(), Some(Timestamp(u64::MAX)));
}

#[test]
fn s1_10_a_named_alarm_stands_beside_the_plain_one() {
    let (stage, room) = Stage::with_room();
    let (plain, tea, nap) = (stage.after(10), stage.after(20), stage.after(30));
    room.set_named_alarm("tea", tea).unwrap();
    room.set_alarm(plain).unwrap();
    room.set_named_alarm("nap", nap).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(plain));
    assert_eq!(room.named_alarm("tea").unwrap(), Some(tea));
    room.clear_alarm().unwrap();
    assert_eq!(room.named_alarm("nap").unwrap(), Some(nap));
    room.clear_named_alarm("tea").unwrap();
    assert_eq!(names(&room), [Some("nap".to_owned())]);
}

#[test]
fn s1_10_alarms_lists_the_plain_one_first_and_the_named_by_name() {
    let (stage, room) = Stage::with_room();
    room.set_named_alarm("b", stage.after(1)).unwrap();
    room.set_named_alarm("a", stage.after(9)).unwrap();
    room.set_alarm(stage.after(5)).unwrap();
    assert_eq!(names(&room), [None, Some("a".to_owned()), Some("b".to_owned())]);
}

#[test]
fn s1_10_an_alarm_and_a_key_of_one_name_are_two_things() {
    let (stage, room) = Stage::with_room();
    room.set_named_alarm("tea", stage.after(20)).unwrap();
    room.put("tea", "green").unwrap();
    assert!(room.delete("tea").unwrap());
    assert_eq!(names(&room), [Some("tea".to_owned())]);
    assert_eq!(keys(&room), "");
}

#[test]
fn s1_10_delete_range_of_all_keys_leaves_the_alarms() {
    let (stage, room) = Stage::with_room();
    room.put("a", "1").unwrap();
    room.set_alarm(stage.after(5)).unwrap();
    room.set_named_alarm("tea", stage.after(20)).unwrap();
    room.delete_range::<&str>(..).unwrap();
    assert_eq!(keys(&room), "");
    assert_eq!(names(&room), [None, Some("tea".to_owned())]);
}

#[test]
fn s1_10_an_open_turn_reads_the_alarm_that_it_set() {
    let (stage, room) = Stage::with_room();
    let (first, second) = (stage.after(5), stage.after(6));
    let seen = room.enter(|| {
        room.set_alarm(first).unwrap();
        let seen = room.alarm().unwrap();
        room.set_alarm(second).unwrap();
        room.set_named_alarm("tea", first).unwrap();
        room.clear_named_alarm("tea").unwrap();
        (seen, room.alarm().unwrap(), room.alarms().unwrap().len())
    });
    assert_eq!(seen.unwrap(), (Some(first), Some(second), 1));
}

#[test]
fn s1_10_an_alarm_set_in_a_transaction_rolls_back_with_it() {
    let (stage, room) = Stage::with_room();
    let kept = stage.after(50);
    room.set_alarm(kept).unwrap();
    let failed = room.transaction(|room| {
        room.set_alarm(stage.after(5))?;
        room.set_named_alarm("tea", stage.after(5))?;
        Err::<(), Error>(room.put([0; 5000], "too long a key").unwrap_err())
    });
    assert_eq!(failed.unwrap_err().code(), "limit.key");
    assert_eq!(room.alarms().unwrap(), [(None, kept)]);
    stage.write();
    stage.pass_seconds(10);
    assert!(stage.store.alarms().try_next().unwrap().is_none());
}
