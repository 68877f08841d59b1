//! Writes a file of history: items in the order of their keys, in bundles.
//!
//! Invariants:
//!   * Items ascend; what is too long for one goes on in chunks.
//!   * Memory is bounded by a bundle and what a run needs, not by the items.

use super::Engine;
use crate::error::Result;
use crate::format::history::{
    BundleBuilder, CHUNK_BYTES, CommitStart, ItemKey, State, bundle_head,
};
use crate::format::run::{RunFacts, RunUse};
use crate::ids::{Address, FileNumber, Timestamp};
use crate::run::RunWriter;
use crate::segment::dictionary::{self, Trial};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A file of history being written.
#[derive(Debug)]
pub(super) struct HistoryWriter {
    run: RunWriter,
    bundle: BundleBuilder,
    address: Option<Address>,
    trial: Trial,
    /// A bundle is compressed where that saves one byte in so many.
    saves: usize,
    frame: Vec<u8>,
    value: Vec<u8>,
    /// Bytes of items, before they were compressed.
    pub raw_bytes: u64,
}

impl HistoryWriter {
    /// Creates the file. Its bundles are compressed where that saves one byte in `saves`.
    pub fn create(engine: &Engine, number: FileNumber, saves: usize) -> Result<Self> {
        let Engine { disk, pace, context, .. } = engine;
        let run = RunWriter::create(&**disk, Arc::clone(pace), *context, number, RunUse::History)?;
        Ok(Self {
            run,
            bundle: BundleBuilder::default(),
            address: None,
            trial: Trial::default(),
            saves,
            frame: Vec::new(),
            value: Vec::new(),
            raw_bytes: 0,
        })
    }

    /// From now on the writer fails once this is set.
    pub fn give_up_when(&mut self, is_over: Arc<AtomicBool>) {
        self.run.give_up_when(is_over);
    }

    /// Says how many objects will come at most, before the first item.
    pub fn expect_addresses(&mut self, addresses: u64) {
        self.run.expect_addresses(addresses);
    }

    /// Adds an item, whose value comes in parts.
    pub fn add(&mut self, key: &ItemKey, value: &[&[u8]]) -> Result<()> {
        if self.address != Some(key.address) {
            self.address = Some(key.address);
            self.run.note_address(&key.address);
        }
        if !self.bundle.push(key, value) {
            self.end_bundle()?;
            let added = self.bundle.push(key, value);
            assert!(added, "an empty bundle has room for an item");
        }
        Ok(())
    }

    /// Adds a state. Of a page or a delta, `frame` is the whole stored page.
    pub fn add_state(&mut self, key: ItemKey, state: &State<'_>) -> Result<()> {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let (mut state, frame) = (*state, whole_frame(state));
        let (first, rest) = frame.split_at(frame.len().min(CHUNK_BYTES));
        if let State::Page { frame, .. } | State::Delta { frame, .. } = &mut state {
            *frame = first;
        }
        state.encode(&mut value);
        let added = self.add_chunks(key, &[&value], rest);
        self.value = value;
        added
    }

    /// Adds a commit.
    pub fn add_commit(&mut self, key: ItemKey, time: Timestamp, payload: &[u8]) -> Result<()> {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        let (first, rest) = payload.split_at(payload.len().min(CHUNK_BYTES));
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        CommitStart { time, bytes, payload: first }.encode_head(&mut value);
        let added = self.add_chunks(key, &[&value, first], rest);
        self.value = value;
        added
    }

    fn add_chunks(&mut self, key: ItemKey, first: &[&[u8]], rest: &[u8]) -> Result<()> {
        self.add(&key, first)?;
        for (chunk, part) in (1..).zip(rest.chunks(CHUNK_BYTES)) {
            self.add(&ItemKey { chunk, ..key }, &[part])?;
        }
        Ok(())
    }

    /// Says that items with keys from `first` to `last`, both included, were lost to damage.
    pub fn add_hole(&mut self, first: &[u8], last: &[u8]) {
        self.run.add_hole(first, last);
    }

    /// Writes the rest and syncs the file.
    pub fn finish(mut self) -> Result<RunFacts> {
        self.end_bundle()?;
        self.run.finish()
    }

    fn end_bundle(&mut self) -> Result<()> {
        let Some(first) = self.bundle.first() else { return Ok(()) };
        let items = self.bundle.items();
        self.raw_bytes += items.len() as u64;
        let most = items.len() - items.len().div_ceil(self.saves);
        let is_small =
            self.trial.is_due() && dictionary::compress(None, items, most, &mut self.frame);
        self.trial.note(is_small);
        let head = bundle_head(items.len(), is_small);
        let stored = if is_small { self.frame.as_slice() } else { items };
        self.run.add_parts(&first.encode(), &[&head, stored])?;
        self.bundle.clear();
        Ok(())
    }
}

/// The stored page of a state; empty for those without one.
fn whole_frame<'a>(state: &State<'a>) -> &'a [u8] {
    match *state {
        State::Page { frame, .. } | State::Delta { frame, .. } => frame,
        State::Absent { .. } | State::Lost { .. } | State::Head { .. } => &[],
    }
}
