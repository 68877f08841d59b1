//! Sections 4.5 and 4.6: failed attempts, clocks that jump, and changes between attempts.

use crate::stage::{BEGIN, SECOND, Stage, due, fired, owner};
use dostore::actor::Storage;
use dostore::ids::Timestamp;
use dostore::store::alarms::{Failure, Outcome};
use std::time::Duration;

/// Fails the alarm that is due now; gives the time of the next attempt, none if it was abandoned.
fn fail(stage: &Stage, room: &Storage, failure: Failure) -> Option<Timestamp> {
    let fired = fired(stage);
    match room.fail_alarm(&fired, failure, "no more").unwrap() {
        Outcome::Retry { at } => Some(at),
        Outcome::Abandoned => None,
        Outcome::Superseded => panic!("nobody set it again"),
    }
}

/// Fails once, checks that the next attempt comes exactly when it was said, and says how long
/// that was.
fn fail_and_wait(stage: &Stage, room: &Storage, failure: Failure) -> Option<u64> {
    let begin = stage.now();
    let at = fail(stage, room, failure)?;
    stage.pass_until(Timestamp(at.0 - 1));
    assert!(due(stage).is_none(), "too early");
    stage.pass_until(at);
    Some(at.0 - begin.0)
}

fn with_alarm() -> (Stage, Storage) {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    stage.write();
    (stage, room)
}

#[test]
fn s4_5_delays_double_with_at_most_a_quarter_more() {
    let (stage, room) = with_alarm();
    for seconds in [2, 4, 8, 16, 32, 64] {
        let delay = fail_and_wait(&stage, &room, Failure::Counted).unwrap();
        let range = seconds * SECOND..=seconds * SECOND * 5 / 4;
        assert!(range.contains(&delay), "{delay} for {seconds} s");
    }
}

#[test]
fn s4_5_after_six_retries_the_alarm_is_abandoned() {
    let (stage, room) = with_alarm();
    for _ in 0..6 {
        fail_and_wait(&stage, &room, Failure::Counted).unwrap();
        assert!(room.alarm().unwrap().is_some());
    }
    assert_eq!(fail_and_wait(&stage, &room, Failure::Counted), None);
    assert_eq!(room.alarm().unwrap(), None);
    stage.pass(Duration::from_hours(48));
    assert!(due(&stage).is_none());
}

#[test]
fn s4_5_an_abandoned_alarm_stays_away_after_a_power_cut() {
    let (stage, room) = with_alarm();
    while fail_and_wait(&stage, &room, Failure::Counted).is_some() {}
    stage.write();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarm().unwrap(), None);
    stage.pass(Duration::from_hours(48));
    assert!(due(&stage).is_none());
}

#[test]
fn s4_5_what_was_abandoned_can_be_looked_up() {
    let (stage, room) = with_alarm();
    let scheduled = room.alarm().unwrap().unwrap();
    while fail_and_wait(&stage, &room, Failure::Counted).is_some() {}
    stage.write();
    drop(room);
    let (_stage, room) = stage.power_cut_with_room();
    let failure = room.last_failure(None).unwrap().unwrap();
    assert_eq!((failure.scheduled, failure.attempts), (scheduled, 7));
    assert_eq!(failure.text, "no more");
    assert!(room.last_failure(Some("tea")).unwrap().is_none());
}

#[test]
fn s4_5_an_alarm_set_after_it_was_abandoned_begins_anew() {
    let (stage, room) = with_alarm();
    while fail_and_wait(&stage, &room, Failure::Counted).is_some() {}
    room.set_alarm(stage.after(5)).unwrap();
    stage.pass_seconds(5);
    assert_eq!(fired(&stage).attempt(), 0);
}

#[test]
fn s4_5_failures_that_do_not_count_never_end_an_alarm() {
    let (stage, room) = with_alarm();
    for _ in 0..40 {
        let delay = fail_and_wait(&stage, &room, Failure::Uncounted).unwrap();
        assert!(delay <= 1024 * SECOND * 5 / 4, "{delay}");
    }
    for _ in 0..6 {
        fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    }
    assert_eq!(fail_and_wait(&stage, &room, Failure::Counted), None);
}

#[test]
fn s4_5_delays_begin_anew_with_the_first_failure_that_counts() {
    let (stage, room) = with_alarm();
    for _ in 0..5 {
        fail_and_wait(&stage, &room, Failure::Uncounted).unwrap();
    }
    let delay = fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    assert!((2 * SECOND..=SECOND * 5 / 2).contains(&delay), "{delay}");
    let delay = fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    assert!((4 * SECOND..=5 * SECOND).contains(&delay), "{delay}");
}

#[test]
fn s4_5_counters_survive_a_power_cut() {
    let (mut stage, mut room) = with_alarm();
    for attempt in 0..6 {
        let fired = fired(&stage);
        assert_eq!((fired.attempt(), fired.is_retry()), (attempt, attempt > 0));
        let outcome = room.fail_alarm(&fired, Failure::Counted, "no more").unwrap();
        let Outcome::Retry { at } = outcome else { panic!("{outcome:?}") };
        stage.write();
        drop((fired, room));
        stage = stage.power_cut();
        assert!(due(&stage).is_none(), "a restart does not shorten the delay");
        room = stage.room();
        stage.pass_until(at);
    }
    assert_eq!(fail(&stage, &room, Failure::Counted), None);
}

#[test]
fn s4_5_a_retry_says_which_attempt_it_is_and_for_when_it_was_set() {
    let (stage, room) = with_alarm();
    let at = room.alarm().unwrap().unwrap();
    for attempt in 0..4 {
        let held = fired(&stage);
        assert_eq!((held.scheduled(), held.attempt()), (at, attempt));
        let outcome = room.fail_alarm(&held, Failure::Counted, "no more").unwrap();
        drop(held);
        let Outcome::Retry { at } = outcome else { panic!("{outcome:?}") };
        stage.pass_until(at);
    }
}

#[test]
fn s4_5_a_success_after_failures_ends_the_alarm() {
    let (stage, room) = with_alarm();
    fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    let third = fired(&stage);
    assert!(room.complete_alarm(&third).unwrap());
    drop(third);
    assert_eq!(room.alarm().unwrap(), None);
    stage.pass_seconds(5000);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_5_an_alarm_does_not_fire_early_when_the_clock_is_set_back() {
    let (stage, room) = Stage::with_room();
    let at = stage.after(10);
    room.set_alarm(at).unwrap();
    stage.write();
    stage.pass_seconds(5);
    stage.disk.set_wall(BEGIN - 1000 * SECOND);
    stage.pass_seconds(10);
    assert!(due(&stage).is_none(), "ten seconds of uptime are over, but not of the wall's");
    stage.disk.set_wall(at.0 - SECOND);
    stage.pass_until(Timestamp(at.0 - 1));
    assert!(due(&stage).is_none());
    stage.pass_until(at);
    assert_eq!(fired(&stage).scheduled(), at);
}

#[test]
fn s4_5_a_clock_that_jumps_ahead_skips_no_alarm() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.after(3600)).unwrap();
    room.set_named_alarm("tea", stage.after(7200)).unwrap();
    stage.write();
    stage.disk.set_wall(BEGIN + 86_400 * SECOND);
    stage.pass_seconds(1);
    let both = [fired(&stage), fired(&stage)];
    assert_eq!(both.each_ref().map(|fired| fired.alarm_name()), [None, Some("tea")]);
    assert!(both.iter().all(|fired| fired.late() > Duration::from_hours(20)));
}

#[test]
fn s4_5_a_clock_set_back_while_an_alarm_is_out_brings_no_second_firing() {
    let (stage, room) = with_alarm();
    let first = fired(&stage);
    stage.disk.set_wall(BEGIN - 100 * SECOND);
    stage.pass_seconds(1);
    assert!(room.complete_alarm(&first).unwrap());
    drop(first);
    stage.pass_seconds(1000);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_5_a_completion_that_a_crash_took_fires_again() {
    let (stage, room) = with_alarm();
    let first = fired(&stage);
    assert!(room.complete_alarm(&first).unwrap());
    assert_eq!(room.alarm().unwrap(), None);
    drop((first, room));
    let (stage, room) = stage.power_cut_with_room();
    if room.alarm().unwrap().is_some() {
        assert_eq!(fired(&stage).attempt(), 0);
        return;
    }
    panic!("what was never written to the log cannot be there");
}

#[test]
fn s4_5_a_firing_that_is_dropped_comes_back_after_two_seconds() {
    let (stage, room) = with_alarm();
    let before = stage.lsn();
    drop(fired(&stage));
    stage.pass(Duration::from_millis(1900));
    assert!(due(&stage).is_none());
    stage.pass(Duration::from_millis(700));
    let again = fired(&stage);
    assert_eq!(
        (again.object_id().unwrap(), again.attempt()),
        (room.id(), 0),
        "nothing was reported"
    );
    assert_eq!(stage.lsn(), before, "and nothing written");
}

#[test]
fn s4_5_a_firing_that_is_out_when_the_power_fails_fires_again() {
    let (stage, room) = with_alarm();
    let held = fired(&stage);
    drop((held, room));
    let stage = stage.power_cut();
    let again = fired(&stage);
    assert_eq!((owner(&again), again.attempt()), ("room".to_owned(), 0));
}

#[test]
fn s4_5_alarms_that_failed_together_are_not_tried_together() {
    let stage = Stage::new();
    let rooms: Vec<_> = (0..20).map(|number| stage.actor(&number.to_string())).collect();
    for room in &rooms {
        room.set_alarm(stage.now()).unwrap();
    }
    let mut times = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let fired = fired(&stage);
        let room = rooms.iter().find(|room| room.id() == fired.object_id().unwrap()).unwrap();
        let outcome = room.fail_alarm(&fired, Failure::Counted, "no more").unwrap();
        let Outcome::Retry { at } = outcome else { panic!("{outcome:?}") };
        times.insert(at);
    }
    assert!(times.len() > 10, "{} different times for 20 alarms", times.len());
}

#[test]
fn s4_6_clearing_an_alarm_between_attempts_ends_it() {
    let (stage, room) = with_alarm();
    let at = fail(&stage, &room, Failure::Counted).unwrap();
    room.clear_alarm().unwrap();
    stage.pass_until(at);
    stage.pass_seconds(100);
    assert!(due(&stage).is_none());
    drop(room);
    stage.write();
    let stage = stage.power_cut();
    stage.pass_seconds(5000);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_6_setting_an_alarm_between_attempts_begins_anew() {
    let (stage, room) = with_alarm();
    fail_and_wait(&stage, &room, Failure::Counted).unwrap();
    fail(&stage, &room, Failure::Counted).unwrap();
    let next = stage.after(60);
    room.set_alarm(next).unwrap();
    stage.write();
    stage.pass_seconds(59);
    assert!(due(&stage).is_none(), "the retry of the old one is gone");
    stage.pass_seconds(1);
    let first = fired(&stage);
    assert_eq!((first.scheduled(), first.attempt()), (next, 0));
}

#[test]
fn s4_6_an_alarm_set_between_attempts_survives_a_power_cut() {
    let (stage, room) = with_alarm();
    fail(&stage, &room, Failure::Counted).unwrap();
    room.clear_alarm().unwrap();
    let next = stage.after(60);
    room.set_alarm(next).unwrap();
    stage.write();
    drop(room);
    let (stage, room) = stage.power_cut_with_room();
    assert_eq!(room.alarm().unwrap(), Some(next));
    stage.pass_seconds(60);
    let first = fired(&stage);
    assert_eq!((first.scheduled(), first.attempt()), (next, 0));
}
