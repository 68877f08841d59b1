//! Section 4.4: what an alarm's handler sees and leaves.

use crate::stage::{SECOND, Stage, at_each_call, due, fill, fired, handle, keys, text};
use dostore::actor::Storage;
use dostore::error::{Error, ErrorKind};
use dostore::store::alarms::{Failure, Outcome};

#[test]
fn s4_4_alarm_is_none_in_its_handler() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    room.set_alarm(at).unwrap();
    let first = fired(&stage);
    assert_eq!(room.alarm().unwrap(), Some(at), "the handler has not begun");
    let scope = room.alarm_scope(&first);
    assert_eq!(room.alarm().unwrap(), None);
    let other_event = room.clone();
    assert_eq!(other_event.enter(|| room.alarm().unwrap()).unwrap(), None);
    assert_eq!(room.transaction(Storage::alarm).unwrap(), None);
    drop(scope);
    assert_eq!(room.alarm().unwrap(), Some(at), "the handler ended and said nothing");
}

#[test]
fn s4_4_alarm_in_its_handler_is_what_was_set_since() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    let scope = room.alarm_scope(&first);
    let next = stage.after(10);
    room.set_alarm(next).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(next));
    room.set_alarm(first.scheduled()).unwrap();
    assert_eq!(room.alarm().unwrap(), Some(first.scheduled()), "even to the same time");
    drop(scope);
}

#[test]
fn s4_4_other_alarms_show_in_the_handler_of_one() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    let tea = stage.after(9);
    room.set_alarm(at).unwrap();
    room.set_named_alarm("tea", tea).unwrap();
    let first = fired(&stage);
    let scope = room.alarm_scope(&first);
    assert_eq!(room.named_alarm("tea").unwrap(), Some(tea));
    assert_eq!(room.alarms().unwrap(), [(Some("tea".to_owned()), tea)]);
    drop(scope);
}

#[test]
fn s4_4_a_handler_that_succeeds_clears_its_alarm() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    handle(&room, &fired(&stage), || Ok(()));
    assert_eq!(room.alarm().unwrap(), None);
    stage.write();
    drop(room);
    let stage = stage.power_cut();
    stage.pass_seconds(100);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_4_the_alarm_is_cleared_in_the_commit_of_the_handlers_last_turn() {
    let mut ends = [0; 2];
    at_each_call(|stage, calls| {
        let room = stage.room();
        room.set_alarm(stage.now()).unwrap();
        let first = fired(&stage);
        let before = stage.lsn();
        stage.disk.crash_after(calls);
        handle(&room, &first, || {
            fill(&room, "done");
            Ok(())
        });
        drop(first);
        stage.store.steps().write_group().ok();
        stage.store.steps().checkpoint().ok();
        let is_over = !stage.disk.is_off();
        if is_over {
            assert_eq!(stage.lsn() - before, 1);
        }
        drop(room);
        let (stage, room) = stage.power_cut_with_room();
        let is_done = keys(&room) == "done";
        assert_eq!(room.alarm().unwrap().is_none(), is_done, "call {calls}");
        assert_eq!(due(&stage).is_none(), is_done, "it fires again if it was not done");
        ends[usize::from(is_done)] += 1;
        is_over
    });
    assert!(ends[0] > 0 && ends[1] > 3, "{ends:?}");
}

#[test]
fn s4_4_completion_closes_the_gate() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    handle(&room, &first, || Ok(()));
    let gate = room.gate();
    assert!(!gate.is_open());
    stage.write();
    assert!(gate.is_open());
}

#[test]
fn s4_4_an_alarm_set_in_the_handler_fires_later_as_a_new_one() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let next = stage.after(10);
    handle(&room, &fired(&stage), || {
        room.set_alarm(next).unwrap();
        Ok(())
    });
    assert_eq!(room.alarm().unwrap(), Some(next));
    assert!(due(&stage).is_none());
    stage.pass_seconds(10);
    let second = fired(&stage);
    assert_eq!((second.scheduled(), second.attempt()), (next, 0));
}

#[test]
fn s4_4_an_alarm_set_in_an_earlier_turn_of_the_handler_is_kept_too() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    let scope = room.alarm_scope(&first);
    let next = stage.after(10);
    room.enter(|| room.set_alarm(next).unwrap()).unwrap();
    room.enter(|| fill(&room, "a")).unwrap();
    assert!(!room.complete_alarm(&first).unwrap());
    drop(scope);
    assert_eq!(room.alarm().unwrap(), Some(next));
}

#[test]
fn s4_4_a_handler_that_fails_keeps_its_writes_and_its_alarm() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    room.set_alarm(at).unwrap();
    handle(&room, &fired(&stage), || {
        room.put("tried", "once").unwrap();
        Err("no more")
    });
    assert_eq!(text(&room, "tried"), Some("once".into()));
    assert_eq!(room.alarm().unwrap(), Some(at), "it shows the time that was asked for");
    stage.pass_seconds(3);
    let again = fired(&stage);
    assert_eq!((again.scheduled(), again.attempt(), again.is_retry()), (at, 1, true));
}

#[test]
fn s4_4_a_handler_that_sets_an_alarm_and_fails_gets_the_new_alarm() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let next = stage.after(60);
    handle(&room, &fired(&stage), || {
        room.set_alarm(next).unwrap();
        Err("no more")
    });
    stage.pass_seconds(30);
    assert!(due(&stage).is_none(), "the old one is not tried again");
    stage.pass_seconds(30);
    let second = fired(&stage);
    assert_eq!((second.scheduled(), second.attempt(), second.is_retry()), (next, 0, false));
}

#[test]
fn s4_4_a_handler_that_clears_its_alarm_and_fails_is_not_tried_again() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    handle(&room, &fired(&stage), || {
        room.clear_alarm().unwrap();
        Err("no more")
    });
    assert_eq!(room.alarm().unwrap(), None);
    stage.pass_seconds(100);
    assert!(due(&stage).is_none());
}

#[test]
fn s4_4_an_alarm_set_and_cleared_in_the_handler_leaves_none() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    handle(&room, &fired(&stage), || {
        room.set_alarm(stage.after(10)).unwrap();
        room.clear_alarm().unwrap();
        Ok(())
    });
    stage.pass_seconds(100);
    assert!(due(&stage).is_none());
    assert_eq!(room.alarm().unwrap(), None);
}

#[test]
fn s4_4_delete_all_in_the_handler_ends_the_alarm() {
    for result in [Ok(()), Err("no more")] {
        let (stage, room) = Stage::with_room();
        fill(&room, "a");
        room.set_alarm(stage.now()).unwrap();
        handle(&room, &fired(&stage), || {
            room.delete_all().unwrap();
            result
        });
        assert_eq!((keys(&room), room.alarm().unwrap()), (String::new(), None));
        stage.pass_seconds(100);
        assert!(due(&stage).is_none());
    }
}

#[test]
fn s4_4_delete_all_keeping_alarms_in_the_handler_keeps_the_others() {
    let (stage, room) = Stage::with_room();
    let tea = stage.after(10);
    room.set_alarm(stage.now()).unwrap();
    room.set_named_alarm("tea", tea).unwrap();
    handle(&room, &fired(&stage), || {
        room.delete_all_keeping_alarms().unwrap();
        Ok(())
    });
    assert_eq!(room.alarms().unwrap(), [(Some("tea".to_owned()), tea)]);
}

#[test]
fn s4_4_an_abort_in_the_handler_leaves_the_alarm_to_be_tried_again() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    room.set_alarm(at).unwrap();
    let first = fired(&stage);
    let scope = room.alarm_scope(&first);
    let ended = room.enter(|| {
        fill(&room, "lost");
        room.complete_alarm(&first).unwrap();
        room.abort("no more");
    });
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Broken);
    drop((scope, room));
    let room = stage.room();
    assert_eq!((keys(&room), room.alarm().unwrap()), (String::new(), Some(at)));
    let outcome = room.fail_alarm(&first, Failure::Counted, "aborted").unwrap();
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    drop(first);
    stage.pass_seconds(3);
    assert_eq!(fired(&stage).attempt(), 1);
}

#[test]
fn s4_4_a_completion_that_was_rolled_back_leaves_the_alarm() {
    let (stage, room) = Stage::with_room();
    let at = stage.now();
    room.set_alarm(at).unwrap();
    let first = fired(&stage);
    let failed: Result<(), Error> = room.transaction(|room| {
        assert!(room.complete_alarm(&first)?);
        room.put([0; 5000], "too long a key")
    });
    failed.unwrap_err();
    drop(first);
    assert_eq!(room.alarm().unwrap(), Some(at));
    stage.pass_seconds(3);
    assert_eq!(fired(&stage).scheduled(), at, "what was not reported comes again");
}

#[test]
fn s4_4_named_alarms_have_handlers_of_their_own() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    room.set_named_alarm("tea", stage.now()).unwrap();
    let (first, second) = (fired(&stage), fired(&stage));
    let (plain, tea) = if first.alarm_name().is_none() { (first, second) } else { (second, first) };
    handle(&room, &tea, || Err("cold"));
    handle(&room, &plain, || Ok(()));
    assert_eq!(room.alarms().unwrap(), [(Some("tea".to_owned()), tea.scheduled())]);
    drop((plain, tea));
    stage.pass_seconds(3);
    let again = fired(&stage);
    assert_eq!((again.alarm_name(), again.attempt()), (Some("tea"), 1));
}

#[test]
fn s4_4_an_alarm_that_comes_due_while_another_is_handled_is_a_firing_of_its_own() {
    let (stage, room) = Stage::with_room();
    room.set_alarm(stage.now()).unwrap();
    let first = fired(&stage);
    let next = stage.after(1);
    room.set_alarm(next).unwrap();
    stage.write();
    stage.pass_seconds(2);
    assert!(!room.complete_alarm(&first).unwrap());
    drop(first);
    let second = fired(&stage);
    assert_eq!((second.scheduled(), second.attempt()), (next, 0));
    assert!(room.complete_alarm(&second).unwrap());
    drop(second);
    stage.pass(std::time::Duration::from_micros(100 * SECOND));
    assert!(due(&stage).is_none());
}
