//! The data space's authority as a service and a command, and what a connector asks of it.
//!
//! [`server`] and [`cli`] work on one directory (`identity::Authority` locks it for each step), so commands take
//! effect in a running service. [`client`] is the members' side.

pub mod cli;
pub mod client;
pub mod server;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The largest request that the authority reads: a certificate request takes 200 bytes, a secret 43.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The largest answer of the authority: the lists of root and issuing authority (2 MiB each at most), and the
/// signed minimum sequences.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The file that says what the data space is called.
const DATA_SPACE_FILE: &str = "data-space.json";

/// The version of [`DataSpace`] that is written.
const VERSION: u32 = 1;

/// What people call the data space; the durable form. Nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DataSpace {
    name: String,
    version: u32,
}

impl DataSpace {
    fn save(dir: &Path, name: &str) -> Result<(), Error> {
        let text =
            serde_jcs::to_string(&Self { name: name.to_owned(), version: VERSION }).map_err(Error::ours)?;
        std::fs::write(dir.join(DATA_SPACE_FILE), text).map_err(Error::ours)
    }
}
