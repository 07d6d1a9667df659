//! Decides what happens next in a negotiation or a transfer; holds the agreement and its signatures as values.
//!
//! Pure: no IO, no clock, no randomness, no async, no wire formats, no X.509. A step takes the stored process
//! and one message or command, and gives the next process and its effects as data. Process, effects and ledger
//! record are to be stored in one transaction, and only then performed.

pub mod agreement;
pub mod cause;
pub mod dedupe;
pub mod digest;
pub mod durable;
pub mod ids;
pub mod negotiation;
pub mod pids;
pub mod record;
pub mod status;
pub mod terms;
pub mod transfer;

pub use policy::refusal::{Code, Fault, Refusal};
pub use policy::refusal_codes;
pub use policy::time::UnixMillis;

/// The refusal codes of every module of this crate, for the generated list.
pub const CODES: &[&[&Code]] = &[
    agreement::CODES,
    dedupe::CODES,
    ids::CODES,
    negotiation::CODES,
    pids::CODES,
    status::CODES,
    terms::CODES,
    transfer::CODES,
    transfer::MESSAGE_CODES,
];
