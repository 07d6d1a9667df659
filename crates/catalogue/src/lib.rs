//! The shared catalogue: what a dataset's description says, who signed it, in which order, and how it is found.
//!
//! The signed, gap-free [`log`] of envelopes is the truth; the [`index`] is a cache that is rebuilt from it.
//! Pure but for memory: no files, no sockets, no clock, no randomness. Keys and storage come through the traits
//! [`envelope::EnvelopeSigner`], [`envelope::EnvelopeVerifier`], [`log::LogReader`] and [`log::LogStore`].

pub mod description;
pub mod envelope;
pub mod hash;
pub mod index;
pub mod log;
pub mod memory;
pub mod offers;
pub mod report;
pub mod scope;
pub mod text;
pub mod vocabulary;

mod fold;
mod rdf;
mod records;

pub use control_plane::{Code, Fault, Refusal, UnixMillis};

/// Every list of codes that this crate refuses with, for the generated table of refusals.
pub const ALL_CODES: &[&[&Code]] =
    &[report::CODES, scope::CODES, envelope::CODES, log::CODES, index::CODES, hash::CODES];
