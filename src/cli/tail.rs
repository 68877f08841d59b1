//! `tail`: the last commits of a store, and those that come.

use super::address::{Address, Who};
use super::call::{Call, Format};
use super::failure::{DONE, Failure, Outcome};
use super::figures::bytes;
use super::history;
use super::listing::{LAYOUTS, Listing};
use super::place::{Place, space};
use super::table::Columns;
use super::time::{short, span};
use super::usage;
use crate::error::{Error, Result as Stored};
use crate::ids::Lsn;
use crate::store::reader::Reader;
use crate::store::reader_commits::StoreCommit;
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  dostore tail
  dostore tail rooms -n 5
  dostore tail rooms/lobby --json
  dostore tail -n 3 --format jsonl";

const COLUMNS: Columns = &["?TIME", "COMMIT", "OBJECT", "?-PUT", "?-DEL", "?-BYTES"];

/// Damages of one look that are kept.
const LOST_MAX: usize = 100;

/// Commits of one look that are kept at most.
const KEPT_MAX: usize = 100_000;

/// Shows the last commits of a store, a namespace or an object
///
/// With -f it goes on to show those that come, until it is interrupted. Of commits before the last
/// checkpoint, those of namespaces without history are not shown; of one look, the last 100,000.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, NS/NAME or NS/~HEX
    address: Option<String>,
    /// Shows so many commits at first
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 10)]
    limit: usize,
    /// Goes on with commits as they become durable
    #[arg(short, long)]
    follow: bool,
    /// How often it looks for more
    #[arg(long, value_name = "SPAN", default_value = "250ms")]
    interval: String,
}

/// Whose commits.
struct Wanted(Option<Address>);

impl Wanted {
    fn has(&self, place: &Place) -> bool {
        let Some(address) = &self.0 else { return true };
        address.space == place.space.name()
            && match &address.who {
                None => true,
                Some(Who::Name(name)) => place.space.id_from_name(name) == place.id,
                Some(Who::Hex(hex)) => place.id.to_string().starts_with(hex),
            }
    }
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(if self.follow { &[Format::Table, Format::Jsonl] } else { LAYOUTS })?;
        let interval = span(&self.interval)?;
        let address = self.address.as_deref().map(Address::parse).transpose()?;
        if address.as_ref().is_some_and(|it| it.key.is_some() || it.when.is_some()) {
            return Err(usage("write tail, tail NS or tail NS/NAME"));
        }
        let wanted = Wanted(address);
        let mut seen = Lsn::ZERO;
        call.reading(|reader, call| {
            if let Some(address) = &wanted.0 {
                space(reader, &address.space)?;
            }
            let mut lost = Vec::new();
            let found = self.last(reader, &wanted, &mut lost)?;
            for error in lost {
                call.readable::<()>(Err(error))?;
            }
            seen = reader.position();
            print(call, reader, &found, !self.follow)?;
            Ok(DONE)
        })?;
        if !self.follow {
            return Ok(DONE);
        }
        let mut reader = call.open()?;
        loop {
            call.sleep(interval)?;
            reader.refresh()?;
            let found =
                reader.read(|reader| of(reader, &wanted, (seen, KEPT_MAX), &mut Vec::new()))?;
            seen = reader.position().max(seen);
            print(call, &reader, &found, false)?;
        }
    }

    /// The last commits: looked for further and further back, as long as they are too few.
    fn last(
        &self,
        reader: &Reader,
        wanted: &Wanted,
        lost: &mut Vec<Error>,
    ) -> Result<Found, Failure> {
        let most = if wanted.0.is_none() { self.limit } else { KEPT_MAX };
        let near = reader.position().0.saturating_sub((self.limit as u64).saturating_mul(64));
        let mut found = Vec::new();
        for after in [reader.checkpoint(), Lsn(near), Lsn::ZERO] {
            found = of(reader, wanted, (after, most), lost)?;
            if found.len() >= self.limit {
                break;
            }
        }
        let extra = found.len().saturating_sub(self.limit);
        found.drain(..extra);
        Ok(found)
    }
}

type Found = Vec<(Place, StoreCommit)>;

/// The commits behind an LSN that are wanted, past damage.
fn of(
    reader: &Reader,
    wanted: &Wanted,
    (after, most): (Lsn, usize),
    lost: &mut Vec<Error>,
) -> Stored<Found> {
    let mut found = Vec::new();
    let mut keep = |error| {
        if lost.len() < LOST_MAX {
            lost.push(error);
        }
        Ok(())
    };
    for commit in reader.commits_around(after, most, &mut keep)? {
        let (space, id) = (commit.namespace.clone(), commit.object);
        let mut place = Place { space, id, name: None };
        if wanted.has(&place) {
            place = Place::of(place.space, id)?;
            found.push((place, commit));
        }
    }
    Ok(found)
}

fn print(call: &mut Call<'_>, reader: &Reader, found: &Found, ends: bool) -> Result<(), Failure> {
    let is_more = !ends && found.is_empty();
    if is_more {
        return Ok(());
    }
    let mut listing = Listing::new("commits", COLUMNS, reader);
    for (place, commit) in found {
        let entry = &commit.entry;
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
    let foot = call.position_text(reader.position(), reader.time());
    listing.end(call, None, &foot)
}
