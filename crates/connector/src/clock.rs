//! The witness of time: wall clock and monotone clock side by side, and what happens when they part.
//!
//! Everything that decides takes an instant as an argument; this is the only place that reads one. A wall clock
//! that went back behind the last recorded instant, or that jumped ahead of the monotone clock, stops use: dates,
//! deadlines and counts cannot be trusted until somebody has looked.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use control_plane::{Refusal, UnixMillis};

control_plane::refusal_codes! {
    WENT_BACK = "clock/went-back", Unavailable,
        "the clock stands behind an instant that was already recorded",
        "時鐘落後於已記錄的時刻", "时钟落后于已记录的时刻",
        clause "security model: what decides", next "correct the clock; use goes on once it has passed the recorded instant";
    JUMPED_AHEAD = "clock/jumped-ahead", Unavailable,
        "the clock jumped ahead of the time that has really passed",
        "時鐘跳到實際經過時間之前", "时钟跳到实际经过时间之前",
        clause "security model: what decides", next "correct the clock, or restart the connector if the jump was a correction";
}

/// A clock may be corrected by this much without anybody noticing.
pub const MAX_BEHIND_MS: i64 = 2_000;

/// A jump ahead of more than this, against the monotone clock, is no ordinary correction.
pub const MAX_AHEAD_MS: i64 = 120_000;

/// Wall and monotone clock of this process.
pub struct Clock {
    started: Instant,
    started_wall: UnixMillis,
    latest: AtomicI64,
}

impl Clock {
    /// Starts the witness; `recorded` is the latest instant that the store knows.
    pub fn start(recorded: Option<UnixMillis>) -> Self {
        let wall = wall_now();
        let latest = recorded.map_or(wall.0, |recorded| recorded.0);
        Self { started: Instant::now(), started_wall: wall, latest: AtomicI64::new(latest) }
    }

    /// The wall clock, for records and messages.
    pub fn now(&self) -> UnixMillis {
        let now = wall_now();
        self.latest.fetch_max(now.0, Ordering::Relaxed);
        now
    }

    /// The wall clock for a decision about use: refused while it cannot be trusted.
    pub fn trusted_now(&self) -> Result<UnixMillis, Refusal> {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        judge(
            wall_now(),
            UnixMillis(self.latest.load(Ordering::Relaxed)),
            self.started_wall.plus_millis(passed),
        )?;
        Ok(self.now())
    }
}

/// Compares the wall clock with the latest recorded instant and with what the monotone clock expects.
fn judge(wall: UnixMillis, latest: UnixMillis, expected: UnixMillis) -> Result<(), Refusal> {
    if latest.millis_since(wall) > MAX_BEHIND_MS {
        return Err(Refusal::new(&WENT_BACK, format!("clock {wall}, recorded {latest}")));
    }
    if wall.millis_since(expected) > MAX_AHEAD_MS {
        return Err(Refusal::new(&JUMPED_AHEAD, format!("clock {wall}, expected {expected}")));
    }
    Ok(())
}

fn wall_now() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)).plus_millis(ahead_ms())
}

/// Nothing: this build has no test clock.
#[cfg(not(feature = "test-clock"))]
const fn ahead_ms() -> i64 {
    0
}

/// How far this process's clock goes ahead: a test that needs another day waits for none.
#[cfg(feature = "test-clock")]
fn ahead_ms() -> i64 {
    static AHEAD: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *AHEAD.get_or_init(|| {
        let told = std::env::var("FAIRLEAD_CLOCK_AHEAD_MS").ok();
        told.and_then(|told| told.parse().ok()).unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judgement() {
        let check = |wall: i64, latest: i64, expected: i64, code: Option<&str>| {
            let got = judge(UnixMillis(wall), UnixMillis(latest), UnixMillis(expected));
            assert_eq!(got.err().map(|refusal| refusal.code.code), code, "{wall} {latest} {expected}");
        };
        check(10_000, 10_000, 10_000, None);
        check(8_000, 10_000, 10_000, None);
        check(7_999, 10_000, 10_000, Some("clock/went-back"));
        check(130_000, 10_000, 10_000, None);
        check(130_001, 10_000, 10_000, Some("clock/jumped-ahead"));
    }
}
