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
    shown(is_watched, "{spinner} {elapsed} {msg}", what)
}

/// The same with how many things were looked at.
pub fn counter(is_watched: bool, what: &str) -> ProgressBar {
    shown(is_watched, "{spinner} {elapsed} {human_pos} {msg}, {per_sec}", what)
}

/// From now on says how much of so many bytes is done, and when all will be.
pub fn measure(bar: &ProgressBar, bytes: u64) {
    if bar.length() != Some(bytes) {
        bar.set_style(style(
            "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ));
        bar.set_length(bytes);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn shown(is_watched: bool, template: &str, what: &str) -> ProgressBar {
    if !is_watched {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_style(style(template));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar that hears how far an inspection has come.
#[derive(Debug)]
pub struct Watched(pub ProgressBar);

impl Watch for Watched {
    fn expect(&self, bytes: u64) {
        self.0.set_position(0);
        measure(&self.0, bytes);
    }

    fn pass(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
