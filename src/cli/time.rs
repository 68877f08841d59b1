//! Times: as people write them, and as they read them.
//!
//! Invariants:
//!   * A time without a zone is one of the zone in which times are shown.

use super::failure::Failure;
use crate::bookmark::Bookmark;
use crate::ids::{Lsn, Timestamp};
use jiff::Zoned;
use jiff::tz::TimeZone;

/// The forms that a moment may have.
pub const FORMS: &str = "a time is 2026-11-21T14:00:00Z, -15m, 'yesterday 14:00', now, or a \
                         bookmark as `dostore history` shows it";

/// A moment that a person names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// By a whole bookmark.
    Bookmark(Bookmark),
    /// By the LSN of a bookmark, whose first two parts say it.
    Commit(Lsn),
    /// By the clock.
    Time(Timestamp),
}

/// What makes times readable: the present one, and the zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// The present time.
    pub now: Timestamp,
    /// The zone of times without one.
    pub zone: TimeZone,
}

impl Calendar {
    /// Reads a moment.
    pub fn read(&self, text: &str) -> Result<When, Failure> {
        let text = text.trim();
        if let Ok(bookmark) = text.parse() {
            return Ok(When::Bookmark(bookmark));
        }
        if let Some(lsn) = short_bookmark(text) {
            return Ok(When::Commit(lsn));
        }
        let wrong = || Failure::Usage(format!("{text:?} is no time: {FORMS}"));
        let zoned = match text.strip_prefix('-') {
            Some(span) => self.back(span),
            None => self.absolute(text),
        };
        let micros = zoned.ok_or_else(wrong)?.timestamp().as_microsecond();
        // Times before 1970 are before every commit.
        Ok(When::Time(Timestamp(u64::try_from(micros).unwrap_or(0))))
    }

    fn now(&self) -> Option<Zoned> {
        zoned(self.now, &self.zone)
    }

    /// A span before now, as `15m` or `2d 3h`.
    fn back(&self, span: &str) -> Option<Zoned> {
        let now = self.now()?;
        let span: jiff::Span = span.parse().ok()?;
        let is_right = span.signum() >= 0;
        let then = now.checked_sub(span).ok()?;
        is_right.then_some(then)
    }

    fn absolute(&self, text: &str) -> Option<Zoned> {
        let now = self.now()?;
        if text == "now" {
            return Some(now);
        }
        // One word of a few letters, or a few digits, would be read as a zone or an hour.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        if text.len() < 5 || is_number && text.len() < 8 {
            return None;
        }
        parse_datetime::parse_datetime_at_date(now, text).ok()?.into_zoned()
    }

    /// A time in full.
    pub fn show(&self, at: Timestamp) -> String {
        zoned(at, &self.zone).map_or_else(|| format!("{} us", at.0), |at| full(&at))
    }

    /// How long ago, or how far ahead, a time is: `3 s ago`, `in 57 s`.
    pub fn distance(&self, at: Timestamp) -> String {
        match at.0.checked_sub(self.now.0) {
            None => format!("{} ago", length(self.now.0 - at.0)),
            Some(0) => "now".to_owned(),
            Some(ahead) => format!("in {}", length(ahead)),
        }
    }
}

/// A span of time in microseconds, as `500ms` or `1m 30s`.
pub fn span(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::Usage(format!("{text:?} is no span of time: write 500ms, 2s or 1m"));
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    u64::try_from(span.as_micros()).map_err(|_| wrong())
}

/// The LSN that the first two parts of a bookmark say.
fn short_bookmark(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('-')?;
    let part = |part: &str| {
        let is_right = part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_right.then(|| u64::from_str_radix(part, 16).ok()).flatten()
    };
    Some(Lsn(part(high)? << 32 | part(low)?))
}

/// An LSN as the first two parts of a bookmark.
pub fn short(lsn: Lsn) -> String {
    lsn.short()
}

fn zoned(at: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let micros = i64::try_from(at.0).ok()?;
    Some(jiff::Timestamp::from_microsecond(micros).ok()?.to_zoned(zone.clone()))
}

fn full(at: &Zoned) -> String {
    let form =
        if at.offset().is_zero() { "%Y-%m-%d %H:%M:%S%.3fZ" } else { "%Y-%m-%d %H:%M:%S%.3f%:z" };
    at.strftime(form).to_string()
}

/// A time as programs read it: RFC 3339 in UTC. None for zero, which stands for no time.
pub fn machine(at: Timestamp) -> Option<String> {
    let micros = i64::try_from(at.0).ok().filter(|micros| *micros != 0)?;
    jiff::Timestamp::from_microsecond(micros).ok().map(|at| at.to_string())
}

/// A length of time in its two greatest units at most.
pub fn length(micros: u64) -> String {
    const SECOND: u64 = 1_000_000;
    const UNITS: [(&str, u64); 4] =
        [("d", 86_400 * SECOND), ("h", 3_600 * SECOND), ("m", 60 * SECOND), ("s", SECOND)];
    let Some(at) = UNITS.iter().position(|(_, unit)| micros >= *unit) else {
        return format!("{} ms", micros / 1000);
    };
    let (name, unit) = UNITS[at];
    let first = format!("{} {name}", micros / unit);
    match UNITS.get(at + 1) {
        Some((lesser, part)) if micros / unit < 10 && micros % unit / part > 0 => {
            format!("{first} {} {lesser}", micros % unit / part)
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;

    /// 2026-11-21 03:12:14 UTC, a Saturday.
    fn calendar() -> Calendar {
        Calendar { now: Timestamp(1_795_230_734_000_000), zone: TimeZone::UTC }
    }

    fn read(text: &str) -> Option<When> {
        calendar().read(text).ok()
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = calendar().now.0;
        let shown = |text: &str| match read(text) {
            Some(When::Time(at)) => calendar().show(at),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(shown("now"), "2026-11-21 03:12:14.000Z");
        assert_eq!(shown("2026-11-20T14:00:00Z"), "2026-11-20 14:00:00.000Z");
        assert_eq!(shown("2026-11-20T14:00:00.5+02:00"), "2026-11-20 12:00:00.500Z");
        assert_eq!(shown("2026-11-20"), "2026-11-20 00:00:00.000Z");
        assert_eq!(shown("yesterday 14:00"), "2026-11-20 14:00:00.000Z");
        assert_eq!(shown("2 hours ago"), "2026-11-21 01:12:14.000Z");
        for (text, micros) in [("-15m", HOUR / 4), ("-2d", 48 * HOUR), ("-1h 30m", HOUR * 3 / 2)] {
            assert_eq!(read(text), Some(When::Time(Timestamp(now - micros))), "{text}");
        }
    }

    #[test]
    fn bookmarks_are_read_whole_and_short() {
        let whole = "00000000-01000007-00000001-0c3e87bb37b3db5cc52eedb93cd3b96b";
        assert_eq!(read(whole), Some(When::Bookmark(whole.parse().unwrap())));
        let lsn = Lsn(0x0001_0000_0007);
        assert_eq!(read("00000001-00000007"), Some(When::Commit(lsn)));
        assert_eq!(short(lsn), "00000001-00000007");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "-", "--5m", "-x", "z", "12", "never ever", "0000-1", "-15 parsecs"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn distances_name_the_two_greatest_units() {
        let at = |micros| calendar().distance(Timestamp(micros));
        let now = calendar().now.0;
        assert_eq!(at(now), "now");
        assert_eq!(at(now - 3_000_000), "3 s ago");
        assert_eq!(at(now + 57_000_000), "in 57 s");
        assert_eq!(at(now - HOUR * 26), "1 d 2 h ago");
        assert_eq!(at(now - HOUR * 24 * 31), "31 d ago");
        assert_eq!(at(now - 90_000_000), "1 m 30 s ago");
        assert_eq!(length(1_500), "1 ms");
        assert_eq!((span("500ms").ok(), span("1m 30s").ok()), (Some(500_000), Some(90_000_000)));
        assert!(span("-1s").is_err() && span("soon").is_err());
    }
}
