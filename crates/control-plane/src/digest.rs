//! SHA-256 as it stands in everything signed or exchanged: `sha-256:<base64url>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha-256:";
const SHA256_BYTES: usize = 32;

/// The SHA-256 of some bytes, written `sha-256:<base64url without padding>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(Sha256::digest(bytes))))
    }

    /// Hashes a list of texts so that no two lists share a hash: each text after its length, 8 bytes big-endian.
    pub(crate) fn of_fields(fields: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field.as_bytes());
        }
        Self::of(&bytes)
    }

    /// Reads a digest's text; `None` unless it is exactly the form that [`Digest::of`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        (bytes.len() == SHA256_BYTES).then(|| Self(text.to_owned()))
    }

    /// The digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn known_answer_and_form() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.as_str(), "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert_eq!(Digest::parse(digest.as_str()), Some(digest));
        for bad in ["", "sha-256:", "sha-256:AAAA", "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}
