//! The only place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

pub use lap_model::time::{parse_us, rfc3339_of};

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

/// Seconds from now until a time as HTTP writes it, such as `Wed, 21 Oct 2026 07:28:00 GMT`; 0 for one that has passed,
/// nothing for what is none.
#[must_use]
pub fn seconds_until(http_date: &str) -> Option<u64> {
    let at = jiff::fmt::rfc2822::parse(http_date).ok()?.timestamp().as_second();
    let now = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
    Some(u64::try_from(at.saturating_sub(now)).unwrap_or_default())
}

/// The processor time of this thread, in nanoseconds. It counts nothing that other threads and processes do.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let number = |part: i64| u64::try_from(part).unwrap_or_default();
    number(spent.tv_sec) * 1_000_000_000 + number(spent.tv_nsec)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_so_many_seconds_away() {
        let later = jiff::Timestamp::from_millisecond(i64::try_from(unix_ms()).unwrap() + 3_600_000).unwrap();
        let date = later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!((3598..=3600).contains(&seconds_until(&date).unwrap()), "{date}");
        assert_eq!(seconds_until("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        for text in ["", "soon", "3", "2026-10-21T07:28:00Z", "Wed, 99 Oct 2026 07:28:00 GMT"] {
            assert_eq!(seconds_until(text), None, "{text}");
        }
    }
}
