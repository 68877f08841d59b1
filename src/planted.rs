//! Mistakes planted on purpose, to see whether the tests notice: a meter of the simulation.
//!
//! Built only with `--cfg dostore_planted`; one is chosen at run time by `DOSTORE_PLANT=number`. In
//! every other build each question is the constant `false` and the branch disappears.

macro_rules! mistakes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A mistake that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake {
            $($(#[$doc])* $name = $number,)*
        }

        impl Mistake {
            /// Every mistake.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mistakes! {
    /// Acknowledge a group before its sync.
    AcknowledgeEarly = 1,
    /// Skip a folder sync.
    SkipFolderSync = 2,
    /// Try a failed sync again.
    RetrySync = 3,
    /// Trust the page cache when reopening.
    TrustPageCache = 4,
    /// Take the first bad group for the end of the log.
    StopAtFirstBad = 5,
    /// Ignore the chain of checksums.
    IgnoreChain = 6,
    /// Use LSNs of a crashed term again.
    ReuseLsn = 7,
    /// Checkpoint what is not durable.
    CheckpointEarly = 8,
    /// Publish a manifest before its run is synced.
    ManifestEarly = 9,
    /// Remove a segment before the manifest that drops it.
    RemoveEarly = 10,
    /// Drop frozen layers before the manifest is published.
    DropLayersEarly = 11,
    /// Miss a new object on the dirty list.
    MissDirty = 12,
    /// Show a view that is not durable.
    ShowEarly = 13,
    /// Read a page of an earlier life.
    EarlierLife = 14,
    /// Do not check the object that a page names.
    UncheckedObject = 15,
    /// Drop hints of alarms that the installed checkpoint does not have.
    DropNewHints = 16,
    /// Take an alarm for the one that fired when only its time is the same.
    IgnoreGeneration = 17,
    /// Give up states of the past though the epoch has no earlier ones.
    SkipEagerly = 18,
    /// Say of states of the past that they hold for one commit longer.
    UntilTooLate = 19,
    /// Keep bases for history without their deltas.
    LeaveDeltas = 20,
    /// Lay commits from before an adoption over the pages that were adopted.
    CrossAdoptions = 21,
    /// Adopt pages in files whose names are not durable.
    AdoptEarly = 22,
    /// Let history expire before its time.
    ExpireEarly = 23,
    /// Show moments before a purge.
    IgnorePurge = 24,
    /// Work a restoration out against a state that is not the present one.
    RestoreStale = 25,
    /// Fork into an object that is not empty.
    ForkOver = 26,
    /// Forget a purge before its history is written anew.
    EraseEarly = 27,
    /// Do not check that the moment of a bookmark became durable.
    UncheckedTerm = 28,
    /// Rebuild a damaged page without the commits behind the state that history has.
    RebuildWithoutCommits = 29,
    /// Rebuild a damaged page as of an earlier commit than the one it is exact at.
    RebuildEarlier = 30,
    /// Move a page without the deltas over it.
    MoveWithoutDeltas = 31,
    /// Drop in a merge what hides entries of older runs.
    DropTombstones = 32,
    /// Miss an address in sixteen in the filter of a run.
    MissInFilter = 33,
    /// Rename a manifest over the old one before its bytes are durable.
    RenameUnsynced = 34,
    /// Say of history that has expired that it is there.
    HorizonTooLow = 35,
    /// Call a purge erased while the log has what was purged.
    LeaveInLog = 36,
    /// Call a purge erased while older bytes are being written into new files.
    EraseWhileWriting = 37,
    /// Name the restoration itself as the moment that undoes it.
    UndoTooLate = 38,
    /// Remove files that a snapshot still reads.
    RemoveHeld = 39,
    /// Do not begin anew where the writer has removed what a reader needs.
    ReadRemoved = 40,
    /// Deliver an alarm before its setting is durable.
    FireEarly = 41,
    /// Forget the failed attempts at an alarm when its object leaves memory.
    ForgetAttempts = 42,
    /// Clear an alarm in another commit than that of its handler.
    DoneApart = 43,
    /// Have a gate wait for the first of the turns that it covers only.
    GateOnFirst = 44,
}

/// Whether this mistake is to be made.
#[cfg(dostore_planted)]
pub(crate) fn planted(mistake: Mistake) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<u32> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        std::env::var("DOSTORE_PLANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    });
    *chosen == mistake as u32
}

/// Whether this mistake is to be made: never, in this build.
#[cfg(not(dostore_planted))]
pub(crate) const fn planted(_mistake: Mistake) -> bool {
    false
}
