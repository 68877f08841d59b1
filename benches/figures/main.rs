//! The figures that decide whether the engine is worth having, each beside a raw control.
//!
//! `cargo bench --bench figures -- NAME [--objects N] [--seconds S] [--dir PATH] [--quick]
//! [--history off|on] [--load uniform|zipf]`.
//! Without a name all of them run in a quick form that only shows that they work.
//!
//! Invariants:
//!   * Values are fresh in every run, syncs are real, and engine and control take turns.
//!   * A goal that is missed is printed as missed; it does not fail the run.

#![expect(clippy::disallowed_methods, reason = "measures real clocks, threads and files")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded when printed"
)]

mod account;
mod actors;
mod adopt;
mod alarms;
mod alone;
mod commits;
mod dictionaries;
mod large;
mod load;
mod measure;
mod million;
mod opening;
mod pages;
mod past;
mod publish;
mod raw;
mod recovery;
mod rest;
mod sustained;
mod system;
mod witness;

use dostore::retention::Retention;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a runtime would bring: see docs/decisions/0017-the-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Error>;

const USAGE: &str = "figures [NAME...] [--objects N] [--seconds S] [--dir PATH] [--quick]
        [--history off|on] [--load uniform|zipf]
names: actors adopt alarms commits alone dictionaries large open-warm open-cold open-store million
       pages past publish rest sustained";

/// What the command line asks for.
#[derive(Debug)]
pub struct Settings {
    names: Vec<String>,
    objects: Option<usize>,
    seconds: Option<f64>,
    /// Where data sets are made.
    pub root: PathBuf,
    is_kept: bool,
    /// Only shows that the figures work.
    pub quick: bool,
    /// Whether `sustained` keeps history.
    pub retention: Retention,
    /// The one load of `sustained` that is wanted; none for both.
    pub load: Option<String>,
}

impl Settings {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = Self {
            names: Vec::new(),
            objects: None,
            seconds: None,
            root: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            is_kept: false,
            quick: false,
            retention: Retention::default(),
            load: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match &*argument {
                // Cargo says which kind of target it runs.
                "--bench" | "--test" => {}
                "--quick" => settings.quick = true,
                "--objects" => settings.objects = Some(value()?.parse()?),
                "--seconds" => settings.seconds = Some(value()?.parse()?),
                "--dir" => {
                    settings.root = value()?.into();
                    settings.is_kept = true;
                }
                "--history" => {
                    settings.retention = match &*value()? {
                        "off" => Retention::Off,
                        "on" => Retention::default(),
                        _ => return Err(USAGE.into()),
                    }
                }
                "--load" => settings.load = Some(value()?),
                name if !name.starts_with('-') => settings.names.push(argument),
                _ => return Err(USAGE.into()),
            }
        }
        if settings.names.is_empty() {
            settings.quick = true;
        }
        Ok(settings)
    }

    /// How many objects: what was asked for, or the figure's own number.
    pub fn objects(&self, own: usize) -> usize {
        self.objects.unwrap_or(if self.quick { (own / 50).clamp(1_000, 5_000) } else { own })
    }

    /// How long: what was asked for, or the figure's own time.
    pub fn seconds(&self, own: f64) -> f64 {
        self.seconds.unwrap_or(if self.quick { (own / 10.0).min(0.5) } else { own })
    }
}

/// This program again, as a child that does one part and can be killed.
pub fn child(part: &str, folder: &Path, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).arg("--dir").arg(folder).args(arguments);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

fn run(name: &str, settings: &Settings) -> Result<()> {
    match name {
        "actors" => actors::run(settings),
        "adopt" => adopt::run(settings),
        "commits" => commits::run(settings),
        "alarms" => alarms::run(settings),
        "alone" => alone::run(settings),
        "dictionaries" => dictionaries::run(settings),
        "large" => large::run(settings),
        "open-warm" => opening::warm(settings),
        "open-cold" => opening::cold(settings),
        "open-store" => recovery::run(settings),
        "million" => million::run(settings),
        "pages" => pages::run(settings),
        "past" => past::run(settings),
        "publish" => publish::run(settings),
        "rest" => rest::run(settings),
        "sustained" => sustained::run(settings),
        recovery::CHILD => recovery::load(settings),
        million::CHILD => million::activate(settings),
        _ => Err(format!("there is no figure {name}\n{USAGE}").into()),
    }
}

const ALL: [&str; 16] = [
    "open-warm",
    "open-cold",
    "open-store",
    "million",
    "commits",
    "actors",
    "alone",
    "large",
    "alarms",
    "past",
    "adopt",
    "publish",
    "rest",
    "pages",
    "dictionaries",
    "sustained",
];

fn main() -> Result<()> {
    let mut settings = Settings::parse(std::env::args().skip(1))?;
    std::fs::create_dir_all(&settings.root)?;
    let mut names = std::mem::take(&mut settings.names);
    if names.is_empty() {
        names = ALL.map(str::to_owned).to_vec();
    }
    // Data sets take gigabytes: they go unless the caller said where they may stay.
    let mut temporary = None;
    if !settings.is_kept {
        let folder = tempfile::tempdir_in(&settings.root)?;
        folder.path().clone_into(&mut settings.root);
        temporary = Some(folder);
    }
    names.iter().try_for_each(|name| run(name, &settings))?;
    drop(temporary);
    Ok(())
}
