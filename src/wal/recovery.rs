//! The decision at the first group of the log that does not verify: the log's end, a write that
//! was cut off, or damage.
//!
//! The right reactions are opposite: what was cut off was never acknowledged and must go, what is
//! damaged was acknowledged and must not go silently. So the decision is one pure function of the
//! evidence, with every case named (after Alagappan et al. 2018, who showed that the last entry is
//! the hard one and needs a witness elsewhere).
//!
//! Let `n` be the number of the group expected at byte `o` of a file.
//!
//! | case | evidence | verdict |
//! |---|---|---|
//! | A | everything from `o` to the end of the file is zero | clean |
//! | B | something written later shows that group `n` was durable | corrupt |
//! | C | the first sector of the group is zero, something behind it is not | torn |
//! | D | the first sector is not zero and holds no valid header | corrupt |
//! | E | the header is right, a sector that the body reaches into is zero | torn |
//! | F | the header is right, the body differs, none of its sectors is missing | corrupt |
//! | G | the header is valid, but of a group that cannot stand here | corrupt |
//! | H | a successor begins exactly at `o`: what stands there is dead | clean |
//! | I | the file is shorter than it was prepared, and the log not closed before `o` | corrupt |
//!
//! A first sector counts as zero with up to three bytes that are not: a header has several times as
//! many, so these are bits which flipped where nothing was ever written.
//!
//! A file has its whole length on the medium before its header is written, and nothing is written
//! behind a close. So no crash leaves a used file that is short (case I), and the group at `o`, or
//! the later one that would prove it, may be what is lost.
//!
//! What shows durability (case B): a valid header of a later group in this file, a later file that
//! names an end beyond `o`, or a commit known durable that has not been met before `o`. Where a
//! successor begins at `o`, a group behind `o` in this file shows nothing.
//!
//! Invariants:
//!   * B goes before all others: nothing with later proof is ever torn or clean. Then H, for what
//!     is dead cannot be lost, then I.
//!   * Relies on one group in flight, unused bytes being zeros, sectors being written whole, and on
//!     no sector of a group's body being zeros as written.

/// What is found where a group is expected and none is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Zeros to the end of the file.
    Zeros,
    /// A first sector of zeros, something behind it.
    ZeroSector,
    /// A first sector with something else than a valid header.
    NoHeader,
    /// The right header; a sector of the body is zeros.
    MissingSector,
    /// The right header; the body differs from its checksum in some other way.
    WrongBody,
    /// A valid header of another group: its number or the chain is not what comes next.
    OtherGroup,
    /// A successor names exactly this place as the end of its predecessor.
    Successor,
}

impl Found {
    /// Everything that can be found.
    pub const ALL: [Self; 7] = [
        Self::Zeros,
        Self::ZeroSector,
        Self::NoHeader,
        Self::MissingSector,
        Self::WrongBody,
        Self::OtherGroup,
        Self::Successor,
    ];
}

/// All that the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What is there.
    pub found: Found,
    /// Something written later shows that the group was durable.
    pub is_proven: bool,
    /// The file has lost bytes at its end, and the log may have gone on in them.
    pub is_short: bool,
}

/// The cases of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Nothing follows.
    A,
    /// Acknowledged, and damaged or missing.
    B,
    /// The header never reached the medium.
    C,
    /// The header is damaged.
    D,
    /// A part of the body never reached the medium.
    E,
    /// The body is damaged.
    F,
    /// Another group stands here.
    G,
    /// Dead by the successor's pointer.
    H,
    /// The file was cut short.
    I,
}

/// What becomes of the log at this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The log ends here, or goes on in the successor.
    Clean,
    /// The log ends here; a group that was never acknowledged is discarded.
    Torn,
    /// Acknowledged commits are damaged.
    Corrupt,
}

/// The case that applies and what follows from it.
#[must_use]
pub const fn decide(evidence: &Evidence) -> (Case, Verdict) {
    match *evidence {
        Evidence { is_proven: true, .. } => (Case::B, Verdict::Corrupt),
        Evidence { found: Found::Successor, .. } => (Case::H, Verdict::Clean),
        Evidence { is_short: true, .. } => (Case::I, Verdict::Corrupt),
        Evidence { found: Found::Zeros, .. } => (Case::A, Verdict::Clean),
        Evidence { found: Found::ZeroSector, .. } => (Case::C, Verdict::Torn),
        Evidence { found: Found::NoHeader, .. } => (Case::D, Verdict::Corrupt),
        Evidence { found: Found::MissingSector, .. } => (Case::E, Verdict::Torn),
        Evidence { found: Found::WrongBody, .. } => (Case::F, Verdict::Corrupt),
        Evidence { found: Found::OtherGroup, .. } => (Case::G, Verdict::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unproven(found: Found) -> (Case, Verdict) {
        decide(&Evidence { found, is_proven: false, is_short: false })
    }

    #[test]
    fn case_a_zeros_to_the_end_are_a_clean_end() {
        assert_eq!(unproven(Found::Zeros), (Case::A, Verdict::Clean));
    }

    #[test]
    fn case_b_what_is_proven_durable_is_corrupt_whatever_is_found() {
        for found in Found::ALL {
            for is_short in [false, true] {
                let evidence = Evidence { found, is_proven: true, is_short };
                assert_eq!(decide(&evidence), (Case::B, Verdict::Corrupt));
            }
        }
    }

    #[test]
    fn case_c_a_first_sector_that_never_arrived_is_torn() {
        assert_eq!(unproven(Found::ZeroSector), (Case::C, Verdict::Torn));
    }

    #[test]
    fn case_d_a_damaged_header_is_corrupt() {
        assert_eq!(unproven(Found::NoHeader), (Case::D, Verdict::Corrupt));
    }

    #[test]
    fn case_e_a_body_sector_that_never_arrived_is_torn() {
        assert_eq!(unproven(Found::MissingSector), (Case::E, Verdict::Torn));
    }

    #[test]
    fn case_f_a_damaged_body_is_corrupt() {
        assert_eq!(unproven(Found::WrongBody), (Case::F, Verdict::Corrupt));
    }

    #[test]
    fn case_g_with_one_group_in_flight_another_group_is_corrupt() {
        assert_eq!(unproven(Found::OtherGroup), (Case::G, Verdict::Corrupt));
    }

    #[test]
    fn case_h_what_a_successor_cuts_off_is_dead() {
        assert_eq!(unproven(Found::Successor), (Case::H, Verdict::Clean));
    }

    #[test]
    fn case_i_what_a_file_that_was_cut_short_lacks_may_have_been_acknowledged() {
        for found in Found::ALL.into_iter().filter(|found| *found != Found::Successor) {
            let evidence = Evidence { found, is_proven: false, is_short: true };
            assert_eq!(decide(&evidence), (Case::I, Verdict::Corrupt));
        }
        let dead = Evidence { found: Found::Successor, is_proven: false, is_short: true };
        assert_eq!(decide(&dead), (Case::H, Verdict::Clean));
    }

    #[test]
    fn exactly_one_case_applies_to_every_combination_of_evidence() {
        let all = Found::ALL.into_iter().flat_map(|found| {
            [(false, false), (false, true), (true, false), (true, true)]
                .map(|(is_proven, is_short)| Evidence { found, is_proven, is_short })
        });
        for evidence in all {
            let Evidence { found, is_proven, is_short } = evidence;
            let is = |wanted| !is_proven && !is_short && found == wanted;
            // The conditions as the table states them, each without regard to the others.
            let table = [
                (Case::A, Verdict::Clean, is(Found::Zeros)),
                (Case::B, Verdict::Corrupt, is_proven),
                (Case::C, Verdict::Torn, is(Found::ZeroSector)),
                (Case::D, Verdict::Corrupt, is(Found::NoHeader)),
                (Case::E, Verdict::Torn, is(Found::MissingSector)),
                (Case::F, Verdict::Corrupt, is(Found::WrongBody)),
                (Case::G, Verdict::Corrupt, is(Found::OtherGroup)),
                (Case::H, Verdict::Clean, !is_proven && found == Found::Successor),
                (Case::I, Verdict::Corrupt, !is_proven && is_short && found != Found::Successor),
            ];
            let applying: Vec<_> = table.iter().filter(|(_, _, applies)| *applies).collect();
            let [(case, verdict, _)] = applying[..] else {
                panic!("{} cases apply to {found:?}", applying.len());
            };
            let decided = decide(&evidence);
            assert_eq!(decided, (*case, *verdict));
            assert!(!is_proven || decided.1 == Verdict::Corrupt);
        }
    }
}
