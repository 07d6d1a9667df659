//! The harness of the suites in `tests/`: an authority and connectors as real processes on `[::1]`, the command line
//! as people call it, and callers that do not keep to the rules.
//!
//! Open [`space`] first: [`space::Space`] is one data space in a temporary folder, whose processes end with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a harness fails by panicking, and shows the logs of what it ran"
)]

pub mod chance;
pub mod cheat;
pub mod command;
pub mod connector;
pub mod data;
pub mod flight;
pub mod outsider;
pub mod process;
pub mod reader;
pub mod receiver;
pub mod rpc;
pub mod schemas;
pub mod space;
pub mod stranger;
pub mod wait;
pub mod web;
