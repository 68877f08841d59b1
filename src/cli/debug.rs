//! `debug`: one file's structure, record by record.

use super::call::{Call, Format, fields};
use super::failure::{DAMAGED, DONE, Failure, Outcome};
use super::figures::digits;
use super::usage;
use crate::disk::ReadDisk;
use crate::error::Error;
use crate::inspect::is_there;
use crate::inspect::structure::{Part, is_unused, structure};
use crate::names::{FileName, Folder};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;

/// How often the newest file is looked for again when it is gone.
const ATTEMPTS: usize = 32;

/// How it is told that a file is not there.
const GONE: &str = "there is no file";

const EXAMPLES: &str = "\
Examples:
  dostore debug manifest
  dostore debug wal
  dostore debug segment
  dostore debug run --json";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A file of the log
    Wal,
    /// A file of pages
    Segment,
    /// A sorted run
    Run,
    /// The list of live files
    Manifest,
}

/// Decodes a file record by record, and goes on behind damage
///
/// A file is named as `verify` names it, or by the last digits of its number; without a name, the
/// newest of its kind is shown. A byte behind it shows what holds that byte, in detail. Beside a
/// writer, what of a file is not written yet is told to be. Exits with 4 where something does not
/// decode.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What the file is
    #[arg(value_enum)]
    kind: Kind,
    /// seg/00000000000a.seg, 00000000000a.seg or a; with :BYTE behind it in detail
    #[arg(value_name = "FILE[:OFFSET]")]
    file: Option<String>,
}

impl Arguments {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        let disk: Arc<dyn ReadDisk> = Arc::new(call.disk()?);
        if !is_there(&*disk)? {
            return Err(call.no_store());
        }
        let (text, at) = split(self.file.as_deref().unwrap_or_default())?;
        let mut attempt = 1;
        loop {
            let name = self.find(&*disk, text)?;
            match show(call, &disk, name, at) {
                // The writer has removed it since it was found to be the newest.
                Err(failure) if text.is_empty() && is_gone(&failure) && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn find(&self, disk: &dyn ReadDisk, text: &str) -> Result<FileName, Failure> {
        match self.kind {
            Kind::Wal => find(disk, Folder::Wal, text),
            Kind::Segment => find(disk, Folder::Segments, text),
            Kind::Run => find(disk, Folder::Runs, text),
            Kind::Manifest if text == "MANIFEST.tmp" => Ok(FileName::ManifestTemporary),
            Kind::Manifest => Ok(FileName::Manifest),
        }
    }
}

/// Whether a file that was read is not there any more.
fn is_gone(failure: &Failure) -> bool {
    let error = match failure {
        Failure::Missing(what) => return what.starts_with(GONE),
        Failure::Store(error) => error,
        _ => return false,
    };
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

/// A file and the byte behind it, if there is one.
fn split(text: &str) -> Result<(&str, Option<u64>), Failure> {
    let Some((file, byte)) = text.rsplit_once(':') else { return Ok((text, None)) };
    let byte = byte.parse().map_err(|_| usage(format!("{byte:?} is not the number of a byte")))?;
    Ok((file, Some(byte)))
}

/// The file of a folder whose name ends so; the newest that was ever used without one.
fn find(disk: &dyn ReadDisk, folder: Folder, text: &str) -> Result<FileName, Failure> {
    let leaf = text.rsplit('/').next().unwrap_or_default();
    let stem = leaf.split('.').next().unwrap_or_default();
    let failed = |cause| Error::io("listing a folder", cause);
    let listed = disk.list(folder).map_err(failed)?;
    let names = listed.iter().filter_map(|file| FileName::parse(folder, &file.leaf));
    let fits = |name: &FileName| {
        name.leaf().split('.').next().is_some_and(|number| number.ends_with(stem))
    };
    let mut fitting: Vec<_> = names.filter(fits).collect();
    fitting.sort();
    match (fitting.as_slice(), stem.is_empty()) {
        (all @ [.., newest], true) => {
            Ok(all.iter().rev().find(|name| !is_unused(disk, **name)).copied().unwrap_or(*newest))
        }
        ([only], _) => Ok(*only),
        ([], true) => Err(Failure::Missing(format!("there is no file in {}/ yet", folder.path()))),
        ([], false) => {
            let what =
                format!("there is no file in {}/ whose number ends in {stem:?}", folder.path());
            Err(Failure::Missing(format!("{what}; `dostore segments` lists all")))
        }
        (several, _) => {
            let what = format!("{text:?} may be any of {} files: write more digits", several.len());
            Err(usage(what))
        }
    }
}

/// The file of a store that an address means, and a byte in it; none if it means something else.
pub fn file_of(text: &str) -> Option<(FileName, Option<u64>)> {
    let (file, at) = split(text).ok()?;
    let (folder, leaf) = file.split_once('/').unwrap_or(("", file));
    let folder = Folder::ALL.into_iter().find(|known| known.path() == folder)?;
    Some((FileName::parse(folder, leaf)?, at))
}

/// That a file is there, and has the byte that is asked for.
fn check_place(disk: &dyn ReadDisk, name: FileName, at: Option<u64>) -> Result<(), Failure> {
    let bytes = match disk.open(name).and_then(|file| file.bytes()) {
        // Of a manifest this is damage, which is told below.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && name != FileName::Manifest => {
            return Err(Failure::Missing(format!("{GONE} {name}; `dostore segments` lists all")));
        }
        Err(_) => return Ok(()),
        Ok(bytes) => bytes,
    };
    match at.filter(|at| *at >= bytes) {
        Some(at) => {
            let bytes = digits(bytes);
            Err(Failure::Missing(format!("{name} has {bytes} bytes, and none at {}", digits(at))))
        }
        None => Ok(()),
    }
}

/// Prints the structure of a file.
pub fn show(
    call: &mut Call<'_>,
    disk: &Arc<dyn ReadDisk>,
    name: FileName,
    at: Option<u64>,
) -> Outcome {
    call.allow(&[Format::Table, Format::Json, Format::Jsonl])?;
    check_place(&**disk, name, at)?;
    let (mut lines, mut items, mut is_damaged) = (Vec::new(), Vec::<Value>::new(), false);
    let is_table = call.format() == Format::Table;
    structure(disk, name, at, &mut |part: Part| {
        is_damaged |= part.is_damaged;
        let Part { range, what, is_damaged } = part;
        let length = range.end - range.start;
        if is_table {
            let place =
                if length == 0 { String::new() } else { format!("{}+{length}", range.start) };
            let mark = if is_damaged { "DAMAGED " } else { "" };
            lines.push(format!("{place:<18}{mark}{what}"));
        } else {
            let offset = (length > 0).then_some(range.start);
            let what = what.trim_start();
            items.push(json!({
                "offset": offset, "bytes": length, "what": what, "damaged": is_damaged,
            }));
        }
    })?;
    let document = fields([("file", json!(name.to_string())), ("items", json!(items))]);
    call.document("structure", document, &lines.join("\n"))?;
    Ok(if is_damaged { DAMAGED } else { DONE })
}
