//! Times as events carry them: RFC 3339 in UTC. Nothing here asks what time it is.

/// Milliseconds since the epoch as RFC 3339 with milliseconds; empty for a time that is beyond all calendars.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        assert_eq!(rfc3339_of(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse_us("2023-11-14T22:13:20.123Z"), Some(1_700_000_000_123_000));
        assert_eq!((rfc3339_of(u64::MAX).as_str(), parse_us("soon")), ("", None));
    }
}
