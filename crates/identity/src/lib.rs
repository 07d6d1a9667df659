//! Turns certificates and membership statements into participants, and ours into TLS settings; signs and verifies.
//!
//! No sockets: the accept loop and the dialler are elsewhere and ask [`TlsIdentity`] for settings. A peer becomes a
//! [`VerifiedParticipant`] only through [`verify_participant`]; what a participant may do is not known here.

pub mod authority;
pub mod bearer;
pub mod certificate;
pub mod digest;
pub mod error;
mod files;
pub mod jws;
pub mod keys;
pub mod member;
pub mod membership;
#[cfg(any(test, feature = "minting"))]
pub mod minting;
pub mod participant;
mod pem;
pub mod secret;
pub mod statement;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tls_error;
pub mod token;
pub mod trust;

pub use authority::{Authority, Revocation};
pub use certificate::ParticipantCertificate;
pub use digest::Digest;
pub use error::IdentityError;
pub use jws::{CertificateResolver, KnownCertificate, RememberedCertificates, Signer, Typ, Verified};
pub use keys::ConnectorKey;
pub use member::StoredIdentity;
pub use membership::{LegalName, Membership, SecurityProfile};
pub use participant::{KnownSequences, VerifiedParticipant, verify_participant};
pub use rustls::pki_types::CertificateDer;
pub use secret::Secret;
pub use statement::{MinimumSequences, Statement};
pub use tls::{Clock, TlsIdentity};
pub use tls_error::{classify_io_error, classify_tls_error};
pub use token::EnrolmentToken;
pub use trust::{RevocationList, TrustBundle, TrustState};

/// The refusal codes of every module of this crate, for the generated list.
pub const CODES: &[&[&control_plane::Code]] = &[
    authority::CODES,
    bearer::CODES,
    certificate::CODES,
    jws::CODES,
    membership::CODES,
    participant::CODES,
    statement::CODES,
    tls_error::CODES,
    token::CODES,
    trust::CODES,
];
