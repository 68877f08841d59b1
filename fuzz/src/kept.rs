//! The inputs that fuzzing has kept: files of a folder for each target.
//!
//! Invariants:
//!   * They come in the order of their names.

use std::fs;
use std::io::Read;
use std::path::Path;

/// The name of an input, and its bytes.
pub type Input = (String, Vec<u8>);

/// What the folder of corpora has for a target; at least one input.
pub fn kept(corpora: &Path, target: &str) -> Vec<Input> {
    let folder = corpora.join(target);
    let listed =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = listed.map(|entry| entry.expect("a listed name").path());
    let mut inputs: Vec<Input> = files
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            let read = fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
            read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, bytes)
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}
