//! SHA-256 values as they are exchanged, and the one-pass digests of an object.
//!
//! An object is hashed chunk by chunk; its *digest* is the hash over size and chunk hashes, so that a receiver proves
//! each chunk, and with them the whole, in a single pass over the bytes, from any chunk on.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::manifest::CHUNK_BYTES;

/// Separates object digests from plain hashes of the same bytes.
const OBJECT_DOMAIN: &[u8] = b"fairlead-object/1\n";
const TEXT_PREFIX: &str = "sha-256:";

/// A SHA-256 value; its text is `sha-256:<base64url>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_output(&digest(&SHA256, bytes))
    }

    /// The digest of an object of `size` bytes with these chunk hashes.
    pub fn of_object(size: u64, chunks: &[Self]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(OBJECT_DOMAIN);
        context.update(&size.to_be_bytes());
        for chunk in chunks {
            context.update(&chunk.0);
        }
        Self::from_output(&context.finish())
    }

    /// A value received as 32 raw bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Parses `sha-256:<base64url>` without padding; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let raw = URL_SAFE_NO_PAD.decode(text.strip_prefix(TEXT_PREFIX)?).ok()?;
        Self::from_slice(&raw)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn from_output(output: &aws_lc_rs::digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(output.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{TEXT_PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a `sha-256:<base64url>` digest"))
    }
}

/// What publication computes over an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectDigests {
    pub(crate) size: u64,
    pub(crate) checksum: Digest,
    pub(crate) chunks: Vec<Digest>,
}

/// Hashes an object as it is read: its chunks and, for tools outside, the plain SHA-256.
pub(crate) struct ObjectHasher {
    size: u64,
    whole: Context,
    chunk: Context,
    in_chunk: usize,
    chunks: Vec<Digest>,
}

impl ObjectHasher {
    pub(crate) fn new() -> Self {
        Self {
            size: 0,
            whole: Context::new(&SHA256),
            chunk: Context::new(&SHA256),
            in_chunk: 0,
            chunks: Vec::new(),
        }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES.saturating_sub(self.in_chunk)));
            self.chunk.update(head);
            self.in_chunk = self.in_chunk.saturating_add(head.len());
            bytes = rest;
            if self.in_chunk == CHUNK_BYTES {
                self.end_chunk();
            }
        }
    }

    pub(crate) fn finish(mut self) -> ObjectDigests {
        if self.in_chunk > 0 {
            self.end_chunk();
        }
        ObjectDigests {
            size: self.size,
            checksum: Digest::from_output(&self.whole.finish()),
            chunks: self.chunks,
        }
    }

    fn end_chunk(&mut self) {
        let done = std::mem::replace(&mut self.chunk, Context::new(&SHA256));
        self.chunks.push(Digest::from_output(&done.finish()));
        self.in_chunk = 0;
    }
}

/// Test bytes in which every 4 KiB differ, made without a step for each byte.
#[cfg(test)]
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size.next_multiple_of(4096));
    for block in 0..u32::try_from(size.div_ceil(4096)).unwrap() {
        bytes
            .extend_from_slice(&block.wrapping_mul(2_654_435_761).wrapping_add(7).to_le_bytes().repeat(1024));
    }
    bytes.truncate(size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_form() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        for bad in ["", "sha-256:", "sha-256:AA", "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
        assert_ne!(Digest::of_object(0, &[]), Digest::of(b""));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn pieces_do_not_matter(size in 0_usize..3 * CHUNK_BYTES, piece in 1_usize..CHUNK_BYTES * 2) {
            let bytes = pattern(size);
            let mut hasher = ObjectHasher::new();
            bytes.chunks(piece).for_each(|part| hasher.update(part));
            let naive = ObjectDigests {
                size: size as u64,
                checksum: Digest::of(&bytes),
                chunks: bytes.chunks(CHUNK_BYTES).map(Digest::of).collect(),
            };
            prop_assert_eq!(hasher.finish(), naive);
        }
    }
}
