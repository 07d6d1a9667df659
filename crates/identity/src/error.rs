//! What can go wrong on our side: files, keys, cryptography. What is wrong with a peer is a `Refusal`.

use std::io;
use std::path::{Path, PathBuf};

use control_plane::Refusal;

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system refused a file operation.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// What was being done, e.g. `write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file of ours cannot be read: damaged, or written by another version.
    #[error("`{path}` is not a readable file of this version: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A key file that others on this machine may read.
    #[error("`{path}` has mode {mode:o}; a key file must be 0600")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory holds an authority already; a second root would orphan every member.
    #[error("`{0}` already holds an authority")]
    AuthorityExists(PathBuf),
    /// The root key was moved away and is needed for this step.
    #[error("the root key `{0}` is not here; bring it back to issue the root's revocation list")]
    RootOffline(PathBuf),
    /// A key or certificate of ours does not fit, or the cryptographic library failed.
    #[error("{doing} failed: {reason}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
        /// The library's reason.
        reason: String,
    },
    /// A typed no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl IdentityError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn crypto<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |reason| Self::Crypto { doing, reason: reason.to_string() }
    }

    pub(crate) fn format(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Format { path: path.to_owned(), reason: reason.to_string() }
    }

    /// The refusal inside, if this is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Io { .. }
            | Self::Format { .. }
            | Self::Exposed { .. }
            | Self::AuthorityExists(_)
            | Self::RootOffline(_)
            | Self::Crypto { .. } => None,
        }
    }
}
