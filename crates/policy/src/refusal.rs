//! Refusals: the one shape in which every part of Fairlead says no.
//!
//! A [`Code`] is a constant that lives beside the check which refuses. A [`Refusal`] is that code plus what it
//! was about. What leaves the process is decided by the audience: strangers learn only `refused`, an
//! authenticated peer learns code and clause, our own operator learns everything.

use std::fmt;

/// Whose move it is after a refusal; each binding maps this, and nothing else, to its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The message, file or argument is wrong: the sender must change it.
    Input,
    /// A policy, agreement or rule of ours says no: repeating it will not help.
    Policy,
    /// The caller is not who it must be.
    Identity,
    /// The step is not allowed in the state the process is in.
    State,
    /// The thing does not exist, or the caller may not know that it does.
    NotFound,
    /// A named bound was hit.
    Limit,
    /// Something needed is down or busy: the same request may succeed later.
    Unavailable,
    /// Our own failure.
    Ours,
}

/// A stable refusal code with its texts; one constant for each reason.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// `area/kebab-case`, never reused for another meaning.
    pub code: &'static str,
    /// Whose move it is.
    pub fault: Fault,
    /// What happened, for people, in English.
    pub en: &'static str,
    /// The same in Traditional Chinese.
    pub zh_hant: &'static str,
    /// The same in Simplified Chinese.
    pub zh_hans: &'static str,
    /// The rule or clause it rests on, e.g. `DSP 2025-1, 7.2` or `foundations: manifest`.
    pub clause: &'static str,
    /// What the reader can do next.
    pub next: &'static str,
}

/// Declares refusal codes and `CODES`, the list of all codes that a module can refuse with.
///
/// `docs/refusals.md` is generated from these lists.
#[macro_export]
macro_rules! refusal_codes {
    ($( $name:ident = $code:literal, $fault:ident, $en:literal, $hant:literal, $hans:literal, clause $clause:literal, next $next:literal; )*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $en)]
            pub const $name: $crate::refusal::Code = $crate::refusal::Code {
                code: $code, fault: $crate::refusal::Fault::$fault, en: $en, zh_hant: $hant, zh_hans: $hans,
                clause: $clause, next: $next,
            };
        )*
        /// Every code that this module refuses with.
        pub const CODES: &[&$crate::refusal::Code] = &[$( &$name ),*];
    };
}

/// A typed no: which code, and about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code and its texts.
    pub code: &'static Code,
    /// The thing and the cause, named (operand, field, id, path); may hold facts of our side.
    pub detail: String,
}

impl Refusal {
    /// Refuses with `code`, naming what it is about.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code.code, self.code.en)?;
        if !self.detail.is_empty() {
            write!(out, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
