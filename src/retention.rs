//! How long history is kept.

use std::time::Duration;

/// How long the history of a namespace is kept.
///
/// Once it is older than `age`, or takes more than `bytes`, whole files of it go, the oldest first.
/// So some of it stays for longer: what shares a file with what is younger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Not at all: only the present can be read.
    Off,
    /// For a time, and up to a size.
    Keep {
        /// How far back every moment can be read. Counted in whole seconds.
        age: Duration,
        /// Bytes of files that it may take, if there is such a bound: one of which all but the
        /// file being written to is held to, whatever the age.
        bytes: Option<u64>,
    },
}

impl Retention {
    /// For so many days, whatever it takes; more than there can be are for ever.
    #[must_use]
    pub const fn days(days: u64) -> Self {
        Self::Keep { age: Duration::from_secs(days.saturating_mul(24 * 60 * 60)), bytes: None }
    }

    /// Whether history is kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }
}

impl Default for Retention {
    /// 30 days.
    fn default() -> Self {
        Self::days(30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_days_is_too_many() {
        let age = |days| match Retention::days(days) {
            Retention::Keep { age, bytes: None } => age.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([age(0), age(2)], [0, 172_800]);
        assert_eq!([age(213_503_982_334_602), age(u64::MAX)], [u64::MAX; 2]);
    }
}
