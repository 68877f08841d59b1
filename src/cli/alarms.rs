//! `alarms`: what is set, what is late, what has failed.

use super::address::{self, Address};
use super::call::{Call, Past};
use super::failure::{DONE, Failure, Outcome};
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment, moment_of_many, space};
use super::table::Columns;
use super::then::{Then, foot, namespaces, objects, snapshot_of, then_fields};
use super::time::{Calendar, When, length, machine};
use super::usage;
use crate::alarm::Alarm;
use crate::ids::{ObjectId, Timestamp};
use crate::store::alarms::LastFailure;
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::snapshot::Snapshot;
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore alarms
  dostore alarms --overdue
  dostore alarms rooms --limit 10
  dostore alarms rooms/lobby --json
  dostore alarms rooms --at -15m
  dostore alarms --failed";

const COLUMNS: Columns = &["OBJECT", "ALARM", "?DUE", "WHEN", "?-FAILED", "~LAST FAILURE"];

/// Lists alarms by the time when they are due
///
/// --failed lists those whose attempts have failed, and those that were abandoned; for the latter,
/// and with --at, every object is read. With --at an alarm is overdue that was due by then.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME or NS/~HEX
    address: Option<String>,
    /// Only those that are due by now, or by then
    #[arg(long)]
    overdue: bool,
    /// Only those that have failed, and those that were abandoned
    #[arg(long, conflicts_with = "overdue")]
    failed: bool,
    /// Lists so many at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    past: Past,
}

/// An alarm and whose it is.
struct Row<'a> {
    space: &'a ReaderNamespace,
    id: ObjectId,
    name: Option<&'a str>,
    /// By when it is due or not.
    now: Timestamp,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let address = self.address.as_deref().map(Address::parse).transpose()?;
        if address.as_ref().is_some_and(|address| address.key.is_some()) {
            return Err(usage("alarms are of objects, not of keys: write NS/NAME"));
        }
        let object = address.as_ref().filter(|address| address.who.is_some());
        let past = self.past.at.as_deref();
        let when = object.map(|it| moment(call, it, past)).transpose()?.flatten();
        let of_many = address.as_ref().filter(|_| object.is_none());
        let past = past.filter(|_| object.is_none());
        let at = moment_of_many(call, of_many.and_then(|it| it.when.as_deref()), past)?;
        call.count("objects");
        call.reading(|reader, call| {
            let mut listing = Listing::new("alarms", COLUMNS, reader);
            let at = Then::of(reader, at)?;
            listing.say(then_fields(at));
            let mut foot = foot(call, reader, at);
            let more = match (object, &address) {
                (Some(object), _) => {
                    let place = Place::find(reader, object)?;
                    let content = place.content(when)?;
                    if when.is_some() {
                        foot = call.position_text(content.last_lsn(), content.last_time());
                    }
                    self.of_object(call, &mut listing, (&place, &content), when)?
                }
                (None, address) => {
                    let only = address.as_ref().map(|it| space(reader, &it.space)).transpose()?;
                    match at {
                        Some(at) => {
                            self.of_many_then(call, &mut listing, reader, (only.as_ref(), at))?
                        }
                        None => self.of_many(call, &mut listing, reader, only.as_ref())?,
                    }
                }
            };
            if more {
                foot = format!("more are not shown; {foot}");
            }
            listing.end(call, None, &foot)?;
            Ok(DONE)
        })
    }

    fn is_full(&self, listing: &Listing) -> bool {
        self.limit.is_some_and(|limit| listing.rows() >= limit as u64)
    }

    fn is_wanted(&self, now: Timestamp, alarm: &Alarm) -> bool {
        (!self.overdue || alarm.due <= now) && (!self.failed || alarm.attempt() > 0)
    }

    /// Says whether there are more.
    fn of_object(
        &self,
        call: &mut Call<'_>,
        listing: &mut Listing,
        (place, snapshot): (&Place, &Snapshot),
        when: Option<When>,
    ) -> Result<bool, Failure> {
        let mut alarms = snapshot.alarm_states()?;
        alarms.sort_by_key(|(_, alarm)| alarm.due);
        let now = match when {
            None => call.calendar.now,
            Some(When::Time(at)) => at,
            Some(_) => snapshot.last_time(),
        };
        let row = |name| Row { space: &place.space, id: place.id, name, now };
        for (name, alarm) in &alarms {
            if self.is_wanted(now, alarm) {
                if self.is_full(listing) {
                    return Ok(true);
                }
                show(call, listing, &row(name.as_deref()), alarm)?;
            }
        }
        if self.failed {
            for (name, failure) in &snapshot.last_failures()? {
                if self.is_full(listing) {
                    return Ok(true);
                }
                show_failure(call, listing, &row(name.as_deref()), failure)?;
            }
        }
        Ok(false)
    }

    /// Those of many objects as of a moment: each object that there was is read, and all alarms are
    /// held, to be told by when they are due. By the clock, a commit is as late as the last change
    /// that it shows.
    fn of_many_then(
        &self,
        call: &mut Call<'_>,
        listing: &mut Listing,
        reader: &Reader,
        (only, then): (Option<&ReaderNamespace>, Then),
    ) -> Result<bool, Failure> {
        let (mut set, mut given_up) = (Vec::new(), Vec::new());
        let (mut now, most) = match then {
            Then::Time(at) => (at, at),
            Then::Commit(_) => (Timestamp(0), Timestamp(u64::MAX)),
        };
        let is_meant = |space: &ReaderNamespace| only.is_none_or(|it| it.name() == space.name());
        for space in namespaces(reader, Some(then))?.into_iter().filter(is_meant) {
            for object in objects(&space, None, Some(then))? {
                call.step();
                let Some(object) = call.readable(object)? else { continue };
                let id = object.id;
                let held = snapshot_of(&space, id, Some(then));
                let read = held.and_then(|it| Ok((it.alarm_states()?, it.last_failures()?)));
                let Some((alarms, failures)) = call.readable(read)? else { continue };
                if matches!(then, Then::Commit(_)) {
                    now = now.max(object.last_time);
                }
                let wanted = alarms.into_iter().filter(|(_, alarm)| self.is_wanted(most, alarm));
                set.extend(wanted.map(|(name, alarm)| (alarm, space.clone(), id, name)));
                let failures = failures.into_iter().filter(|_| self.failed);
                given_up.extend(failures.map(|(name, it)| (it, space.clone(), id, name)));
            }
        }
        set.retain(|(alarm, ..)| self.is_wanted(now, alarm));
        set.sort_by_key(|(alarm, ..)| alarm.due);
        for (alarm, space, id, name) in &set {
            if self.is_full(listing) {
                return Ok(true);
            }
            let row = Row { space, id: *id, name: name.as_deref(), now };
            show(call, listing, &row, alarm)?;
        }
        for (failure, space, id, name) in &given_up {
            if self.is_full(listing) {
                return Ok(true);
            }
            let row = Row { space, id: *id, name: name.as_deref(), now };
            show_failure(call, listing, &row, failure)?;
        }
        Ok(false)
    }

    fn of_many(
        &self,
        call: &mut Call<'_>,
        listing: &mut Listing,
        reader: &Reader,
        only: Option<&ReaderNamespace>,
    ) -> Result<bool, Failure> {
        let is_meant = |space: &ReaderNamespace| only.is_none_or(|it| it.name() == space.name());
        for alarm in reader.alarms()? {
            let Some(alarm) = call.readable(alarm)? else { continue };
            if self.overdue && alarm.alarm.due > call.calendar.now {
                break;
            }
            if is_meant(&alarm.namespace) && self.is_wanted(call.calendar.now, &alarm.alarm) {
                if self.is_full(listing) {
                    return Ok(true);
                }
                let (space, name) = (&alarm.namespace, alarm.name.as_deref());
                let row = Row { space, id: alarm.object, name, now: call.calendar.now };
                show(call, listing, &row, &alarm.alarm)?;
            }
        }
        let spaces = if self.failed { reader.namespaces() } else { Vec::new() };
        for space in spaces.iter().filter(|space| is_meant(space)) {
            for object in space.objects() {
                call.step();
                let Some(id) = call.readable(object.map(|object| object.id))? else { continue };
                let failures = space.snapshot(id).and_then(|it| it.last_failures());
                for (name, failure) in &call.readable(failures)?.unwrap_or_default() {
                    if self.is_full(listing) {
                        return Ok(true);
                    }
                    let now = call.calendar.now;
                    let row = Row { space, id, name: name.as_deref(), now };
                    show_failure(call, listing, &row, failure)?;
                }
            }
        }
        Ok(false)
    }
}

impl Row<'_> {
    fn place(&self) -> Result<Place, Failure> {
        Ok(Place::of(self.space.clone(), self.id)?)
    }

    fn alarm_name(&self) -> String {
        self.name.map_or("-".to_owned(), |name| address::key(name.as_bytes()))
    }
}

/// What a row says of an alarm.
struct Told<'a> {
    state: &'static str,
    /// Due, when that is, and why the last attempt failed, for people.
    cells: [String; 3],
    time: Timestamp,
    due: Option<Timestamp>,
    failed: u32,
    failure: Option<&'a LastFailure>,
}

fn show(
    call: &mut Call<'_>,
    listing: &mut Listing,
    row: &Row<'_>,
    alarm: &Alarm,
) -> Result<(), Failure> {
    let late = row.now.0.checked_sub(alarm.due.0);
    let calendar = Calendar { now: row.now, ..call.calendar.clone() };
    let when =
        late.map_or_else(|| calendar.distance(alarm.due), |it| format!("{} late", length(it)));
    let state = match (late.is_some(), alarm.attempt() > 0) {
        (_, true) => "failing",
        (true, false) => "overdue",
        (false, false) => "set",
    };
    let cells = [call.calendar.show(alarm.due), when, "-".to_owned()];
    let (time, due, failed) = (alarm.time, Some(alarm.due), alarm.attempt());
    print(call, listing, row, Told { state, cells, time, due, failed, failure: None })
}

fn show_failure(
    call: &mut Call<'_>,
    listing: &mut Listing,
    row: &Row<'_>,
    failure: &LastFailure,
) -> Result<(), Failure> {
    let when = format!("given up {}", call.calendar.distance(failure.at));
    let text = failure.text.escape_debug().to_string();
    let cells = [call.calendar.show(failure.scheduled), when, text];
    let (time, failed) = (failure.scheduled, failure.attempts);
    let told = Told { state: "abandoned", cells, time, due: None, failed, failure: Some(failure) };
    print(call, listing, row, told)
}

fn print(
    call: &mut Call<'_>,
    listing: &mut Listing,
    row: &Row<'_>,
    told: Told<'_>,
) -> Result<(), Failure> {
    let place = row.place()?;
    let [due, when, why] = told.cells;
    let cells = vec![place.address(), row.alarm_name(), due, when, told.failed.to_string(), why];
    let fields = [
        ("alarm", json!(row.name)),
        ("state", json!(told.state)),
        ("time", json!(machine(told.time))),
        ("due", json!(told.due.and_then(machine))),
        ("failed", json!(told.failed)),
        ("failed_at", json!(told.failure.and_then(|it| machine(it.at)))),
        ("failure", json!(told.failure.map(|it| &it.text))),
    ];
    listing.row(call, cells, &place.row(fields))
}
