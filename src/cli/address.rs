//! Addresses as people write them: `NS`, `NS/NAME`, `NS/~HEX`, `NS/NAME:KEY`, each with `@TIME`.
//!
//! A byte that would be misread is written as `%` and two hex digits: `%` itself, `:` in a name,
//! `@` anywhere, `~` at the beginning of a name, `/` in a namespace, and what does not print.
//!
//! Invariants:
//!   * What is printed reads back as the same address.

use super::failure::Failure;
use super::figures::steers;
use std::fmt::{self, Write};

/// The forms that an address may have.
pub const FORMS: &str = "an address is NS, NS/NAME, NS/~HEX, NS/NAME:KEY, each with @TIME behind \
                         it if wanted; other bytes are written %XX";

/// Which object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The object with this name.
    Name(String),
    /// The object whose id begins with these hex digits.
    Hex(String),
}

/// What a person points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The namespace.
    pub space: String,
    /// The object; none for all.
    pub who: Option<Who>,
    /// The key; none for all.
    pub key: Option<Vec<u8>>,
    /// The time or bookmark behind the `@`, not yet read.
    pub when: Option<String>,
}

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (place, when) = match text.split_once('@') {
            Some((place, when)) => (place, Some(when.to_owned())),
            None => (text, None),
        };
        let (space, rest) = match place.split_once('/') {
            Some((space, rest)) => (space, Some(rest)),
            None => (place, None),
        };
        let is_bare = rest.is_none() && space.contains(':');
        if space.is_empty() || is_bare || rest == Some("") {
            return Err(Failure::Usage(format!("{text:?} is no address: {FORMS}")));
        }
        let space = text_of(space)?;
        let Some(rest) = rest else { return Ok(Self { space, who: None, key: None, when }) };
        let (name, key) = match rest.split_once(':') {
            Some((name, key)) => (name, Some(unescape(key)?)),
            None => (rest, None),
        };
        let who = match name.strip_prefix('~') {
            Some(hex) => Who::Hex(checked_hex(hex)?),
            None => Who::Name(text_of(name)?),
        };
        Ok(Self { space, who: Some(who), key, when })
    }

    /// Reads an address that must be of an object.
    pub fn of_object(text: &str) -> Result<Self, Failure> {
        let address = Self::parse(text)?;
        if address.who.is_none() || address.key.is_some() {
            let what = format!("{text:?} is not an object: write NS/NAME or NS/~HEX");
            return Err(Failure::Usage(what));
        }
        Ok(address)
    }
}

fn checked_hex(hex: &str) -> Result<String, Failure> {
    let is_right = (1..=64).contains(&hex.len()) && hex.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_right {
        let what = format!("~{hex} is no id: write ~ and its first hex digits, up to 64");
        return Err(Failure::Usage(what));
    }
    Ok(hex.to_ascii_lowercase())
}

fn text_of(escaped: &str) -> Result<String, Failure> {
    String::from_utf8(unescape(escaped)?)
        .map_err(|_| Failure::Usage(format!("{escaped:?} is no name: names are UTF-8")))
}

/// The bytes that an escaped text stands for.
pub fn unescape(escaped: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || {
        let what = format!("a % in {escaped:?} lacks its two hex digits; % itself is written %25");
        Failure::Usage(what)
    };
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(digits[0]), digit(digits[1]));
        let (Some(high), Some(low)) = (high, low) else { return Err(wrong()) };
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| wrong())?);
        rest = behind;
    }
    Ok(bytes)
}

/// Bytes as text that reads back; `special` is escaped beside what always is.
fn escape(bytes: &[u8], special: &[char]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "%{byte:02X}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let is_odd =
                character.is_control() || steers(character) || matches!(character, '%' | '@');
            if is_odd || special.contains(&character) {
                hex(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(character);
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// A namespace's name as an address has it.
pub fn space(name: &str) -> String {
    word(escape(name.as_bytes(), &['/', ':']))
}

/// The same as a word of a command line, where it must not begin as an option does.
pub fn word(escaped: String) -> String {
    match escaped.strip_prefix('-') {
        Some(rest) => format!("%2D{rest}"),
        None => escaped,
    }
}

/// A word as a shell takes it: what it holds was made by others and may be pasted.
pub fn quoted(word: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_./:@%+=,~".contains(it);
    if !word.is_empty() && !word.starts_with('~') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// An object's name as an address has it.
pub fn name(name: &str) -> String {
    match name.strip_prefix('~') {
        Some(rest) => format!("%7E{}", escape(rest.as_bytes(), &[':'])),
        None => escape(name.as_bytes(), &[':']),
    }
}

/// A key as an address has it.
pub fn key(key: &[u8]) -> String {
    escape(key, &[])
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&space(&self.space))?;
        match &self.who {
            Some(Who::Name(text)) => write!(out, "/{}", name(text))?,
            Some(Who::Hex(hex)) => write!(out, "/~{hex}")?,
            None => {}
        }
        if let Some(bytes) = &self.key {
            write!(out, ":{}", key(bytes))?;
        }
        match &self.when {
            Some(when) => write!(out, "@{when}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(["a/b:c@-1h", "1.5"].map(quoted), ["a/b:c@-1h", "1.5"]);
        assert_eq!(["", "~ab", "a b", "$x"].map(quoted), ["''", "'~ab'", "'a b'", "'$x'"]);
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_forms_are_told_apart() {
        let address = read("rooms/a/b:k:l@-15m");
        assert_eq!((&address.space[..], &address.key), ("rooms", &Some(b"k:l".to_vec())));
        assert_eq!(address.who, Some(Who::Name("a/b".to_owned())));
        assert_eq!(address.when.as_deref(), Some("-15m"));
        assert_eq!(read("rooms").who, None);
        assert_eq!(read("rooms/~5F0e").who, Some(Who::Hex("5f0e".to_owned())));
        assert_eq!(read("rooms/%7Ea").who, Some(Who::Name("~a".to_owned())));
        assert_eq!(read("rooms/lobby:").key, Some(Vec::new()));
        assert_eq!(read("r/a:%00%ff@now").key, Some(vec![0, 255]));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_right_form() {
        for text in ["", "/a", "a/", "a:b", "a/~", "a/~xyz", "a/%4", "a/%g0", "a/%FF", "@now"] {
            let failure = Address::parse(text).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            space in "\\PC{1,5}|[/:@%~ab]{1,5}",
            name in "\\PC{1,5}|[/:@%~ab]{1,5}",
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..6)),
        ) {
            let who = Some(Who::Name(name));
            let address = Address { space, who, key, when: Some("now".to_owned()) };
            prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
        }
    }
}
