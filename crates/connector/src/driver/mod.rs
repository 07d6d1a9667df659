//! The driver: the only code that moves a process.
//!
//! Each step is one transaction: load, let the pure machine step, decide what rules decide, store the next state,
//! queue what is to be sent, append to the ledger. Only then does anything leave this process, and after a crash it
//! leaves again under the same message id.

pub mod agreements;
pub mod comparison;
pub mod negotiations;
pub mod notices;
pub mod outbox;
pub mod records;
pub mod transfers;
