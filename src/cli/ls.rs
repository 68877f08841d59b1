//! `ls`: the objects of a namespace.

use super::address;
use super::call::{Call, Format, Page, Past};
use super::failure::{DONE, Failure, Outcome};
use super::figures::{bytes, digits};
use super::listing::{LAYOUTS, Listing};
use super::place::{half_of, moment_of_many, nearest, space};
use super::summary::list_namespaces;
use super::table::Columns;
use super::then::{Then, foot, objects, then_fields};
use super::time::{When, machine};
use super::usage;
use crate::ids::ObjectId;
use crate::store::objects::ObjectInfo;
use crate::store::reader::{Reader, ReaderNamespace};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  dostore ls
  dostore ls rooms
  dostore ls rooms/lob --limit 3
  dostore ls --at -15m
  dostore ls rooms --at -15m
  dostore ls rooms --format csv";

const COLUMNS: Columns = &["NAME", "ID", "?-KEYS", "?-SIZE", "?MODIFIED", "?ALARM"];

/// Lists the namespaces, or the objects of one
///
/// Objects come in the order of their ids. A name behind the namespace keeps those whose names
/// begin so; all are looked at. Sizes are of keys and values; ~ before one says that it is that of
/// the pages, with newer changes beside them. With --at all that objects held is read; of a
/// namespace whose history does not reach back nothing is counted, and the exit code is 6.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// NS, or NS/ and the beginning of names
    #[arg(value_name = "NS[/PREFIX]")]
    address: Option<String>,
    #[command(flatten)]
    past: Past,
    #[command(flatten)]
    page: Page,
}

/// Which objects.
struct Wanted {
    space: String,
    prefix: Option<String>,
    at: Option<When>,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        call.allow(LAYOUTS)?;
        let Some(text) = &self.address else {
            if self.page.after.is_some() || self.page.limit.is_some() {
                return Err(usage("all namespaces are listed; --limit and --after need one"));
            }
            let when = moment_of_many(call, None, self.past.at.as_deref())?;
            return list_namespaces(call, when);
        };
        let (place, when) = text.split_once('@').map_or((&text[..], None), |(a, b)| (a, Some(b)));
        let (space, prefix) = place.split_once('/').map_or((place, None), |(a, b)| (a, Some(b)));
        let text = |escaped: &str| -> Result<String, Failure> {
            String::from_utf8(address::unescape(escaped)?).map_err(|_| usage(address::FORMS))
        };
        let at = moment_of_many(call, when, self.past.at.as_deref())?;
        let prefix = prefix.filter(|prefix| !prefix.is_empty()).map(text).transpose()?;
        let wanted = Wanted { space: text(space)?, prefix, at };
        call.count("objects");
        call.reading(|reader, call| self.list(call, reader, &wanted))
    }

    fn list(&self, call: &mut Call<'_>, reader: &Reader, wanted: &Wanted) -> Outcome {
        let space = space(reader, &wanted.space)?;
        let mut listing = Listing::new("objects", COLUMNS, reader);
        let then = Then::of(reader, wanted.at)?;
        listing.say(then_fields(then));
        let after = self.page.after.as_deref().map(|after| id_of(&space, after)).transpose()?;
        let is_wanted = |info: &ObjectInfo| {
            let prefix = wanted.prefix.as_deref().unwrap_or("");
            prefix.is_empty() || info.name.as_deref().is_some_and(|it| it.starts_with(prefix))
        };
        let mut last = None;
        let mut more = None;
        for info in objects(&space, after, then)? {
            let Some(info) = call.readable(info)? else { continue };
            if after == Some(info.id) || !is_wanted(&info) {
                continue;
            }
            if self.page.limit.is_some_and(|limit| listing.rows() >= limit as u64) {
                more = last;
                break;
            }
            last = Some(info.id);
            show(call, &mut listing, &space, &info)?;
        }
        let name = address::space(space.name());
        if let Some(prefix) = wanted.prefix.as_deref().filter(|_| listing.rows() == 0) {
            suggest(call, &space, prefix)?;
        }
        let next = more.map(|id| format!("{name}/~{}", id.short()));
        let foot = foot(call, reader, then);
        listing.end(call, next.as_deref(), &foot)?;
        Ok(DONE)
    }
}

/// Tells people of a beginning of names that is like the one that no name has.
fn suggest(call: &mut Call<'_>, space: &ReaderNamespace, prefix: &str) -> Result<(), Failure> {
    let length = prefix.chars().count();
    let begin = |name: String| name.chars().take(length).collect::<String>();
    let names = space.objects().filter_map(|object| object.ok()?.name).map(begin);
    if call.format() == Format::Table
        && let Some(near) = nearest(prefix, names)
    {
        let (space, near) = (address::space(space.name()), address::name(&near));
        call.line(&format!("no name begins so; is \"{space}/{near}\" meant?"))?;
    }
    Ok(())
}

/// The object behind which a list goes on, there or not.
fn id_of(space: &ReaderNamespace, after: &str) -> Result<ObjectId, Failure> {
    let address = address::Address::of_object(after)?;
    match address.who {
        Some(address::Who::Hex(hex)) if hex.len() == 64 => Ok(space.id_from_hex(&hex)?),
        Some(address::Who::Hex(hex)) => Ok(space.id_from_short(half_of(&hex))),
        Some(address::Who::Name(name)) => Ok(space.id_from_name(&name)),
        None => Err(usage(address::FORMS)),
    }
}

fn show(
    call: &mut Call<'_>,
    listing: &mut Listing,
    space: &ReaderNamespace,
    info: &ObjectInfo,
) -> Result<(), Failure> {
    let about = if info.is_approximate { "~" } else { "" };
    let name = match &info.name {
        Some(name) => address::name(name),
        None => "-".to_owned(),
    };
    let note = if info.is_unfinished {
        "import unfinished".to_owned()
    } else {
        info.alarm.map_or("-".to_owned(), |at| call.calendar.distance(at))
    };
    let cells = vec![
        name,
        info.id.to_string()[..12].to_owned(),
        format!("{about}{}", digits(info.keys)),
        format!("{about}{}", bytes(info.bytes)),
        call.calendar.distance(info.last_time),
        note,
    ];
    listing.row(
        call,
        cells,
        &[
            ("ns", json!(space.name())),
            ("name", json!(info.name)),
            ("id", json!(info.id.to_string())),
            ("keys", json!(info.keys)),
            ("bytes", json!(info.bytes)),
            ("approximate", json!(info.is_approximate)),
            ("unfinished", json!(info.is_unfinished)),
            ("alarm", json!(info.alarm.and_then(machine))),
            ("last_lsn", json!(info.last_lsn.0)),
            ("last_time", json!(machine(info.last_time))),
        ],
    )
}
