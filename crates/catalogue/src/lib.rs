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

/// Every refusal code of this crate, for the generated list of refusals.
pub fn codes() -> impl Iterator<Item = &'static Code> {
    [report::CODES, scope::CODES, envelope::CODES, log::CODES, index::CODES, hash::CODES]
        .into_iter()
        .flatten()
        .copied()
}
