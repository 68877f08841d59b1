//! Rare branches that a campaign of tests must have taken: each is marked where it stands, and the
//! simulation fails when one of the list was never reached.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A branch worth knowing that it was taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mark {
            $($(#[$doc])* $name,)*
        }

        impl Mark {
            /// Every mark.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

marks! {
    /// A group's first sector never reached the medium.
    TornHeader,
    /// A group's header is there, a sector of its body is not.
    TornBody,
    /// The log goes on in a file whose predecessor it names.
    CrossedFiles,
    /// A group is damaged or not there, and a later file names an end of the log behind it.
    HoleBetweenFiles,
    /// Parts of a commit without their final.
    PartsCut,
    /// A commit of more than one part was replayed.
    PartsJoined,
    /// A delta page was appended without reading its base.
    DeltaAppended,
    /// Deltas were folded into a new page.
    DeltaFolded,
    /// A page was split.
    PageSplit,
    /// Pages were merged.
    PageMerged,
    /// A large object became a one-page object again.
    PagesCollapsed,
    /// Runs were merged.
    RunsMerged,
    /// A segment was cleaned.
    SegmentCleaned,
    /// A life ended and another began.
    LifeReplaced,
    /// A commit was refused because the disk is full.
    Full,
    /// The store was poisoned.
    Poisoned,
    /// A base that cannot be read was kept and the overlay became a delta.
    DamagedBaseKept,
    /// Deltas beside a damaged base were too many, and all of it was given up.
    DamagedBaseGivenUp,
    /// A page that the medium had not given was read after a pause.
    ReadAfterPause,
    /// The head of an object was read that could not be when the log was replayed.
    HeadFoundAgain,
    /// A run was not merged, for the medium did not give a part of it.
    RunLetBe,
    /// A checkpoint failed before its rename and was tried again.
    CheckpointRetried,
    /// A prepared file was missing and an allocated one served.
    PoolEmpty,
    /// A file of the log was overtaken by another while it was being filled.
    FileOvertaken,
    /// A group's body was masked because a sector of it was all zeros.
    BodyMasked,
    /// A value had a page of its own.
    ValueAlone,
    /// A page was compressed with a dictionary.
    DictionaryUsed,
    /// The simulated disk had no descriptor left for an open.
    NoDescriptor,
    /// Write-back failed on the simulated disk, and a later sync told of it.
    LateSyncError,
    /// The same, but told to another descriptor than the one that wrote: at the next open.
    SyncErrorElsewhere,
    /// A power cut tore a sector on the simulated disk.
    SectorTorn,
    /// A failed sync of a folder lost names for good on the simulated disk.
    NamesLost,
    /// A file of the log that held nothing gave its place to the next.
    BlankFileReplaced,
    /// A merge was thrown away because its inputs had changed.
    MergeDiscarded,
    /// A hint was due whose alarm was moved, cleared or done.
    HintStale,
    /// Hints in a damaged part of an alarm run were found again from the objects.
    HintsFoundAgain,
    /// Alarms were handed out again because the clock was set back.
    ClockSetBack,
    /// A state was not kept for history, because a near one is.
    StateSkipped,
    /// A delta was kept for history beside its base.
    DeltaKept,
    /// A delta was left out of history, where commits say the same.
    DeltaLeft,
    /// A state was kept between the commits of one interval.
    HotState,
    /// A state could not be read when it was to be kept for history.
    StateLost,
    /// A page was written again because the range of the one behind it fell to it.
    GapClosed,
    /// Files of history were merged.
    HistoryMerged,
    /// Files of history expired.
    HistoryExpired,
    /// A namespace got another retention class.
    ClassChanged,
    /// An object was restored to a moment of its past.
    Restored,
    /// A restoration that had waited was applied when its object was opened.
    RestoredAtOpen,
    /// An object became a fork of another.
    Forked,
    /// An object was restored by adopting pages.
    Adopted,
    /// An object became a fork by adopting pages.
    AdoptedByFork,
    /// Pages were written to be adopted, and none adopted them.
    AdoptionLeft,
    /// A commit that adopts pages was read again by an open.
    AdoptionReplayed,
    /// A checkpoint covered adopted pages that were given up before it.
    AdoptionReplaced,
    /// The same, and the object was purged.
    AdoptionPurged,
    /// A moment of the past was laid over pages that the object had adopted.
    PastAdopted,
    /// The bytes of a purged object were gone from all files.
    PurgeErased,
    /// A backup was completed.
    BackedUp,
    /// A bookmark of another object was refused.
    RefusedForeign,
    /// A bookmark of a moment that a crash had taken was refused.
    RefusedLost,
    /// A moment was refused because no history is kept.
    RefusedOff,
    /// A moment was refused because its history had expired.
    RefusedExpired,
    /// A moment was refused because it was before a purge.
    RefusedPurged,
    /// A damaged page was written anew as a state of history has it.
    RebuiltFromState,
    /// The same, from a state and the commits behind it.
    RebuiltFromCommits,
    /// A damaged delta was written anew from the commits that it held.
    RebuiltDelta,
    /// A damaged page was left as it is, for history does not hold what it held.
    NotRebuilt,
}

/// A bit for each mark.
static REACHED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

const _: () = assert!(Mark::ALL.len() <= 128);

/// Notes that a branch was taken.
pub(crate) fn mark(mark: Mark) {
    REACHED[mark as usize / 64].fetch_or(1 << (mark as u8 % 64), Ordering::Relaxed);
}

/// The marks that this process has not reached.
#[must_use]
pub fn unreached() -> Vec<Mark> {
    let reached = REACHED.each_ref().map(|word| word.load(Ordering::Relaxed));
    let is_missed = |mark: &Mark| reached[*mark as usize / 64] & 1 << (*mark as u8 % 64) == 0;
    Mark::ALL.iter().copied().filter(is_missed).collect()
}
