//! Says whether an action is permitted, why, until when and with which duties, from values alone.
//!
//! Pure: no IO, no clock, no randomness. Facts, including the current time, are arguments.

pub mod refusal;
pub mod time;
