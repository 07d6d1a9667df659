//! PEM texts of certificates and keys (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// RFC 7468, 2: generators wrap at 64 characters.
const LINE_CHARS: usize = 64;

pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut body = STANDARD.encode(der);
    while !body.is_empty() {
        let rest = body.split_off(body.len().min(LINE_CHARS));
        text.push_str(&body);
        text.push('\n');
        zeroize::Zeroize::zeroize(&mut body);
        body = rest;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Every certificate of a PEM text, in order; other sections are skipped, a damaged one refuses the whole.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}
