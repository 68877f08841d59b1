//! What an object's name and keys look like.
//!
//! ```text
//! turns            commits that touched the file
//! lines            "net added removed", of the commits that count lines
//! binary           commits that touched it as a binary file; only where there are any
//! last             "ordinal id time" of the last commit
//! author/NAME      commits of that author
//! subject/TURN     the subject of each of the last commits; TURN is eight bytes, big-endian
//! ```
//!
//! Invariants:
//!   * Different paths have different names, and a name is one printable line of UTF-8.

use std::fmt::Write;

/// The key of the number of turns.
pub const TURNS: &[u8] = b"turns";
/// The key of the line totals.
pub const LINES: &[u8] = b"lines";
/// The key of the number of turns that count no lines.
pub const BINARY: &[u8] = b"binary";
/// The key of the last change.
pub const LAST: &[u8] = b"last";
/// Begins the key of an author's counter.
pub const AUTHOR: &[u8] = b"author/";
/// Begins the key of a subject.
pub const SUBJECT: &[u8] = b"subject/";

/// How many subjects an object keeps.
pub const SUBJECTS: u64 = 10;

const NAME_BYTES_MAX: usize = 1024;
const AUTHOR_BYTES_MAX: usize = 512;
const SUBJECT_BYTES_MAX: usize = 1000;

/// The namespace of a round.
pub fn namespace_name(round: u32) -> String {
    format!("round-{round}")
}

/// The name of the object of a path. What is no printable UTF-8 is written as `%` and hex.
pub fn object_name(path: &[u8]) -> String {
    let mut name = String::with_capacity(path.len());
    let escape = |name: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(name, "%{byte:02X}");
        }
    };
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' || character.is_control() {
                escape(&mut name, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                name.push(character);
            }
        }
        escape(&mut name, chunk.invalid());
    }
    if name.len() > NAME_BYTES_MAX {
        let hash = path.iter().fold(0x6C62_272E_07BB_0142_62B8_2175_6295_C58D, |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013B)
        });
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - 40));
        // No escaped byte reads so.
        let _ = write!(name, "%~{hash:032X}");
    }
    name
}

/// The key of an author's counter.
pub fn author_key(name: &[u8], mail: &[u8]) -> Vec<u8> {
    let author = [name, b" <", mail, b">"].concat();
    [AUTHOR, &author[..author.len().min(AUTHOR_BYTES_MAX)]].concat()
}

/// The key of the subject of a turn.
pub fn subject_key(turn: u64) -> Vec<u8> {
    [SUBJECT, &turn.to_be_bytes()].concat()
}

/// A subject as far as it is kept.
pub fn subject_value(subject: &[u8]) -> &[u8] {
    &subject[..subject.len().min(SUBJECT_BYTES_MAX)]
}
