//! `tail`: the last commits of a store, and those that come.

use super::address::Address;
use super::call::{Call, Format, Past, fields};
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::history;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, moment, moment_of_many, space};
use super::table::Columns;
use super::then::{Then, foot, then_fields};
use super::time::{When, short, span};
use super::usage;
use crate::error::{Error, Result as Stored};
use crate::ids::{Lsn, ShortId, Timestamp};
use crate::store::reader::{Reader, ReaderNamespace};
use crate::store::reader_commits::{FoundCommits, Sought};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore tail
  dostore tail rooms -n 5
  dostore tail rooms/lobby --json
  dostore tail --at -8d -n 5
  dostore tail -n 3 --format jsonl";

const COLUMNS: Columns = &["?TIME", "COMMIT", "OBJECT", "?-PUT", "?-DEL", "?-BYTES"];

/// Damages of one look that are kept.
const LOST_MAX: usize = 100;

/// Commits of one look that are kept at most.
const KEPT_MAX: usize = 100_000;

/// Shows the last commits of a store, a namespace or an object
///
/// With -f it goes on to show those that come, until it is interrupted: of one look, the last
/// 100,000. Commits behind the last checkpoint are all shown, earlier ones as far as history keeps
/// them; where some may be missing for that, the last lines say so. With --at, the last
/// ones up to then.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME or NS/~HEX
    address: Option<String>,
    /// Shows so many commits at first
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Goes on with commits as they become durable
    #[arg(short, long, conflicts_with = "at")]
    follow: bool,
    /// How often it looks for more
    #[arg(long, value_name = "SPAN", default_value = "250ms")]
    interval: String,
    #[command(flatten)]
    past: Past,
}

/// Whose commits.
pub enum Wanted {
    /// Of all objects.
    All,
    /// Of the objects of a namespace.
    Space(String),
    /// Of one object.
    Object(String, ShortId),
}

impl Wanted {
    /// What an address means, which must be there.
    fn of(reader: &Reader, address: Option<&Address>) -> Result<Self, Failure> {
        let Some(address) = address else { return Ok(Self::All) };
        if address.who.is_none() {
            return Ok(Self::Space(space(reader, &address.space)?.name().to_owned()));
        }
        let place = Place::find(reader, address)?;
        place.check_ever()?;
        Ok(Self::Object(place.space.name().to_owned(), place.id.short()))
    }

    fn has(&self, space: &ReaderNamespace, id: ShortId) -> bool {
        match self {
            Self::All => true,
            Self::Space(name) => name == space.name(),
            Self::Object(name, own) => *own == id && name == space.name(),
        }
    }
}

/// Up to where commits are shown.
#[derive(Clone, Copy)]
struct End {
    lsn: Lsn,
    time: Timestamp,
}

impl End {
    fn of(reader: &Reader, then: Option<Then>) -> Self {
        let now = Self { lsn: reader.position(), time: Timestamp(u64::MAX) };
        match then {
            None => now,
            Some(Then::Time(time)) => Self { lsn: reader.last_by(time), time },
            Some(Then::Commit(lsn)) => Self { lsn, ..now },
        }
    }
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(if self.follow { &[Format::Table, Format::Jsonl] } else { LAYOUTS })?;
        let interval = span(&self.interval)?;
        let address = self.address.as_deref().map(Address::parse).transpose()?;
        if address.as_ref().is_some_and(|it| it.key.is_some()) {
            return Err(usage("write tail, tail NS or tail NS/NAME"));
        }
        let past = self.past.at.as_deref();
        let when = match &address {
            None => moment_of_many(call, None, past)?,
            Some(address) => moment(call, address, past)?,
        };
        if self.follow && when.is_some() {
            return Err(usage("what comes has no past: leave out -f, or the time"));
        }
        let (mut wanted, mut seen) = (Wanted::All, Lsn::ZERO);
        call.reading(|reader, call| {
            wanted = Wanted::of(reader, address.as_ref())?;
            let then = moment_then(reader, address.as_ref(), when)?;
            let mut lost = Vec::new();
            let found = self.last(reader, &wanted, then, &mut lost)?;
            tell(call, lost)?;
            seen = reader.position();
            let is_whole = found.commits.len() >= self.limit
                && found.commits.first().is_none_or(|first| first.lsn() > found.whole_behind);
            let unkept = (!is_whole).then_some(found.whole_behind);
            print(call, reader, (&found, then), (unkept, !self.follow))?;
            Ok(DONE)
        })?;
        if !self.follow {
            return Ok(DONE);
        }
        call.tell_hidden();
        let mut reader = call.open()?;
        loop {
            call.sleep(interval)?;
            let found = follow(call, &mut reader, &wanted, (seen, KEPT_MAX))?;
            let unkept = Some(found.whole_behind).filter(|lsn| *lsn > seen);
            seen = reader.position().max(seen);
            print(call, &reader, (&found, None), (unkept, false))?;
        }
    }

    /// The last commits: looked for further and further back, as long as they are too few.
    fn last(
        &self,
        reader: &Reader,
        wanted: &Wanted,
        then: Option<Then>,
        lost: &mut Vec<Error>,
    ) -> Stored<FoundCommits> {
        let end = End::of(reader, then);
        let most = self.limit.min(KEPT_MAX);
        let near = Lsn(end.lsn.0.saturating_sub((self.limit as u64).saturating_mul(64)));
        let mut found = FoundCommits { commits: Vec::new(), whole_behind: Lsn::ZERO };
        for after in [reader.checkpoint(), near, Lsn::ZERO] {
            if most == 0 || after >= end.lsn && after > Lsn::ZERO {
                continue;
            }
            lost.clear();
            found = look(reader, wanted, (after, end, most), lost)?;
            if found.commits.len() >= most {
                break;
            }
        }
        Ok(found)
    }
}

/// The moment that was asked for. A bookmark is of the object, if there is one.
fn moment_then(
    reader: &Reader,
    address: Option<&Address>,
    when: Option<When>,
) -> Result<Option<Then>, Failure> {
    let object = address.filter(|it| it.who.is_some());
    if let (Some(object), Some(When::Bookmark(bookmark))) = (object, when) {
        let place = Place::find(reader, object)?;
        return Ok(Some(Then::Commit(place.space.commit_of(place.id, &bookmark)?)));
    }
    Ok(Then::of(reader, when)?)
}

/// The commits behind an LSN that are wanted, past damage.
fn look(
    reader: &Reader,
    wanted: &Wanted,
    (after, end, most): (Lsn, End, usize),
    lost: &mut Vec<Error>,
) -> Stored<FoundCommits> {
    let mut keep = |error| {
        if lost.len() < LOST_MAX {
            lost.push(error);
        }
        Ok(())
    };
    let wants = &|space: &ReaderNamespace, id: ShortId| wanted.has(space, id);
    let sought = Sought { after, last: end.lsn, until: end.time, most, wants };
    reader.commits_of(&sought, &mut keep)
}

/// The commits that have come behind an LSN, the last `most` of them, past damage, of which each is
/// told once.
pub fn follow(
    call: &mut Call<'_>,
    reader: &mut Reader,
    wanted: &Wanted,
    (seen, most): (Lsn, usize),
) -> Result<FoundCommits, Failure> {
    reader.refresh()?;
    let mut lost = Vec::new();
    let found = reader.read(|reader| {
        lost.clear();
        look(reader, wanted, (seen, End::of(reader, None), most), &mut lost)
    })?;
    tell(call, lost)?;
    call.tell_hidden();
    Ok(found)
}

/// Notes what damage hides.
fn tell(call: &mut Call<'_>, lost: Vec<Error>) -> Result<(), Failure> {
    lost.into_iter().try_for_each(|error| call.readable::<()>(Err(error)).map(drop))
}

fn print(
    call: &mut Call<'_>,
    reader: &Reader,
    (found, then): (&FoundCommits, Option<Then>),
    (unkept, ends): (Option<Lsn>, bool),
) -> Result<(), Failure> {
    let unkept = unkept.filter(|lsn| *lsn > Lsn::ZERO);
    if !ends && found.commits.is_empty() && unkept.is_none() {
        return Ok(());
    }
    let mut listing = Listing::new("commits", COLUMNS, reader);
    listing.say(then_fields(then));
    listing.say(fields([("unkept_to", json!(unkept.map(|lsn| lsn.0)))]));
    for commit in &found.commits {
        let (place, entry) = (Place::of(commit.namespace.clone(), commit.object)?, &commit.entry);
        let cells = vec![
            call.calendar.show(entry.time),
            short(entry.bookmark.lsn()),
            place.address(),
            entry.puts.to_string(),
            entry.deletes.to_string(),
            bytes(entry.bytes),
        ];
        let mut fields = place.row([]);
        fields.extend(history::fields(entry));
        listing.row(call, cells, &fields)?;
    }
    let mut foot = foot(call, reader, then);
    if let Some(lsn) = unkept {
        foot = format!("{}\n{foot}", history::unkept_text(lsn));
    }
    listing.end(call, None, &foot)
}
