//! How far long work has come, for whoever waits at a terminal.
//!
//! Invariants:
//!   * Where the errors do not go to a terminal nothing is shown.

use crate::inspect::Watch;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often what turns does so.
const TICK: Duration = Duration::from_millis(100);

/// Something that turns beside a word.
pub fn spinner(is_watched: bool, what: &str) -> ProgressBar {
    shown(is_watched, None, "{spinner} {elapsed} {msg}", what)
}

/// The same with how many things were looked at.
pub fn counter(is_watched: bool, what: &str) -> ProgressBar {
    shown(is_watched, None, "{spinner} {elapsed} {human_pos} {msg}, {per_sec}", what)
}

/// How much of so many bytes is done, and when it will be.
pub fn bar(is_watched: bool, what: &str, bytes: u64) -> ProgressBar {
    let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    shown(is_watched, Some(bytes), template, what)
}

fn shown(is_watched: bool, length: Option<u64>, template: &str, what: &str) -> ProgressBar {
    if !is_watched {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar that hears how far an inspection has come.
#[derive(Debug)]
pub struct Watched(pub ProgressBar);

impl Watch for Watched {
    fn expect(&self, bytes: u64) {
        self.0.set_length(bytes);
        self.0.set_position(0);
    }

    fn pass(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
