//! The HTTPS binding of the Dataspace Protocol 2025-1 as values: JSON to domain messages and back, no logic.
//!
//! Strict in what is written: the compact form, valid under the protocol's schemas ([`conform::check`] says so).
//! Tolerant in what is read: extra members, a bare `@context`, values as `{"@id": …}`. Messages are plain JSON here
//! and never RDF: what they mean must not depend on the place they were fetched from.
//!
//! - [`negotiation`], [`transfer`]: messages, acknowledgements and where each is posted
//! - [`policy`]: offers and agreements between their canonical text and the form that travels
//! - [`names`]: IRIs of ours and bare names of others
//! - [`catalogue`], [`version`], [`error`]: the other documents

pub mod catalogue;
pub mod conform;
pub mod error;
mod json;
pub mod names;
pub mod negotiation;
pub mod policy;
pub mod transfer;
pub mod version;

pub use json::{MALFORMED, message_type, parse};

use control_plane::Code;
use control_plane::pids::Role;

/// The version that is spoken.
pub const VERSION: &str = "2025-1";
/// The only context that is written.
pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";
/// The base path below the root, as the version document tells it.
pub const BASE_PATH: &str = "/dsp/2025-1";
/// Where the version document lies below the root.
pub const VERSION_PATH: &str = "/.well-known/dspace-version";
/// The distribution format of a pull over HTTP.
pub const HTTP_PULL: &str = "HttpData-PULL";
/// The distribution format of a push over HTTP: the provider sends to the `dataAddress` of the request.
pub const HTTP_PUSH: &str = "HttpData-PUSH";

/// Who the other side of a conversation is, and which side we are.
#[derive(Clone, Copy, Debug)]
pub struct Speaking<'a> {
    /// What things are called between the two.
    pub names: &'a names::Names,
    /// Our role in the process.
    pub role: Role,
}

/// Gives the canonical text of a policy that came as JSON: the policy engine behind a small port.
pub trait Canonical {
    /// The RFC 8785 text; or what of the policy is not understood.
    ///
    /// # Errors
    /// The policy engine's refusal.
    fn canonical(&self, policy: &str) -> Result<String, control_plane::Refusal>;
}

/// Every refusal of this crate.
pub const CODES: &[&[&Code]] = &[catalogue::CODES, json::CODES, policy::CODES];

/// `base` with `path` behind it, whether or not `base` ends in a slash.
pub fn below(base: &str, path: &str) -> String {
    format!("{}/{path}", base.trim_end_matches('/'))
}
