//! What a scenario is made of, and the table of scenarios.

use Step::{
    Alarm, Checkpoint, Clean, ClearAlarm, DeleteAll, DeleteKey, Erase, Expire, Fork, Group, Mark,
    Merge, Namespace, Prepare, Purge, Put, PutLarge, PutMany, Remove, Reopen, Restore, Retired,
    Savepoint, Wait,
};

/// One thing that is done to a store. A number is an object's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A commit of one small key.
    Put(usize),
    /// A commit of a value of two blocks of the log.
    PutLarge(usize),
    /// A commit of forty keys.
    PutMany(usize),
    /// A commit that goes back to a savepoint in between.
    Savepoint(usize),
    DeleteKey(usize),
    DeleteRange(usize),
    DeleteAll(usize),
    /// The object goes, from outside.
    Remove(usize),
    Purge(usize),
    Alarm(usize),
    ClearAlarm(usize),
    /// The object becomes what it was at first.
    Restore(usize),
    /// Another object becomes what this one was at first.
    Fork(usize, usize),
    /// A namespace is made.
    Namespace,
    /// Everything committed becomes durable.
    Wait,
    Group,
    Mark,
    Checkpoint,
    Clean,
    Merge,
    Expire,
    Erase,
    Prepare,
    Retired,
    /// All files are read from the medium.
    Scrub,
    /// The clock goes on.
    Time,
    /// The store is closed and opened again.
    Reopen,
}

/// Scenarios. Each begins with opening a store that has pages, history and a tail of the log.
pub const SCENARIOS: [&[Step]; 42] = [
    &[],
    &[Put(0), Wait],
    &[Put(0), Put(1), Put(3), Wait],
    &[PutLarge(0), Wait, PutLarge(0), Wait],
    &[PutMany(1), Wait, Put(1), Wait],
    &[Savepoint(0), Wait],
    &[DeleteKey(0), Wait, Put(0), Wait],
    &[DeleteAll(1), Wait, Put(1), Wait],
    &[Remove(0), Wait],
    &[Remove(1), Put(1), Wait],
    &[Alarm(0), Wait, ClearAlarm(2), Wait],
    &[Alarm(2), Checkpoint, ClearAlarm(2), Checkpoint],
    &[Namespace, Put(0), Wait],
    &[Namespace, Checkpoint, Put(0), Wait],
    &[Put(0), Group, Put(1), Mark],
    &[Prepare, Put(0), Wait, Prepare],
    &[Checkpoint],
    &[Put(0), Checkpoint, Put(0), Wait],
    &[PutMany(0), Checkpoint],
    &[PutMany(0), Checkpoint, PutMany(0), Checkpoint],
    &[Put(1), Checkpoint, Put(1), Checkpoint, Merge],
    &[Merge],
    &[Checkpoint, Merge, Put(0), Wait],
    &[Clean],
    &[DeleteAll(1), Checkpoint, Clean, Put(1), Wait],
    &[Remove(1), Checkpoint, Clean, Merge],
    &[Checkpoint, Retired, Put(0), Wait],
    &[Checkpoint, Merge, Retired],
    &[Restore(0), Wait],
    &[Restore(1), Checkpoint],
    &[Put(0), Restore(0), Put(0), Wait],
    &[Fork(0, 3), Wait],
    &[Fork(1, 3), Checkpoint, Put(3), Wait],
    &[Purge(0), Wait, Put(0), Wait],
    &[Purge(1), Checkpoint, Erase],
    &[Purge(0), Erase, Retired],
    &[Expire, Put(0), Wait],
    &[Reopen],
    &[Put(0), Reopen, Put(0), Wait],
    &[PutMany(1), Checkpoint, Reopen, Put(1), Wait],
    &[PutLarge(0), PutLarge(1), PutLarge(3), PutLarge(0), PutLarge(1), Wait],
    &[Put(0), Checkpoint, DeleteKey(0), Checkpoint, Merge, Clean, Retired, Expire],
];

/// Of which every sequence of up to three is tried.
pub const SHORT: [Step; 9] =
    [Put(0), PutLarge(0), DeleteKey(0), Alarm(1), Prepare, Merge, Clean, Restore(0), Checkpoint];

/// The sequence with this number; none beyond the last.
pub fn sequence(number: usize) -> Option<Vec<Step>> {
    let kinds = SHORT.len();
    let (mut length, mut rest) = (1, number);
    while rest >= kinds.pow(length) {
        rest -= kinds.pow(length);
        length += 1;
    }
    let step = |place: u32| SHORT[rest / kinds.pow(place) % kinds];
    (length <= 3).then(|| (0..length).map(step).collect())
}
