//! Decides what happens next in a negotiation or a transfer; holds the agreement and its signatures as values.
//!
//! Pure: no IO, no clock, no randomness, no async, no wire formats, no X.509.

pub mod ids;

pub use policy::refusal::{Code, Fault, Refusal};
pub use policy::time::UnixMillis;
