//! What the store can fail with; what it means to a peer is the caller's to say.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Collection, DutyState};

/// Why a store call did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the folder.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The database engine failed.
    #[error("database: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine is too old to be trusted with a write-ahead log.
    #[error("SQLite {0} can corrupt a write-ahead log; 3.51.3 or newer is needed")]
    OldEngine(String),
    /// The file is not one of ours.
    #[error("{0} is not a Fairlead state database")]
    NotOurs(PathBuf),
    /// The file was written by a newer release.
    #[error("the database has schema {found}, this release knows up to {known}")]
    NewerSchema {
        /// The schema number in the file.
        found: i64,
        /// The highest number known here.
        known: i64,
    },
    /// The database contradicts itself.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Somebody else changed the row first: read again and decide again.
    #[error("{collection} `{key}` has version {found:?}, not {expected:?}")]
    VersionConflict {
        /// The row's collection.
        collection: Collection,
        /// The row's key.
        key: String,
        /// What the caller had read; `None` is "no row".
        expected: Option<u64>,
        /// What is there; `None` is "no row".
        found: Option<u64>,
    },
    /// An id that already names something else.
    #[error("{what} id `{id}` already names something else")]
    IdReused {
        /// Which table.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// Nothing has this id.
    #[error("no {what} `{id}`")]
    Missing {
        /// Which table.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A duty cannot go from its state to the one asked for.
    #[error("duty `{id}` is {from}, it cannot become {to}")]
    DutyState {
        /// The duty.
        id: String,
        /// Its state.
        from: DutyState,
        /// The state asked for.
        to: DutyState,
    },
    /// A named bound was hit.
    #[error("{what} is beyond the bound of {limit}")]
    Limit {
        /// What is too long, too large or too many.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The ledger refused a record or a range.
    #[error(transparent)]
    Ledger(#[from] ledger::LedgerError),
    /// The group's commit failed; nothing of it is stored.
    #[error("commit failed: {0}")]
    CommitFailed(Arc<str>),
    /// An earlier commit failed in a way that leaves the disk's content in doubt: writing stops until a restart.
    #[error("writing stopped after a failed commit: {0}")]
    Broken(Arc<str>),
    /// The caller's closure panicked; its changes are undone.
    #[error("a transaction panicked and was undone")]
    Panicked,
    /// A store call from inside a transaction would wait for itself.
    #[error("a store call from inside a transaction")]
    Nested,
    /// Readers kept the log busy; the same call may succeed later.
    #[error("the write-ahead log is in use")]
    Busy,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

/// Names the file operation that failed.
pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StoreError {
    let what = what.into();
    move |source| StoreError::Io { what, source }
}
