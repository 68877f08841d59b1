//! A stream in either form, item by item, in the one order that streams have.
//!
//! Invariants:
//!   * Any bytes are read without a panic, and into memory that a line or a block may take.
//!   * A stream that lacks its end is told from one that is complete.

use super::Form;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::format::Malformed;
use crate::format::export::binary::{
    BLOCK_HEADER_BYTES, BlockHeader, FRONT_BYTES, Items, MAGIC, decode_front,
};
use crate::format::export::text::{LINE_BYTES_MAX, decode, decode_first};
use crate::format::export::{EXPORT_VERSION, Item};
use std::io::{BufRead, BufReader, Read};

/// Reads a stream.
#[derive(Debug)]
pub struct Stream<R> {
    input: BufReader<R>,
    form: Form,
    /// A line, or the items of a block.
    buffer: Vec<u8>,
    /// Where in a block's items the next one begins.
    at: usize,
    /// Of the line or the block.
    byte: u64,
    next_byte: u64,
    /// Lines, or blocks, before the next one.
    number: u64,
    order: Order,
}

/// What may come next.
#[derive(Debug)]
enum Order {
    /// Between objects; whether a namespace was named.
    Outside { has_namespace: bool, objects: u64 },
    /// In an object, behind so many items of it; it is the one behind so many others.
    Inside { items: u64, objects: u64 },
    /// Nothing.
    Ended,
}

impl Order {
    fn after(&self, item: &Item<'_>) -> std::result::Result<Self, Malformed> {
        Ok(match (self, item) {
            (Self::Outside { objects, .. }, Item::Namespace(_)) => {
                Self::Outside { has_namespace: true, objects: *objects }
            }
            (Self::Outside { has_namespace: false, .. }, Item::Object { .. }) => {
                return Err(Malformed("an object before the first namespace"));
            }
            (Self::Outside { objects, .. }, Item::Object { .. }) => {
                Self::Inside { items: 0, objects: *objects }
            }
            (Self::Outside { objects, .. }, Item::End { objects: told }) => {
                if told.is_some_and(|told| told != *objects) {
                    return Err(Malformed("the export does not have as many objects as it says"));
                }
                Self::Ended
            }
            (Self::Inside { items, objects }, Item::EndObject { items: told }) => {
                if told.is_some_and(|told| told != *items) {
                    return Err(Malformed("the object does not have as many items as it says"));
                }
                Self::Outside { has_namespace: true, objects: objects + 1 }
            }
            (
                Self::Inside { items, objects },
                Item::UserVersion(_)
                | Item::Entry { .. }
                | Item::Alarm { .. }
                | Item::Failure { .. },
            ) => Self::Inside { items: items + 1, objects: *objects },
            (Self::Inside { .. }, _) => return Err(Malformed("an object without its end")),
            (Self::Outside { .. }, _) => return Err(Malformed("an item outside of an object")),
            (Self::Ended, _) => return Err(Malformed("something stands behind the end")),
        })
    }
}

#[cold]
fn failed(cause: std::io::Error) -> Error {
    Error::io("reading an import", cause)
}

impl<R: Read> Stream<R> {
    /// Reads the beginning of a stream, and sees from it which form it has.
    pub fn new(input: R) -> Result<Self> {
        let mut input = BufReader::new(input);
        let first = input.fill_buf().map_err(failed)?.first().copied();
        let form = if first == Some(MAGIC[0]) { Form::Binary } else { Form::Text };
        let order = Order::Outside { has_namespace: false, objects: 0 };
        let (buffer, at) = (Vec::new(), 0);
        let mut stream = Self { input, form, buffer, at, byte: 0, next_byte: 0, number: 0, order };
        let version = match form {
            Form::Text => {
                if !stream.read_line()? {
                    return Err(stream.truncated());
                }
                decode_first(&stream.buffer)
            }
            Form::Binary => {
                let front = stream.read_bytes(FRONT_BYTES)?;
                decode_front(&front).map(u64::from)
            }
        };
        let version = version.map_err(|fault| stream.malformed(fault))?;
        if version != u64::from(EXPORT_VERSION) {
            let what = format!("an export of version {version}, which is not known here");
            return Err(Error::new(ErrorKind::Unsupported, "import.version", what));
        }
        Ok(stream)
    }

    /// Which form the stream has.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The next item; none behind the end.
    pub fn read(&mut self) -> Result<Option<Item<'_>>> {
        let is_there = match self.form {
            Form::Text => self.fill_line()?,
            Form::Binary => self.at < self.buffer.len() || self.read_block()?,
        };
        if !is_there {
            let is_over = matches!(self.order, Order::Ended);
            return if is_over { Ok(None) } else { Err(self.truncated()) };
        }
        let decoded = match self.form {
            Form::Text => decode(&self.buffer),
            Form::Binary => {
                let mut items = Items::new(&self.buffer[self.at..]);
                let item = items.next().unwrap_or(Err(Malformed("cut short")));
                self.at = self.buffer.len() - items.rest();
                item
            }
        };
        let ordered = decoded.and_then(|item| Ok((self.order.after(&item)?, item)));
        match ordered {
            Ok((order, item)) => {
                self.order = order;
                Ok(Some(item))
            }
            Err(fault) => Err(malformed(fault, place(self.form, self.number, self.byte))),
        }
    }

    /// Where the item is that was read last, in words.
    pub fn place(&self) -> (String, Place) {
        place(self.form, self.number, self.byte)
    }

    /// The next line that is not empty; false at the end of the input.
    fn fill_line(&mut self) -> Result<bool> {
        while self.read_line()? {
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_line(&mut self) -> Result<bool> {
        self.buffer.clear();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.input).take(most).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(failed)? as u64;
        self.byte = self.next_byte;
        self.next_byte += read;
        self.number += u64::from(read > 0);
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
        } else if read == most {
            return Err(self.malformed(Malformed("a line is too long")));
        }
        Ok(read > 0)
    }

    /// The items of the next block; false at the end of the input.
    fn read_block(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.at = 0;
        self.byte = self.next_byte;
        if self.input.fill_buf().map_err(failed)?.is_empty() {
            return Ok(false);
        }
        let header = self.read_bytes(BLOCK_HEADER_BYTES)?;
        let header = <[u8; BLOCK_HEADER_BYTES]>::try_from(&header[..]);
        let header = header.map_err(|_| self.malformed(Malformed("cut short")))?;
        let facts = BlockHeader::decode(&header).map_err(|fault| self.malformed(fault))?;
        let stored = self.read_bytes(facts.stored_bytes as usize)?;
        if !BlockHeader::fits(&header, self.number, &stored) {
            let (words, place) = self.place();
            let what = format!("{words}: a block's checksum differs");
            return Err(Error::corrupt("import.checksum", what, place));
        }
        self.number += 1;
        let raw_bytes = facts.raw_bytes as usize;
        self.buffer = if facts.is_compressed {
            let raw = zstd::bulk::decompress(&stored, raw_bytes);
            raw.map_err(|_| self.malformed(Malformed("a block that does not decompress")))?
        } else {
            stored
        };
        if self.buffer.len() != raw_bytes {
            return Err(self.malformed(Malformed("a block is not as long as it says")));
        }
        Ok(true)
    }

    /// So many bytes. Memory grows with what is there, not with what was asked for.
    fn read_bytes(&mut self, bytes: usize) -> Result<Vec<u8>> {
        let mut read = Vec::new();
        (&mut self.input).take(bytes as u64).read_to_end(&mut read).map_err(failed)?;
        self.next_byte += read.len() as u64;
        if read.len() < bytes { Err(self.truncated()) } else { Ok(read) }
    }

    #[cold]
    fn malformed(&self, fault: Malformed) -> Error {
        malformed(fault, self.place())
    }

    #[cold]
    fn truncated(&self) -> Error {
        let (words, place) = self.place();
        let whole = "what is whole before that is imported";
        let what = format!("the export ends behind {words}, and is not complete: {whole}");
        Error::corrupt("import.truncated", what, place)
    }
}

fn place(form: Form, number: u64, byte: u64) -> (String, Place) {
    let words = match form {
        Form::Text => format!("line {number}"),
        Form::Binary => format!("byte {byte}"),
    };
    (words, Place::new("the import", byte))
}

#[cold]
fn malformed(fault: Malformed, (words, place): (String, Place)) -> Error {
    Error::invalid("import.malformed", format!("{words}: {fault}")).at(place)
}
