//! Named crash points: under the cargo feature `crash-points`, and only there, a test makes the process die at one.
//!
//! `FAIRLEAD_CRASH=store.after-commit:3` aborts the process the third time that point is reached.

/// The environment variable that names a point and, after a colon, at which pass to die (1 if left out).
#[cfg(feature = "crash-points")]
const VARIABLE: &str = "FAIRLEAD_CRASH";

/// Does nothing: this build has no crash points.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_name: &'static str) {}

/// Aborts the process if `FAIRLEAD_CRASH` names this point and this is the pass it counts to.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &'static str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        match text.rsplit_once(':') {
            Some((point, pass)) => Some((point.to_owned(), pass.parse().unwrap_or(1))),
            None => Some((text, 1)),
        }
    });
    if let Some((point, pass)) = wanted
        && point == name
        && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
    {
        std::process::abort();
    }
}
