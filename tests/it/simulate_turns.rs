//! What happens between two crashes: turns, reads and steps, in random order.
//!
//! Invariants:
//!   * A commit that fails is not there: the model forgets it at once and for ever.
//!   * Each read is compared with the model at once.

use super::chance::Chance;
use super::model::{Change, Content, Draft, Kind};
use super::simulate_checks::{Fault, check_all, check_some, draw_span};
use super::simulate_plan::{Action, ObjectPlan, Plan};
use super::simulate_world::{Activity, Outcome, Stop, World};
use dostore::error::{Error, ErrorKind};
use dostore::ids::Lsn;
use dostore::store::commit::{Commit, Position};
use dostore::store::turn::Turn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What fills a turn.
struct Pen<'p> {
    plan: &'p Plan,
    object: &'p ObjectPlan,
}

impl Pen<'_> {
    /// A key of the object; seldom one that it never has.
    fn key(&self, chance: &mut Chance) -> Vec<u8> {
        let beyond = u64::from(chance.percent(10));
        self.object.style.key(chance.below(self.object.keys + beyond))
    }

    fn content(&self, chance: &mut Chance, version: u64) -> Content {
        let bytes = chance.pick(&self.plan.value_bytes);
        let bytes = usize::try_from(bytes).expect("a small size");
        Content { owner: None, version, bytes, shape: chance.pick(&self.plan.shapes) }
    }

    /// One operation, in the turn and in the draft.
    fn operation(
        &self,
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        chance: &mut Chance,
    ) -> Result<(), Error> {
        match chance.below(40) {
            0 => {
                turn.delete_all()?;
                draft.apply(Change::DeleteAll);
            }
            1..=3 => self.delete_range(turn, draft, chance)?,
            4..=9 => {
                let key = self.key(chance);
                turn.delete(&key)?;
                draft.apply(Change::Delete(key));
            }
            10 if self.plan.has_bulk => self.bulk(turn, draft, chance)?,
            _ => {
                let (key, version) = (self.key(chance), draft.new_version());
                Self::put(turn, draft, key, self.content(chance, version))?;
            }
        }
        Ok(())
    }

    fn put(
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        key: Vec<u8>,
        content: Content,
    ) -> Result<(), Error> {
        turn.put(&key, content.render(draft.object(), &key))?;
        draft.apply(Change::Put(key, content));
        Ok(())
    }

    fn delete_range(
        &self,
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        chance: &mut Chance,
    ) -> Result<(), Error> {
        let (from, to) = draw_span(chance, &|chance| self.key(chance));
        turn.delete_range::<Vec<u8>>((from.clone(), to.clone()))?;
        draft.apply(Change::DeleteRange(from, to));
        Ok(())
    }

    /// Many keys in a row, as large as a commit can well be.
    fn bulk(
        &self,
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        chance: &mut Chance,
    ) -> Result<(), Error> {
        let most = if self.object.keys > 50_000 { 40_000 } else { 2_000 };
        let first = chance.below(self.object.keys);
        let count = chance.below(self.object.keys - first).min(most) + 1;
        let bytes = chance.pick(&self.plan.value_bytes).min(600);
        let bytes = usize::try_from(bytes).expect("a small size");
        let (version, shape) = (draft.new_version(), chance.pick(&self.plan.shapes));
        for number in first..first + count {
            let content = Content { owner: None, version, bytes, shape };
            Self::put(turn, draft, self.object.style.key(number), content)?;
        }
        Ok(())
    }

    /// The whole turn, savepoints and reads in between.
    fn fill(
        &self,
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        chance: &mut Chance,
    ) -> Result<(), Fault> {
        for _ in 0..chance.below(self.plan.operations_max + 1) {
            if chance.percent(8) {
                self.savepoint(turn, draft, chance)?;
            } else {
                self.operation(turn, draft, chance)?;
            }
            if chance.percent(10) {
                let of = (draft.object(), draft.map());
                check_some(turn, of, chance, &|chance| self.key(chance))?;
            }
        }
        Ok(())
    }

    fn savepoint(
        &self,
        turn: &mut Turn<'_>,
        draft: &mut Draft<'_>,
        chance: &mut Chance,
    ) -> Result<(), Fault> {
        let mark = draft.mark();
        let mut savepoint = turn.savepoint();
        for _ in 0..chance.below(4) {
            self.operation(&mut savepoint, draft, chance)?;
        }
        let of = (draft.object(), draft.map());
        check_some(&*savepoint, of, chance, &|chance| self.key(chance))?;
        if chance.percent(50) {
            savepoint.release();
        } else {
            drop(savepoint);
            draft.roll_back(mark);
        }
        Ok(())
    }
}

impl World {
    /// Opens a handle on the object where there is none. False where that failed.
    pub fn hold(&mut self, index: usize) -> Outcome<bool> {
        if self.running().handles.contains_key(&index) {
            return Ok(true);
        }
        let (namespace, id) = (self.objects[index].namespace, self.objects[index].id);
        let name = self.objects[index].name.clone();
        let namespace = &self.running().namespaces[namespace];
        let opened = match &name {
            Some(name) => namespace.open_by_name(name),
            None => namespace.open(id),
        };
        self.opened(index, opened)
    }

    /// A commit was given its place.
    pub fn check_position(&mut self, position: Position) -> Outcome {
        self.counts.commits += 1;
        if position.lsn <= self.issued {
            let (lsn, issued) = (position.lsn, self.issued);
            return Err(Stop::Violation(format!("LSN {lsn} given, after {issued}")));
        }
        self.issued = position.lsn;
        self.issued_here = position.lsn;
        if position.time < self.last_time {
            return Err(Stop::Violation(format!("time goes back at {}", position.lsn)));
        }
        self.last_time = position.time;
        Ok(())
    }

    /// Everything up to here was acknowledged.
    pub fn acknowledged(&mut self, lsn: Lsn) {
        self.floor = self.floor.max(lsn);
        self.note_durable();
        let floor = self.floor;
        if self.chance.percent(10) {
            self.objects.iter_mut().for_each(|object| object.settle(floor));
        }
    }

    pub fn turn(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        self.turn_of(index)
    }

    fn turn_of(&mut self, index: usize) -> Outcome {
        if !self.hold(index)? {
            return Ok(());
        }
        let running = self.running.as_mut().expect("the store is open");
        let handle = running.handles.get_mut(&index).expect("held just now");
        let pen = Pen { plan: &self.plan, object: &self.plan.objects[index] };
        let mut draft = self.objects[index].draft();
        let mut turn = handle.turn();
        if let Err(fault) = pen.fill(&mut turn, &mut draft, &mut self.chance) {
            drop((turn, draft));
            return self.judge_read("a turn", Err(fault));
        }
        if self.chance.percent(8) {
            return Ok(());
        }
        let (is_empty, last) = (draft.is_empty(), draft.last_lsn());
        let committed = turn.commit();
        let is_old = |commit: &Commit| commit.position().lsn <= self.issued;
        let is_empty = is_empty || draft.may_be_empty() && committed.as_ref().is_ok_and(is_old);
        match committed {
            Err(error) => {
                drop(draft);
                self.judge("a commit", &error)
            }
            Ok(commit) if is_empty => {
                let lsn = commit.position().lsn;
                drop(draft);
                if lsn != last && lsn != Lsn::ZERO {
                    let what = format!("an empty turn of object {index} at {lsn}, not {last}");
                    return Err(Stop::Violation(what));
                }
                self.settle_commit(commit)
            }
            Ok(commit) => {
                let (position, told) = (commit.position(), draft.told());
                draft.keep(position, commit.bookmark(), Kind::Plain);
                self.note(format_args!("commit {} of object {index}, {told}", position.lsn));
                self.check_position(position)?;
                self.settle_commit(commit)
            }
        }
    }

    /// Waits for a commit, polls it, or lets it be.
    pub fn settle_commit(&mut self, mut commit: Commit) -> Outcome {
        let lsn = commit.position().lsn;
        match self.chance.below(10) {
            0..=3 => match commit.wait() {
                Ok(position) => self.acknowledged(position.lsn),
                Err(error) => self.judge("waiting for a commit", &error)?,
            },
            4 => {
                let mut context = Context::from_waker(Waker::noop());
                match Pin::new(&mut commit).poll(&mut context) {
                    Poll::Ready(Ok(position)) => self.acknowledged(position.lsn),
                    Poll::Ready(Err(error)) => self.judge("polling a commit", &error)?,
                    Poll::Pending => {}
                }
            }
            5 if commit.is_durable() => self.acknowledged(lsn),
            _ => drop(commit.detach()),
        }
        Ok(())
    }

    pub fn delete_object(&mut self, index: usize) -> Outcome {
        let (namespace, id) = (self.objects[index].namespace, self.objects[index].id);
        let deleted = self.running().namespaces[namespace].delete(id);
        let commit = match deleted {
            Err(error) => return self.judge("deleting an object", &error),
            Ok(commit) => commit,
        };
        self.note_commit(index, commit, Some(Change::DeleteAll), Kind::Deletion)?;
        match self.running().handles.remove(&index) {
            Some(handle) => self.check_fenced(index, &handle),
            None => Ok(()),
        }
    }

    fn read(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        if !self.hold(index)? {
            return Ok(());
        }
        let running = self.running.as_ref().expect("the store is open");
        let handle = &running.handles[&index];
        let pen = Pen { plan: &self.plan, object: &self.plan.objects[index] };
        let of = (index, self.objects[index].now());
        let read = match self.chance.below(12) {
            0 => handle.snapshot_unconfirmed().map_err(Fault::Refused).and_then(|view| {
                check_some(&view, of, &mut self.chance, &|chance| pen.key(chance))
            }),
            1 => check_all(handle, of),
            _ => check_some(handle, of, &mut self.chance, &|chance| pen.key(chance)),
        };
        self.judge_read("a read", read)
    }

    /// What a snapshot shows must survive.
    fn snapshot(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        let (namespace, id) = (self.objects[index].namespace, self.objects[index].id);
        let by_handle = self.chance.percent(50) && self.running().handles.contains_key(&index);
        let taken = if by_handle {
            self.running().handles[&index].snapshot()
        } else {
            self.running().namespaces[namespace].snapshot(id)
        };
        let view = match taken {
            Ok(view) => view,
            Err(error) => return self.judge("a snapshot", &error),
        };
        let pen = Pen { plan: &self.plan, object: &self.plan.objects[index] };
        let of = (index, self.objects[index].now());
        let read = check_some(&view, of, &mut self.chance, &|chance| pen.key(chance));
        self.acknowledged(view.last_lsn());
        self.judge_read("a read of a snapshot", read)
    }

    fn wait_for_all(&mut self) -> Outcome {
        let last = self.issued;
        if last == Lsn::ZERO {
            return Ok(());
        }
        match self.running().store.wait_durable(last) {
            Ok(()) => self.acknowledged(last),
            Err(error) => self.judge("waiting for all commits", &error)?,
        }
        Ok(())
    }

    /// A step of the store, with what it was doing noted for a crash inside it. Says whether it
    /// found anything to do.
    pub fn step(&mut self, activity: Activity, action: Action) -> Outcome<bool> {
        let before = self.disk.calls();
        self.activity = activity;
        let store = self.running().store.clone();
        let steps = store.steps();
        let done = match action {
            Action::Checkpoint => steps.checkpoint(),
            Action::Clean => steps.clean(),
            Action::Merge => steps.merge(),
            Action::WriteGroup => steps.write_group(),
            Action::WriteMark => steps.write_mark(),
            Action::PrepareFile => steps.prepare_file().map(|()| true),
            Action::Expire => steps.expire(),
            Action::Erase => steps.erase(),
            Action::Scrub => store.scrub().map(|report| !report.damages.is_empty()),
            _ => steps.remove_retired().map(|count| count > 0),
        };
        drop(store);
        self.note(format_args!("{action:?}: {done:?}"));
        self.note_durable();
        let done_badly = done.is_err();
        if let Err(error) = &done {
            self.judge("a step", error)?;
        }
        let did = done.unwrap_or(false);
        let is_retry = self.has_open_cut;
        if action == Action::Checkpoint {
            self.has_open_cut = done_badly;
        }
        if did && !is_retry && action == Action::Checkpoint && self.floor < self.issued_here {
            let (floor, issued) = (self.floor, self.issued_here);
            let what = format!("pages hold {issued}, the log is durable up to {floor}");
            return Err(Stop::Violation(what));
        }
        match activity {
            Activity::Clean if did => drop(self.seen.insert("cleaning")),
            Activity::Merge if did => drop(self.seen.insert("merging")),
            _ => {}
        }
        if did {
            self.calls_of.insert(activity, self.disk.calls() - before);
        }
        self.activity = Activity::Turns;
        Ok(did)
    }

    /// Time, caches and space: what happens to a store from outside.
    fn surroundings(&mut self, action: Action) {
        match action {
            Action::Advance => {
                let seconds = self.chance.pick(&[1, 59, 61, 100_000]);
                self.disk.advance(Duration::from_secs(seconds));
            }
            Action::SetWall => {
                let micros = self.chance.pick(&[0, 1_700_000_000_000_000, u64::MAX / 4]);
                self.disk.set_wall(micros);
            }
            Action::Evict => self.disk.evict_all(),
            _ => {
                let bytes = self.chance.pick(&[0, 4_096, 50_000, 200_000]);
                let limit = self.chance.percent(60).then_some(bytes);
                self.limit_space(limit);
            }
        }
    }

    fn second_writer(&mut self) -> Outcome {
        let index = self.chance.index(self.objects.len());
        let (namespace, id) = (self.objects[index].namespace, self.objects[index].id);
        if self.running().handles.contains_key(&index) {
            match self.running().namespaces[namespace].open(id) {
                Err(error) if error.code() == "object.open" => {}
                Err(error) => self.judge("opening an object twice", &error)?,
                Ok(_) => return Err(Stop::Violation(format!("object {index} is open twice"))),
            }
        }
        let options = self.plan.options(&mut self.chance);
        match options.open_on(self.disk.clone()) {
            Err(error) if error.kind() == ErrorKind::Locked => Ok(()),
            Err(error) => self.judge("opening the store twice", &error),
            Ok(_) => Err(Stop::Violation("the store is open twice".to_owned())),
        }
    }

    /// Every byte on the disk has its place in the store's own account.
    fn figures(&mut self) -> Outcome {
        let stats = match self.running().store.stats() {
            Ok(stats) => stats,
            Err(error) => return self.judge("figures", &error),
        };
        let names = self.disk.names().into_iter();
        let bytes: usize =
            names.filter_map(|name| self.disk.file_bytes(name)).map(|b| b.len()).sum();
        if stats.disk_bytes() == bytes as u64 {
            return Ok(());
        }
        Err(Stop::Violation(format!("{} bytes in {stats:?}, {bytes} on disk", stats.disk_bytes())))
    }

    pub fn act(&mut self, action: Action) -> Outcome {
        match action {
            Action::Turn => self.turn(),
            Action::DeleteObject => {
                let index = self.chance.index(self.objects.len());
                self.delete_object(index)
            }
            Action::Read => self.read(),
            Action::Snapshot => self.snapshot(),
            Action::Listing => self.check_listing(),
            Action::LetGo => {
                let index = self.chance.index(self.objects.len());
                self.running().handles.remove(&index);
                Ok(())
            }
            Action::WaitForAll => self.wait_for_all(),
            Action::Checkpoint => self.step(Activity::Checkpoint, action).map(drop),
            Action::Clean => self.step(Activity::Clean, action).map(drop),
            Action::Merge => self.step(Activity::Merge, action).map(drop),
            Action::WriteGroup
            | Action::WriteMark
            | Action::PrepareFile
            | Action::Scrub
            | Action::RemoveRetired => self.step(Activity::OtherStep, action).map(drop),
            Action::Advance | Action::SetWall | Action::Evict | Action::Space => {
                self.surroundings(action);
                Ok(())
            }
            Action::Past => self.check_past(),
            Action::Restore => self.restore(),
            Action::RestoreLater => self.restore_later(),
            Action::Fork => self.fork(),
            Action::RestoreAll => self.restore_all(),
            Action::Purge => self.purge(),
            Action::Erase => self.erase(),
            Action::Expire => self.expire().map(drop),
            Action::Retain => self.retain(),
            Action::BackUp => self.back_up(),
            Action::SecondWriter => self.second_writer(),
            Action::Figures => self.figures(),
            Action::TouchMany => {
                for index in 0..self.objects.len() {
                    if self.chance.percent(50) {
                        self.turn_of(index)?;
                    }
                }
                Ok(())
            }
            Action::DeleteMuch => {
                for index in 0..self.objects.len() {
                    if self.chance.percent(50) {
                        self.delete_object(index)?;
                    }
                }
                Ok(())
            }
        }
    }
}
