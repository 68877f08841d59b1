//! Names of files on disk: printed and parsed here, and nowhere else.
//!
//! Invariants:
//!   * A [`FileName`] comes from a number, never from a string that a user chose: no name of an
//!     object, namespace or key can become a path.
//!   * Every number that a store can come to has a name that is parsed.
//!   * `parse` and `Display` are inverse: a file whose name does not print back is foreign.

use crate::ids::FileNumber;
use std::fmt;

/// From this number on files are foreign: their names have more digits than a store's.
const NUMBERS_END: u64 = 1 << 48;

/// No store counts up to here, and from here on it can count for longer than any is open.
pub const NUMBERS_MAX: u64 = 1 << 47;

/// A folder inside a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// The store's folder itself.
    Root,
    /// `wal`: the log.
    Wal,
    /// `seg`: pages.
    Segments,
    /// `run`: sorted runs.
    Runs,
}

impl Folder {
    /// Every folder of a store, the root first.
    pub const ALL: [Self; 4] = [Self::Root, Self::Wal, Self::Segments, Self::Runs];

    /// The folder's name under the root; empty for the root.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Root => "",
            Self::Wal => "wal",
            Self::Segments => "seg",
            Self::Runs => "run",
        }
    }
}

/// A file of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// `LOCK`: held by the one writer.
    Lock,
    /// `admin.sock`: where the one writer listens to operators, if it does.
    AdminSocket,
    /// `MANIFEST`: the set of live files.
    Manifest,
    /// `MANIFEST.tmp`: the next manifest, before it is renamed.
    ManifestTemporary,
    /// A file of the log.
    Wal(FileNumber),
    /// A file of pages.
    Segment(FileNumber),
    /// A sorted run.
    Run(FileNumber),
}

impl FileName {
    /// The folder that holds the file.
    #[must_use]
    pub fn folder(self) -> Folder {
        match self {
            Self::Lock | Self::AdminSocket | Self::Manifest | Self::ManifestTemporary => {
                Folder::Root
            }
            Self::Wal(_) => Folder::Wal,
            Self::Segment(_) => Folder::Segments,
            Self::Run(_) => Folder::Runs,
        }
    }

    /// The number of a numbered file.
    #[must_use]
    pub fn number(self) -> Option<FileNumber> {
        match self {
            Self::Wal(number) | Self::Segment(number) | Self::Run(number) => Some(number),
            Self::Lock | Self::AdminSocket | Self::Manifest | Self::ManifestTemporary => None,
        }
    }

    /// The file that `leaf` names inside `folder`; none for a foreign name.
    #[must_use]
    pub fn parse(folder: Folder, leaf: &str) -> Option<Self> {
        let name = match folder {
            Folder::Root => match leaf {
                "LOCK" => Self::Lock,
                "admin.sock" => Self::AdminSocket,
                "MANIFEST" => Self::Manifest,
                "MANIFEST.tmp" => Self::ManifestTemporary,
                _ => return None,
            },
            Folder::Wal => Self::Wal(number(leaf, ".wal")?),
            Folder::Segments => Self::Segment(number(leaf, ".seg")?),
            Folder::Runs => Self::Run(number(leaf, ".run")?),
        };
        (name.leaf() == leaf).then_some(name)
    }

    /// The name inside its folder.
    #[must_use]
    pub fn leaf(self) -> String {
        match self {
            Self::Lock => "LOCK".to_owned(),
            Self::AdminSocket => "admin.sock".to_owned(),
            Self::Manifest => "MANIFEST".to_owned(),
            Self::ManifestTemporary => "MANIFEST.tmp".to_owned(),
            Self::Wal(number) => format!("{:012x}.wal", number.0),
            Self::Segment(number) => format!("{:012x}.seg", number.0),
            Self::Run(number) => format!("{:012x}.run", number.0),
        }
    }
}

/// A number that a store can come to by counting: a greater one would leave no next.
fn number(leaf: &str, suffix: &str) -> Option<FileNumber> {
    let number = u64::from_str_radix(leaf.strip_suffix(suffix)?, 16).ok();
    number.filter(|number| *number < NUMBERS_END).map(FileNumber)
}

impl fmt::Display for FileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.folder() {
            Folder::Root => out.write_str(&self.leaf()),
            folder => write!(out, "{}/{}", folder.path(), self.leaf()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_and_parse_back_and_foreign_ones_do_not_parse() {
        for name in [
            FileName::Lock,
            FileName::AdminSocket,
            FileName::Manifest,
            FileName::ManifestTemporary,
            FileName::Wal(FileNumber(1)),
            FileName::Segment(FileNumber(0xABC)),
            FileName::Run(FileNumber((1 << 48) - 1)),
        ] {
            assert_eq!(FileName::parse(name.folder(), &name.leaf()), Some(name));
        }
        for number in [1 << 48, u64::MAX] {
            let name = FileName::Wal(FileNumber(number));
            assert_eq!(FileName::parse(Folder::Wal, &name.leaf()), None);
        }
        for leaf in ["1.wal", "00000000000g.wal", "+00000000001.wal", "../LOCK", "", ".wal"] {
            assert_eq!(FileName::parse(Folder::Wal, leaf), None, "{leaf}");
        }
    }
}
