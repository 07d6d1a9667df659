//! Connections between connectors: accept, dial, exchange identities, close when trust changes.
//!
//! A connection carries nothing but `Exchange` and `GetVersions` until both membership statements were
//! verified; the verdict is kept on the connection and expires with it.

mod cause;
pub mod connection;
pub mod dialer;
pub mod listener;

pub use cause::tls_refusal;
pub use connection::{Connection, Connections, PeerStream};
