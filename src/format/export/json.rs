//! As much JSON as a line of an export needs: one object of texts, numbers, nulls and bytes.
//!
//! Invariants:
//!   * Each byte of a line is looked at once; nothing is nested deeper than bytes in a field.

use crate::format::Malformed;

/// Fields that a line has at most.
const FIELDS_MAX: usize = 12;

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// A whole number.
    Number(u64),
    /// A text.
    Text(String),
    /// Bytes that are no text, or that would be longer as one: `{"hex":"00ff"}`.
    Bytes(Vec<u8>),
}

/// The fields of a line, each to be taken once.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, Value)>);

impl Fields {
    /// The value of a field; none where the line does not have it.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Whether the line has this field still to be taken.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| found == name)
    }

    /// A field that is a number.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Malformed> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(_) => Err(Malformed("a field that should be a number is not")),
        }
    }

    /// A field that is a text or null.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Malformed> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Malformed("a field that should be a text is not")),
        }
    }

    /// A field that is a text.
    pub fn word(&mut self, name: &str) -> Result<Option<String>, Malformed> {
        let is_there = self.has(name);
        match self.text(name)? {
            None if is_there => Err(Malformed("a field that should be a text is null")),
            word => Ok(word),
        }
    }

    /// A field that is a text or bytes.
    pub fn bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Malformed> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.into_bytes())),
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(Malformed("a field that should be bytes is not")),
        }
    }

    /// Whether every field was taken.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a field that does not belong here")) }
    }
}

/// Reads a whole line.
pub fn parse(line: &[u8]) -> Result<Fields, Malformed> {
    let mut parser = Parser { rest: line };
    let mut fields: Vec<(String, Value)> = Vec::new();
    parser.expect(b'{')?;
    if parser.peek() == Some(b'}') {
        parser.expect(b'}')?;
    } else {
        loop {
            let name = parser.text()?;
            parser.expect(b':')?;
            let value = parser.value()?;
            if fields.len() == FIELDS_MAX || fields.iter().any(|(known, _)| *known == name) {
                return Err(Malformed("too many fields, or one of them twice"));
            }
            fields.push((name, value));
            if !parser.goes_on()? {
                break;
            }
        }
    }
    if parser.peek().is_some() {
        return Err(Malformed("something stands behind the line's end"));
    }
    Ok(Fields(fields))
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    /// The next byte that is not white space; stays in front of it.
    fn peek(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek() != Some(wanted) {
            return Err(Malformed("not the JSON object that a line is"));
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// Behind a field: whether there is one more.
    fn goes_on(&mut self) -> Result<bool, Malformed> {
        if self.peek() == Some(b',') {
            self.expect(b',')?;
            return Ok(true);
        }
        self.expect(b'}')?;
        Ok(false)
    }

    fn value(&mut self) -> Result<Value, Malformed> {
        match self.peek() {
            Some(b'"') => self.text().map(Value::Text),
            Some(b'0'..=b'9') => self.number().map(Value::Number),
            Some(b'{') => self.bytes().map(Value::Bytes),
            _ => {
                let rest = self.rest.strip_prefix(b"null");
                self.rest = rest.ok_or(Malformed("neither text, whole number, bytes nor null"))?;
                Ok(Value::Null)
            }
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let is_short = digits == b"0" || digits.first() != Some(&b'0');
        let text = std::str::from_utf8(digits).unwrap_or_default();
        let number = text.parse().ok().filter(|_| is_short);
        number.ok_or(Malformed("a number that is not whole, or too large"))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        self.expect(b'{')?;
        if self.text()? != "hex" {
            return Err(Malformed("bytes are `{\"hex\":\"...\"}`"));
        }
        self.expect(b':')?;
        let digits = self.text()?;
        self.expect(b'}')?;
        from_hex(digits.as_bytes())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let plain =
                self.rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)).count();
            let (taken, rest) = self.rest.split_at(plain);
            text.extend_from_slice(taken);
            match rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return String::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"));
                }
                [b'\\', rest @ ..] => {
                    self.rest = rest;
                    let mut buffer = [0; 4];
                    text.extend_from_slice(self.escaped()?.encode_utf8(&mut buffer).as_bytes());
                }
                _ => return Err(Malformed("a text without its end")),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Result<char, Malformed> {
        let [letter, rest @ ..] = self.rest else { return Err(UNKNOWN_ESCAPE) };
        self.rest = rest;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(*letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err(UNKNOWN_ESCAPE),
        })
    }

    fn unicode(&mut self) -> Result<char, Malformed> {
        let first = self.four_digits()?;
        let code = match first {
            0xD800..0xDC00 => {
                self.rest = self.rest.strip_prefix(b"\\u").ok_or(UNKNOWN_ESCAPE)?;
                let second = self.four_digits()?;
                if !(0xDC00..0xE000).contains(&second) {
                    return Err(UNKNOWN_ESCAPE);
                }
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or(UNKNOWN_ESCAPE)
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let (digits, rest) = self.rest.split_first_chunk::<4>().ok_or(UNKNOWN_ESCAPE)?;
        self.rest = rest;
        digits.iter().try_fold(0, |code, byte| {
            let digit = char::from(*byte).to_digit(16).ok_or(UNKNOWN_ESCAPE)?;
            Ok(code * 16 + digit)
        })
    }
}

const UNKNOWN_ESCAPE: Malformed = Malformed("an escape in a text that JSON does not have");

/// Bytes from their hexadecimal digits, of either case.
pub fn from_hex(digits: &[u8]) -> Result<Vec<u8>, Malformed> {
    const ODD: Malformed = Malformed("not pairs of hexadecimal digits");
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? * 16 + digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<_>>().ok_or(ODD)
}

/// Appends bytes as hexadecimal digits.
pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    out.extend(digits.map(|digit| DIGITS[usize::from(digit)]));
}

/// Bytes that a byte of a text takes in its quotes.
fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 | 0x7F => 6,
        _ => 1,
    }
}

/// Appends a text in its quotes.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7F => {
                out.extend_from_slice(b"\\u00");
                put_hex(out, &[byte]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Appends bytes: as a text where they are one that is no longer than their digits.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let is_short = bytes.iter().map(|byte| escaped_bytes(*byte)).sum::<usize>() <= 2 * bytes.len();
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|_| is_short) {
        return put_text(out, text);
    }
    out.extend_from_slice(b"{\"hex\":\"");
    put_hex(out, bytes);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Option<Value> {
        parse(format!("{{\"a\":{value}}}").as_bytes()).ok()?.take("a")
    }

    #[test]
    fn the_length_of_a_text_is_known_before_it_is_written() {
        for byte in 0..=127_u8 {
            let mut out = Vec::new();
            put_text(&mut out, std::str::from_utf8(&[byte]).unwrap());
            assert_eq!(out.len(), 2 + escaped_bytes(byte), "{byte}");
        }
        let mut out = Vec::new();
        put_bytes(&mut out, &[1; 1_000]);
        assert!(out.starts_with(b"{\"hex\":\"0101"));
        assert!(out.capacity() < 5_000, "as a text it was written first: {}", out.capacity());
    }

    #[test]
    fn values_are_read_as_json_says_and_others_refused() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(one(r#""\"\\\/\b\f\n\r\t""#), text("\"\\/\u{8}\u{c}\n\r\t"));
        assert_eq!(one(r#""\u00e4\uD83D\uDE00""#), text("\u{e4}\u{1F600}"));
        assert_eq!(one("18446744073709551615"), Some(Value::Number(u64::MAX)));
        assert_eq!(one(" null "), Some(Value::Null));
        assert_eq!(one(r#"{ "hex" : "00fF" }"#), Some(Value::Bytes(vec![0, 0xFF])));
        let wrong = [
            "",
            "-1",
            "1.5",
            "01",
            "18446744073709551616",
            "true",
            "[]",
            "{}",
            r#""\x""#,
            r#""a"#,
            r#""\uD83D""#,
            r#""\uDE00""#,
            r#""\uD83Dx""#,
            r#""\u12""#,
            r#"{"hex":"0"}"#,
            "\"\u{1}\"",
            r#"{"hex":"0g"}"#,
            r#"{"bytes":"00"}"#,
            "nul",
            "1,",
            r#"1,"a":2"#,
            "\"\n\"",
        ];
        for value in wrong {
            assert_eq!(one(value), None, "{value}");
        }
        for line in ["", "{", "{}}", "[]", r#"{"a":1}x"#, r#"{"a"}"#, r"{a:1}", r#"{"a":1,}"#] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(b"{\"a\":\"\xFF\"}").is_err());
        let many: Vec<_> = (0..=FIELDS_MAX).map(|field| format!("\"{field}\":1")).collect();
        assert!(parse(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
        assert!(parse(format!("{{{}}}", many[1..].join(",")).as_bytes()).is_ok());
    }
}
