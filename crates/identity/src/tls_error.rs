//! Says in our codes why a handshake failed.

use std::io;

use control_plane::{Code, Refusal};
use rustls::{CertificateError, Error};

use crate::certificate::{MALFORMED_CERTIFICATE, WRONG_KEY_USAGE};
use crate::trust::{
    CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID, CERTIFICATE_REVOKED, MALFORMED_REVOCATION_LIST,
    NO_CERTIFICATE, OTHER_AUTHORITY, REVOCATION_LIST_MISSING, REVOCATION_LIST_STALE,
};

policy::refusal_codes! {
    OTHER_PARTICIPANT = "identity/other-participant", Identity,
        "the other end is not the participant that was dialled", "對方並非所撥號的參與者", "对方并非所拨号的参与者",
        clause "security model: who is who", next "check the address in the peer's statement or in the configuration";
    PEER_REFUSED_US = "identity/peer-refused-us", Identity,
        "the other end refused the handshake", "對方拒絕了握手", "对方拒绝了握手",
        clause "RFC 8446, 6.2", next "look into the other end's log; check our certificate, its dates and the lists";
    TLS_INCOMPATIBLE = "identity/tls-incompatible", Identity,
        "the other end speaks no TLS 1.3 with a cipher suite and group of ours",
        "對方不支援具共同加密套件及群組的 TLS 1.3", "对方不支持具共同加密套件及群组的 TLS 1.3",
        clause "RFC 8446", next "connect with a connector of this data space";
    TLS_FAILED = "identity/tls-failed", Identity,
        "the TLS handshake failed", "TLS 握手失敗", "TLS 握手失败",
        clause "RFC 8446", next "check that a connector listens at that address and nothing on the way changes the bytes";
}

/// The code for a failed handshake.
pub fn classify_tls_error(error: &Error) -> &'static Code {
    match error {
        Error::NoCertificatesPresented => &NO_CERTIFICATE,
        Error::InvalidCertificate(reason) => classify_certificate_error(reason),
        Error::InvalidCertRevocationList(_) => &MALFORMED_REVOCATION_LIST,
        Error::AlertReceived(_) => &PEER_REFUSED_US,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol | Error::UnsupportedNameType => {
            &TLS_INCOMPATIBLE
        }
        // The rest is non-exhaustive in rustls: broken or hostile bytes, or a failure of the library.
        _ => &TLS_FAILED,
    }
}

/// The code for a failed handshake as tokio-rustls reports it; `None` if the connection merely broke.
pub fn classify_io_error(error: &io::Error) -> Option<&'static Code> {
    error.get_ref()?.downcast_ref::<Error>().map(classify_tls_error)
}

/// The refusal for a failed handshake, with its cause.
pub(crate) fn refusal_of(error: &Error) -> Refusal {
    if let Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return refusal.clone();
    }
    Refusal::new(classify_tls_error(error), error.to_string())
}

fn classify_certificate_error(reason: &CertificateError) -> &'static Code {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => &CERTIFICATE_EXPIRED,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            &CERTIFICATE_NOT_YET_VALID
        }
        CertificateError::Revoked => &CERTIFICATE_REVOKED,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => &OTHER_AUTHORITY,
        CertificateError::UnknownRevocationStatus => &REVOCATION_LIST_MISSING,
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            &REVOCATION_LIST_STALE
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => &WRONG_KEY_USAGE,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            &OTHER_PARTICIPANT
        }
        CertificateError::Other(other) => {
            other.0.downcast_ref::<Refusal>().map_or(&OTHER_AUTHORITY, |ours| ours.code)
        }
        // Bad encoding, unknown critical extensions, algorithms outside the list; non-exhaustive in rustls.
        _ => &MALFORMED_CERTIFICATE,
    }
}
