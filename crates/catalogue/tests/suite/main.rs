//! The catalogue's tests, over its public interface only.

// Clippy's exemption for tests covers test functions only, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod description;
mod formats;
mod index;
mod log;
mod offers;
mod support;
mod vocabulary;
