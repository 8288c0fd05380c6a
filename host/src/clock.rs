//! The only place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, by the wall clock. For what people see; a timeout uses tokio's monotonic clock.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now as RFC 3339 in UTC with milliseconds, as events carry it.
#[must_use]
pub fn rfc3339() -> String {
    rfc3339_of(unix_ms())
}

/// A time of [`unix_ms`] as RFC 3339; empty for one that is beyond all calendars.
#[must_use]
pub fn rfc3339_of(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// Microseconds since the epoch of an RFC 3339 time; nothing where it is none.
#[must_use]
pub fn parse_us(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond)
}
