//! Reads and writes that go past the system's cache: of what nobody needs again soon, as the log.
//!
//! A byte that goes into the cache costs its copy, and a part of a page that may have to come from
//! the host of a virtual machine; docs/decisions/0019 has what that is. Past the cache a device
//! takes bytes from where they are, if that is where it can, so they are copied there first.
//!
//! Invariants:
//!   * What a device is asked for begins and ends at a multiple of [`ALIGNMENT`], in the file and
//!     in memory.
//!   * There are as many buffers, of [`PIECE_BYTES`] each, as calls were under way at once.
//!   * Nobody touches a buffer while a call has it: a process that forks meanwhile leaves its pages
//!     where the device was told that they are.

use super::piece::PIECE_BYTES;
use parking_lot::Mutex;
use rustix::io::Errno;

/// A multiple of what any device that is known asks for.
const ALIGNMENT: usize = 4096;

/// Buffers that are not in use.
static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Hands the first of `bytes` to `write`, as many as one call can take; none if it can take none.
pub(super) fn write_at(
    bytes: &[u8],
    offset: u64,
    write: impl FnOnce(&[u8]) -> Result<usize, Errno>,
) -> Option<Result<usize, Errno>> {
    let whole = bytes.len().min(PIECE_BYTES) / ALIGNMENT * ALIGNMENT;
    if whole == 0 || !offset.is_multiple_of(ALIGNMENT as u64) {
        return None;
    }
    Some(with_buffer(|buffer| {
        buffer[..whole].copy_from_slice(&bytes[..whole]);
        write(&buffer[..whole])
    }))
}

/// Fills `bytes` from `offset` on with what `read` gives of the parts of the file that have them,
/// as far as one call goes.
pub(super) fn read_at(
    bytes: &mut [u8],
    offset: u64,
    read: impl FnOnce(&mut [u8], u64) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let start = offset / ALIGNMENT as u64 * ALIGNMENT as u64;
    let skipped = usize::try_from(offset - start).unwrap_or_default();
    let whole = bytes.len().saturating_add(skipped).min(PIECE_BYTES);
    let whole = whole.next_multiple_of(ALIGNMENT);
    with_buffer(|buffer| {
        let read = read(&mut buffer[..whole], start)?;
        let count = read.saturating_sub(skipped).min(bytes.len());
        bytes[..count].copy_from_slice(&buffer[skipped..skipped + count]);
        Ok(count)
    })
}

/// Lends a buffer of a piece that begins where a device can take it.
fn with_buffer<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    let buffer = FREE.lock().pop();
    let mut buffer = buffer.unwrap_or_else(|| vec![0; PIECE_BYTES + ALIGNMENT]);
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    let done = work(&mut buffer[start..start + PIECE_BYTES]);
    FREE.lock().push(buffer);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_aligned(part: &[u8]) -> bool {
        part.as_ptr().addr().is_multiple_of(ALIGNMENT) && part.len().is_multiple_of(ALIGNMENT)
    }

    #[test]
    fn what_is_written_is_aligned_and_what_cannot_be_is_not_written() {
        let bytes: Vec<u8> = (0..=250).cycle().take(2 * PIECE_BYTES).collect();
        for (length, whole) in [(4096, 4096), (9000, 8192), (2 * PIECE_BYTES - 3, PIECE_BYTES)] {
            let written = write_at(&bytes[3..3 + length], 8192, |part| {
                assert!(is_aligned(part) && *part == bytes[3..3 + whole]);
                Ok(part.len() - 7)
            });
            assert_eq!(written, Some(Ok(whole - 7)));
        }
        for (length, offset) in [(4095, 4096), (0, 4096), (8192, 4097)] {
            assert_eq!(write_at(&bytes[..length], offset, |_| unreachable!()), None);
        }
    }

    #[test]
    fn what_is_read_is_what_was_asked_for_however_it_lies() {
        let file: Vec<u8> = (0..=250).cycle().take(3 * PIECE_BYTES + 100).collect();
        let read = |part: &mut [u8], offset: u64| {
            assert!(is_aligned(part) && offset.is_multiple_of(ALIGNMENT as u64));
            let rest = &file[file.len().min(usize::try_from(offset).unwrap())..];
            let count = rest.len().min(part.len());
            part[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        for offset in [0, 1, 4095, 4096, 700_001, file.len() - 101, file.len() - 1, file.len()] {
            for length in [0, 1, 4096, 5000, PIECE_BYTES, 2 * PIECE_BYTES] {
                let mut bytes = vec![0; length];
                let count = read_at(&mut bytes, offset as u64, read).unwrap();
                let left = length.min(file.len() - offset);
                let most = PIECE_BYTES - offset % ALIGNMENT;
                assert_eq!(count, left.min(most), "{length} bytes at {offset}");
                assert_eq!(bytes[..count], file[offset..offset + count]);
            }
        }
        let failed = read_at(&mut [0; 9], 5, |_, _| Err(Errno::IO));
        assert_eq!(failed, Err(Errno::IO));
    }
}
