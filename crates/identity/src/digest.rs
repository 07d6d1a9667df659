//! SHA-256 as it is written in everything signed or exchanged, and the base64url that carries it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// A SHA-256 digest; of a certificate's DER bytes it is the certificate's thumbprint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut value = [0; 32];
        for (to, from) in
            value.iter_mut().zip(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
        {
            *to = *from;
        }
        Self(value)
    }

    /// A digest that was computed piece by piece.
    pub const fn from_output(output: [u8; 32]) -> Self {
        Self(output)
    }

    /// Parses `sha-256:<base64url>`, nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_base64url(text.strip_prefix("sha-256:")?)
    }

    /// Parses the bare base64url form of a JWS header's `x5t#S256` (RFC 7515, 4.1.8).
    pub fn from_base64url(text: &str) -> Option<Self> {
        decode_base64url(text)?.try_into().ok().map(Self)
    }

    /// The bare base64url form of a JWS header's `x5t#S256`.
    pub fn to_base64url(self) -> String {
        encode_base64url(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha-256:{}", self.to_base64url())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| "a digest is `sha-256:` and 43 base64url characters".to_owned())
    }
}

pub(crate) fn encode_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict: padding and non-zero trailing bits are refused, so one value has one text.
pub(crate) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_text() {
        let digest = Digest::of(b"abc");
        let text = "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0";
        assert_eq!(digest.to_string(), text, "FIPS 180 vector");
        assert_eq!(Digest::parse(text), Some(digest));
        for bad in [
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0",
            "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa1",
            "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
            "sha-256:ungWv48Bz",
            "sha-512:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0",
        ] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }
}
