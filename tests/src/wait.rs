//! The one place that pauses: between two looks at a condition.

use std::time::{Duration, Instant};

/// A condition that is not met within this time never will be: every step of the suites takes a fraction of it, also
/// on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause between two looks; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// What a condition that was met may cost at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is something to see; fails the test after [`PATIENCE`], telling `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Looks until there is something to see, for at most `patience`.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if started.elapsed() > patience {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
