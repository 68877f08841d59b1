//! Figures for people: digits in threes, bytes with units, facts, and small pictures.

use std::borrow::Cow;

/// Thick, for names of columns.
pub const BOLD: &str = "\x1B[1m";
/// Green, for what is well.
pub const GREEN: &str = "\x1B[32m";
/// Red, for what is not.
pub const RED: &str = "\x1B[31m";
/// The end of a colour.
pub const PLAIN: &str = "\x1B[0m";
/// What this command steers a terminal with, inside its lines.
const COLOURS: [&str; 4] = [BOLD, GREEN, RED, PLAIN];

/// Whether a character does something to a terminal, or to the order of what stands beside it, and
/// is not just shown.
pub fn steers(it: char) -> bool {
    let reorders = matches!(it, '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}')
        || matches!(it, '\u{2066}'..='\u{2069}');
    reorders || it.is_control() && !matches!(it, '\n' | '\t')
}

/// Text in which all that steers a terminal is written as `write` writes it, but for the colours
/// of this command where it uses any.
pub fn tame(text: &str, is_coloured: bool, write: fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let (mut tame, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(steers) {
        let (before, odd) = rest.split_at(at);
        tame.push_str(before);
        let own = COLOURS.into_iter().find(|colour| is_coloured && odd.starts_with(colour));
        let taken = own.map_or_else(|| odd.chars().next().map_or(0, char::len_utf8), str::len);
        match own {
            Some(colour) => tame.push_str(colour),
            None => odd[..taken].chars().for_each(|it| tame.push_str(&write(it))),
        }
        rest = &odd[taken..];
    }
    tame.push_str(rest);
    Cow::Owned(tame)
}

/// A number with its digits in threes.
pub fn digits(number: u64) -> String {
    let plain = number.to_string();
    let mut grouped = String::with_capacity(plain.len() * 4 / 3);
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes with a unit: `88.1 KiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match UNITS.iter().find(|(_, shift)| number >> shift > 0) {
        None => format!("{number} B"),
        Some((name, shift)) => {
            let tenths = (u128::from(number) * 10) >> shift;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

/// "1 key", "2 keys".
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", digits(number)) }
}

/// Names beside what they stand for.
pub fn facts<V: AsRef<str>>(facts: &[(&str, V)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let lines = facts.iter().map(|(name, value)| format!("{name:<width$}{}", value.as_ref()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Numbers as columns of up to eight eighths.
pub fn sparkline(numbers: &[u64]) -> String {
    let most = numbers.iter().copied().max().unwrap_or(0);
    let column = |number: &u64| {
        if *number == 0 || most == 0 {
            return ' ';
        }
        let eighths = (u128::from(*number) * 8).div_ceil(u128::from(most));
        let code = 0x2580 + u32::try_from(eighths).unwrap_or(8);
        char::from_u32(code).unwrap_or(' ')
    };
    numbers.iter().map(column).collect()
}

/// A share of `most` as a bar of up to `width` characters.
pub fn bar(number: u64, most: u64, width: usize) -> String {
    let eighths = (u128::from(number) * 8 * width as u128).checked_div(u128::from(most));
    let eighths = usize::try_from(eighths.unwrap_or(0)).unwrap_or(0).min(8 * width);
    let mut bar = "\u{2588}".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        let code = 0x2590 - u32::try_from(eighths % 8).unwrap_or(0);
        bar.extend(char::from_u32(code));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(digits), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [1023, 1024, 90_214, u64::MAX].map(bytes)[..3],
            ["1023 B", "1.0 KiB", "88.0 KiB"]
        );
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
        assert_eq!((count(1, "key"), count(2000, "key")), ("1 key".into(), "2,000 keys".into()));
    }

    #[test]
    fn what_steers_a_terminal_is_written_out_and_own_colours_are_not() {
        let written = |text, is_coloured| {
            tame(text, is_coloured, |it| it.escape_default().to_string()).into_owned()
        };
        assert_eq!(written("plain \u{E9}\n\tend", false), "plain \u{E9}\n\tend");
        assert_eq!(written("\x1B]0;x\x07\r\u{9B}1m", true), "\\u{1b}]0;x\\u{7}\\r\\u{9b}1m");
        assert_eq!(written("a\u{202E}b", false), "a\\u{202e}b");
        let coloured = format!("{RED}no\x1B[2J{PLAIN}");
        assert_eq!(written(&coloured, true), format!("{RED}no\\u{{1b}}[2J{PLAIN}"));
        assert_eq!(written(RED, false), "\\u{1b}[31m");
    }

    #[test]
    fn pictures_are_in_proportion() {
        assert_eq!(sparkline(&[0, 1, 4, 8]), " \u{2581}\u{2584}\u{2588}");
        assert_eq!(sparkline(&[0, 0]), "  ");
        assert_eq!(bar(1, 2, 4), "\u{2588}\u{2588}");
        assert_eq!(bar(1, 16, 4), "\u{258E}");
        assert_eq!((bar(5, 0, 4), bar(9, 3, 2)), (String::new(), "\u{2588}\u{2588}".to_owned()));
    }

    #[test]
    fn facts_are_aligned() {
        assert_eq!(facts(&[("a", "1"), ("bcd", "2")]), "a    1\nbcd  2");
    }
}
