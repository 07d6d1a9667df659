//! Why a connection failed, in our codes.

use std::io;

use control_plane::Refusal;
use rustls::{CertificateError, Error};

/// The refusal behind a failed handshake, or behind the alert that ended a connection; `None` if it merely broke.
pub fn tls_refusal(error: &io::Error) -> Option<Refusal> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    if let Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return Some(refusal.clone());
    }
    Some(Refusal::new(identity::classify_tls_error(error), error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn our_reasons_survive_the_tls_library() {
        let ours = Refusal::new(&identity::trust::NO_CERTIFICATE, "nothing shown");
        let other = CertificateError::Other(rustls::OtherError(Arc::new(ours.clone())));
        let wrapped = io::Error::other(Error::InvalidCertificate(other));
        assert_eq!(tls_refusal(&wrapped), Some(ours));

        let alert = io::Error::other(Error::AlertReceived(rustls::AlertDescription::CertificateRevoked));
        assert_eq!(tls_refusal(&alert).unwrap().code, &identity::tls_error::PEER_REFUSED_US);
        assert_eq!(tls_refusal(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
