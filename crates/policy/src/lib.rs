//! Says whether an action is permitted, why, until when and with which duties, from values alone.
//!
//! Pure: no IO, no clock, no randomness. Facts, including the current time, are arguments.

mod canonical;
mod decide;
mod duty;
mod facts;
mod ir;
mod json;
mod model;
mod node;
mod policy;
mod problem;
mod profile;
mod rdf;
mod read;
mod read_atom;
pub mod refusal;
pub mod time;
mod value;
pub mod vocab;

pub use decide::{Decision, Outcome};
pub use duty::{Anchor, Anchors, Deadline, Duty, DutyRole};
pub use facts::{DutyState, Facts, Request};
pub use model::{Conflict, Kind, RuleKind};
pub use node::MAX_TEXT_BYTES;
pub use policy::{Policy, Unenforceable};
pub use problem::{Position, Problem, Problems};
pub use profile::{Enforcement, Lang, Phase, Profiles, Source, Stage};
pub use value::{Decimal, Symbol, Value};

/// Every refusal code of this crate, for the generated list of refusals.
pub fn codes() -> impl Iterator<Item = &'static refusal::Code> {
    [problem::CODES, profile::CODES, decide::CODES, policy::CODES].into_iter().flatten().copied()
}
