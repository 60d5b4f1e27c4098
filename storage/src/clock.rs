//! Arrival times.

use std::time::{SystemTime, UNIX_EPOCH};

/// The present moment in microseconds since 1970 UTC, but never before `last`: arrivals do not go
/// backwards when the system's clock does.
pub(crate) fn now_us(last: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX));
    now.max(last)
}
