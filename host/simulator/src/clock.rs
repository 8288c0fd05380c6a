//! The time as the wire shows it. No other file asks for it.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// A moment; on the wire RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Timestamp);

impl Moment {
    /// Now, cut to the millisecond, so that it compares with itself after a trip over the wire.
    pub(crate) fn now() -> Self {
        let now = Timestamp::now();
        Self(Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now))
    }

    /// Reads a filter's time, in full precision and of any offset.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    pub(crate) fn ms_since(self, earlier: Self) -> i64 {
        self.0.as_millisecond() - earlier.0.as_millisecond()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Nanoseconds since the epoch: the stamp that a benchmark compares with its own clock.
pub(crate) fn unix_ns() -> u64 {
    // 64 bits last until the year 2554, and no clock is before 1970.
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_moment_is_shown_with_three_digits_and_read_with_any() {
        let whole = Moment::parse("2026-11-23T10:00:00Z").unwrap();
        assert_eq!(whole.to_string(), "2026-11-23T10:00:00.000Z");
        assert_eq!(Moment::parse("2026-11-23T12:00:00+02:00"), Some(whole));
        assert!(Moment::parse("2026-11-23T10:00:00.0001Z").unwrap() > whole);
        assert!(Moment::parse("yesterday").is_none());
    }

    impl fmt::Debug for Moment {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self, f)
        }
    }
}
