//! The files of a store in memory, put back as often as a bit of them is flipped.
//!
//! Invariants:
//!   * What is put back has the same names, lengths and bytes; runs of zeros may be holes.
//!   * A place to flip is a byte that is not zero, of a file that an engine reads its data from.

use crate::Result;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Pieces of files that are kept if they are not all zeros.
const PIECE_BYTES: usize = 4096;

/// All files of a folder.
#[derive(Debug, Default)]
pub struct Image {
    folders: Vec<PathBuf>,
    files: Vec<Copied>,
}

#[derive(Debug)]
struct Copied {
    /// Inside the folder.
    path: PathBuf,
    length: u64,
    /// Where they begin, and their bytes.
    pieces: Vec<(u64, Vec<u8>)>,
}

/// A byte of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'i> {
    pub path: &'i Path,
    pub offset: u64,
}

/// Whether an engine takes no data from the file of this name: what RocksDB tells people (`LOG`),
/// who holds a store (`LOCK`), who reads one (`lock.mdb`), and an index of a log that is made anew
/// by whoever opens the store first (`-shm`).
fn is_spared(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["LOG", "LOCK", "lock.mdb"].contains(&&*name) || name.ends_with("-shm")
}

impl Copied {
    fn of(folder: &Path, path: PathBuf) -> Result<Self> {
        let bytes = fs::read(folder.join(&path))?;
        let pieces = (0..).step_by(PIECE_BYTES).zip(bytes.chunks(PIECE_BYTES));
        let pieces = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
        let pieces = pieces.map(|(from, piece)| (from, piece.to_vec())).collect();
        Ok(Self { path, length: bytes.len() as u64, pieces })
    }

    /// Where the bytes are that are not zero.
    fn places(&self) -> impl Iterator<Item = u64> {
        self.pieces.iter().flat_map(|(from, piece)| {
            let bytes = (*from..).zip(piece);
            bytes.filter(|(_, byte)| **byte != 0).map(|(offset, _)| offset)
        })
    }
}

impl Image {
    /// Reads a folder.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut image = Self::default();
        image.add(folder, Path::new(""))?;
        image.files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(image)
    }

    fn add(&mut self, folder: &Path, inner: &Path) -> Result<()> {
        for entry in fs::read_dir(folder.join(inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.folders.push(path.clone());
                self.add(folder, &path)?;
            } else {
                self.files.push(Copied::of(folder, path)?);
            }
        }
        Ok(())
    }

    /// Writes it into a folder that is not there.
    pub fn restore(&self, to: &Path) -> Result<()> {
        fs::create_dir(to)?;
        for folder in &self.folders {
            fs::create_dir(to.join(folder))?;
        }
        for copied in &self.files {
            let file = File::create_new(to.join(&copied.path))?;
            file.set_len(copied.length)?;
            for (from, piece) in &copied.pieces {
                file.write_all_at(piece, *from)?;
            }
        }
        Ok(())
    }

    /// All bytes of which a bit may be flipped.
    pub fn places(&self) -> Vec<Place<'_>> {
        let files = self.files.iter().filter(|copied| !is_spared(&copied.path));
        let places = files
            .flat_map(|copied| copied.places().map(|offset| Place { path: &copied.path, offset }));
        places.collect()
    }
}

impl Place<'_> {
    /// Flips one of its bits in a folder into which the image was restored.
    pub fn flip(&self, bit: u32, folder: &Path) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(self.path))?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.offset)?;
        Ok(file.write_all_at(&[byte[0] ^ (1 << bit)], self.offset)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let write = |name: &str, bytes: &[u8]| {
            fs::write(folder.path().join(name), bytes).expect("it can be written");
        };
        fs::create_dir_all(folder.path().join("a/empty")).expect("a folder can be made");
        let mut long = vec![0; 3 * PIECE_BYTES + 7];
        long[PIECE_BYTES + 5] = 9;
        write("a/long", &long);
        write("short", &[0, 1, 0, 2]);
        for spared in ["LOG", "LOCK", "lock.mdb", "a/x-shm"] {
            write(spared, &[7; 10]);
        }
        folder
    }

    #[test]
    fn what_is_restored_is_what_was_there() {
        let (from, to) = (folder(), tempfile::tempdir().expect("a folder can be made"));
        let to = to.path().join("copy");
        Image::of(from.path()).and_then(|image| image.restore(&to)).expect("it can be copied");
        for name in ["a/long", "short", "LOG", "a/x-shm"] {
            let read = |folder: &Path| fs::read(folder.join(name)).expect("it is there");
            assert_eq!(read(from.path()), read(&to), "{name}");
        }
        assert!(to.join("a/empty").is_dir());
    }

    #[test]
    fn only_bytes_of_data_that_are_not_zero_are_places() {
        let folder = folder();
        let image = Image::of(folder.path()).expect("it can be read");
        let of = |path: &'static str, offset| Place { path: Path::new(path), offset };
        let expected = [of("a/long", PIECE_BYTES as u64 + 5), of("short", 1), of("short", 3)];
        assert_eq!(image.places(), expected);
    }

    #[test]
    fn a_flip_changes_one_bit() {
        let folder = folder();
        let place = Place { path: Path::new("short"), offset: 3 };
        place.flip(4, folder.path()).expect("it can be written");
        let bytes = fs::read(folder.path().join("short")).expect("it is there");
        assert_eq!(bytes, [0, 1, 0, 2 | (1 << 4)]);
    }
}
