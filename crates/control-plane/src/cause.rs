//! Why a side suspended or terminated: a code and texts, cut to size and cleaned, since they come from anyone.

use policy::refusal::Refusal;

use crate::ids::printable;

/// The most reasons kept: a person reads no more.
pub const MAX_REASONS: usize = 8;

/// Code and reasons of a suspension or termination (DSP `code`, `reason`).
///
/// Making one never fails: a peer's termination counts even where its explanation is unreadable. Control and
/// bidirectional characters become `?`, long texts are cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    code: String,
    reasons: Vec<String>,
}

impl Cause {
    /// Keeps a cleaned `code` and at most [`MAX_REASONS`] cleaned reasons.
    pub fn new<'a>(code: &str, reasons: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            code: printable(code),
            reasons: reasons.into_iter().take(MAX_REASONS).map(printable).collect(),
        }
    }

    /// The code alone, e.g. of a refusal: what an authenticated peer may learn.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        Self::new(refusal.code.code, [refusal.code.clause])
    }

    /// The code; may be empty.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The reasons, in the sender's order.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, MAX_REASONS};

    #[test]
    fn cleaned_and_bounded() {
        let many = vec!["a\u{202e}b"; MAX_REASONS + 1];
        let cause = Cause::new("x\n", many);
        assert_eq!(cause.code(), "x?");
        assert_eq!(cause.reasons().len(), MAX_REASONS);
        assert_eq!(cause.reasons()[0], "a?b");
        let long = Cause::new(&"y".repeat(10_000), []);
        assert!(long.code().chars().count() < 100);
        assert_eq!(Cause::new(long.code(), []), long, "cleaning is idempotent");
    }
}
