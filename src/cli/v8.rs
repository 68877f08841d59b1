//! The serialization of V8's structured clone, read.
//!
//! Written here because the crate that reads it allocates what a length in the bytes says before
//! it has looked whether they are there.
//!
//! Invariants:
//!   * Memory is in proportion to the bytes, and depth is bounded, whatever the bytes are.

use super::tree::{Tree, hex};

/// Begins every serialization; a version follows.
const VERSION_TAG: u8 = 0xFF;
/// The versions whose layout is known.
const VERSIONS: std::ops::RangeInclusive<u32> = 13..=15;
/// The version from which on views have flags.
const FLAGS_FROM: u32 = 14;
const DEPTH_MAX: usize = 200;

/// The kinds of views, by their tag.
const VIEWS: [(u8, &str); 13] = [
    (b'b', "Int8Array"),
    (b'B', "Uint8Array"),
    (b'C', "Uint8ClampedArray"),
    (b'w', "Int16Array"),
    (b'W', "Uint16Array"),
    (b'd', "Int32Array"),
    (b'D', "Uint32Array"),
    (b'h', "Float16Array"),
    (b'f', "Float32Array"),
    (b'F', "Float64Array"),
    (b'q', "BigInt64Array"),
    (b'Q', "BigUint64Array"),
    (b'?', "DataView"),
];

/// The kinds of errors, by their tag.
const ERRORS: [(u8, &str); 6] = [
    (b'E', "EvalError"),
    (b'R', "RangeError"),
    (b'F', "ReferenceError"),
    (b'S', "SyntaxError"),
    (b'T', "TypeError"),
    (b'U', "URIError"),
];

/// The flags of a pattern, by their bit.
const PATTERN_FLAGS: [char; 9] = ['g', 'i', 'm', 'y', 'u', 's', 'l', 'd', 'v'];

/// Whether bytes begin as such a serialization does.
pub fn is_likely(bytes: &[u8]) -> bool {
    matches!(bytes, [VERSION_TAG, version, _, ..] if VERSIONS.contains(&u32::from(*version)))
}

/// Reads a whole serialization; none for anything else.
pub fn decode(bytes: &[u8]) -> Option<Tree> {
    let mut reader = Reader { rest: bytes, version: 0, depth: 0, objects: 0 };
    if reader.byte()? != VERSION_TAG {
        return None;
    }
    reader.version = reader.varint_u32().filter(|version| VERSIONS.contains(version))?;
    let tree = reader.value()?;
    reader.rest.iter().all(|byte| *byte == 0).then_some(tree)
}

struct Reader<'a> {
    rest: &'a [u8],
    version: u32,
    depth: usize,
    /// Objects begun: each may be referred to by its number.
    objects: u32,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint_u32(&mut self) -> Option<u32> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return u32::try_from(number).ok();
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint_u32()?).ok()
    }

    fn double(&mut self) -> Option<f64> {
        self.bytes(8)?.try_into().ok().map(f64::from_le_bytes)
    }

    /// The next tag, behind padding.
    fn tag(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                0 => {}
                tag => return Some(tag),
            }
        }
    }

    fn next_is(&self, tag: u8) -> bool {
        self.rest.iter().find(|byte| **byte != 0) == Some(&tag)
    }

    fn value(&mut self) -> Option<Tree> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let tag = self.tag()?;
        let tree = self.tagged(tag);
        self.depth -= 1;
        tree
    }

    fn tagged(&mut self, tag: u8) -> Option<Tree> {
        Some(match tag {
            b'_' | b'-' => Tree::Undefined,
            b'0' => Tree::Null,
            b'T' => Tree::Bool(true),
            b'F' => Tree::Bool(false),
            b'I' => {
                let zigzag = self.varint_u32()?;
                Tree::Int(i128::from(zigzag >> 1) ^ -i128::from(zigzag & 1))
            }
            b'U' => Tree::Int(self.varint_u32()?.into()),
            b'N' => Tree::Float(self.double()?),
            b'Z' => self.big()?,
            b'"' | b'c' | b'S' => Tree::Text(self.text(tag)?),
            b'^' => {
                Tree::Other("Reference".to_owned(), Box::new(Tree::Int(self.varint_u32()?.into())))
            }
            _ => {
                self.objects += 1;
                self.object(tag)?
            }
        })
    }

    fn object(&mut self, tag: u8) -> Option<Tree> {
        let boxed = |name: &str, inner| Tree::Other(name.to_owned(), Box::new(inner));
        Some(match tag {
            b'o' => {
                let entries = self.pairs(b'{')?;
                self.varint_u32()?;
                Tree::Object(entries)
            }
            b'A' => self.dense()?,
            b'a' => {
                let length = self.varint_u32()?;
                let entries = self.pairs(b'@')?;
                self.varint_u32()?;
                self.varint_u32()?;
                boxed(&format!("Array of {length}"), Tree::Object(entries))
            }
            b';' => {
                let entries = self.pairs(b':')?;
                self.varint_u32()?;
                Tree::Map(entries)
            }
            b'\'' => {
                let mut items = Vec::new();
                while !self.next_is(b',') {
                    items.push(self.value()?);
                }
                self.tag()?;
                self.varint_u32()?;
                Tree::Set(items)
            }
            b'D' => Tree::Date(self.double()?),
            b'y' => boxed("Boolean", Tree::Bool(true)),
            b'x' => boxed("Boolean", Tree::Bool(false)),
            b'n' => boxed("Number", Tree::Float(self.double()?)),
            b'z' => boxed("BigInt", self.big()?),
            b's' => {
                let tag = self.tag()?;
                boxed("String", Tree::Text(self.text(tag)?))
            }
            b'R' => {
                let tag = self.tag()?;
                let pattern = self.text(tag)?;
                let flags = self.varint_u32()?;
                let is_set = |bit: &usize| flags >> bit & 1 == 1;
                let shown = (0..PATTERN_FLAGS.len()).filter(is_set).map(|bit| PATTERN_FLAGS[bit]);
                Tree::Pattern(pattern, shown.collect())
            }
            b'B' | b'~' => self.buffer(tag == b'~')?,
            b'r' => self.error()?,
            _ => return None,
        })
    }

    fn pairs(&mut self, end: u8) -> Option<Vec<(Tree, Tree)>> {
        let mut pairs = Vec::new();
        while !self.next_is(end) {
            pairs.push((self.value()?, self.value()?));
        }
        self.tag()?;
        Some(pairs)
    }

    /// An array of items, and of properties where it has some.
    fn dense(&mut self) -> Option<Tree> {
        let length = self.length()?;
        // Each item takes a byte at least.
        if length > self.rest.len() {
            return None;
        }
        let items: Option<Vec<_>> = (0..length).map(|_| self.value()).collect();
        let (items, more) = (items?, self.pairs(b'$')?);
        self.varint_u32()?;
        self.varint_u32()?;
        if more.is_empty() {
            return Some(Tree::List(items));
        }
        let indexed = items.into_iter().enumerate();
        let indexed = indexed.map(|(index, item)| (Tree::Text(index.to_string()), item));
        let all = Tree::Object(indexed.chain(more).collect());
        Some(Tree::Other("Array".to_owned(), Box::new(all)))
    }

    fn text(&mut self, tag: u8) -> Option<String> {
        let length = self.length()?;
        if tag == b'c' {
            // Two-byte texts are aligned where they are written; the padding is a tag of its own.
            let units = self.bytes(length)?.chunks_exact(2);
            let units: Vec<u16> =
                units.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            return Some(String::from_utf16_lossy(&units));
        }
        let bytes = self.bytes(length)?;
        match tag {
            b'"' => Some(bytes.iter().copied().map(char::from).collect()),
            b'S' => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        }
    }

    fn big(&mut self) -> Option<Tree> {
        let field = self.varint_u32()?;
        let digits = self.bytes(usize::try_from(field >> 1).ok()?)?;
        let sign = if field & 1 == 1 { "-" } else { "" };
        if digits.len() > 16 {
            let first_first: Vec<_> = digits.iter().rev().copied().collect();
            let hex = hex(&first_first);
            return Some(Tree::Big(format!("{sign}0x{hex}")));
        }
        let mut whole = [0; 16];
        whole[..digits.len()].copy_from_slice(digits);
        Some(Tree::Big(format!("{sign}{}", u128::from_le_bytes(whole))))
    }

    /// A buffer, or what looks into one.
    fn buffer(&mut self, is_resizable: bool) -> Option<Tree> {
        let length = self.length()?;
        if is_resizable {
            self.varint_u32()?;
        }
        let bytes = self.bytes(length)?;
        if !self.next_is(b'V') {
            return Some(Tree::Bytes(bytes.to_vec()));
        }
        self.tag()?;
        self.objects += 1;
        let kind = self.byte()?;
        let name = VIEWS.iter().find(|(tag, _)| *tag == kind)?.1;
        let (from, length) = (self.length()?, self.length()?);
        if self.version >= FLAGS_FROM {
            self.varint_u32()?;
        }
        let shown = bytes.get(from..from.checked_add(length)?)?;
        Some(Tree::Other(name.to_owned(), Box::new(Tree::Bytes(shown.to_vec()))))
    }

    fn error(&mut self) -> Option<Tree> {
        let mut name = "Error";
        let mut entries = Vec::new();
        loop {
            let tag = self.byte()?;
            let field = match tag {
                b'.' => break,
                b'm' => "message",
                b's' => "stack",
                b'c' => "cause",
                _ => {
                    name = ERRORS.iter().find(|(kind, _)| *kind == tag)?.1;
                    continue;
                }
            };
            entries.push((Tree::Text(field.to_owned()), self.value()?));
        }
        Some(Tree::Other(name.to_owned(), Box::new(Tree::Object(entries))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> Option<String> {
        decode(&[&[0xFF, 0x0F], bytes].concat()).map(|tree| tree.to_string())
    }

    #[test]
    fn values_are_shown_as_javascript_writes_them() {
        for (bytes, text) in [
            (&b"_"[..], "undefined"),
            (b"0", "null"),
            (b"I\x06", "3"),
            (b"I\x05", "-3"),
            (b"\"\x02hi", "\"hi\""),
            (b"c\x04h\0i\0", "\"hi\""),
            (b"o\"\x01aI\x02\"\x01bT{\x02", "{\"a\": 1, \"b\": true}"),
            (b"A\x02I\x02-$\0\x02", "[1, undefined]"),
            (b";\"\x03annI\x02:\x02", "Map(1) {\"ann\" => 1}"),
            (b"'I\x02I\x04,\x02", "Set(2) {1, 2}"),
            (b"D\0\0\0\0\0\0\0\0", "Date(1970-01-01T00:00:00Z)"),
            (b"Z\x10\x07\0\0\0\0\0\0\0", "7n"),
            (b"R\"\x02a+\x03", "/a+/gi"),
            (b"B\x03abcVB\x01\x02\0", "Uint8Array(Bytes(6263))"),
            (b"rTm\"\x03bad.", "TypeError({\"message\": \"bad\"})"),
            (b"o\"\x01a^\0{\x01", "{\"a\": Reference(0)}"),
        ] {
            assert_eq!(shown(bytes).as_deref(), Some(text), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_serialization_is_refused() {
        let deep = b"A\x01".repeat(10_000);
        for bytes in [&b""[..], b"o", b"A\xFF\xFF\xFF\xFF\x0F", b"I", b"T T", b"!", &deep] {
            assert_eq!(shown(bytes), None, "{} bytes", bytes.len());
        }
        assert!(decode(b"\xFF\x0CT").is_none());
        assert!(!is_likely(b"{}") && is_likely(b"\xFF\x0FT"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = shown(&bytes);
        }

        #[test]
        fn no_tags_make_it_panic(
            text in "[_0TFIUNZ\"cSoAa;'DyxnzsRBV^r.m{}@:,$\\-\\x00-\\x05]{0,80}",
        ) {
            let _ = shown(text.as_bytes());
        }
    }
}
