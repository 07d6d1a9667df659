//! One durable transaction for process state, outbox, counters, duties and ledger leaf.
//!
//! [`Store`] is a folder's `state.db`. Closures given to [`Store::write`] run one after the other on one writer
//! thread; several share one commit, and each is answered only when that commit is on the disk. Closures given
//! to [`Store::read`] see one consistent state and run beside the writer. The store knows keys, versions, due
//! times and states, never what a row means. First file to open: `engine.rs`.

mod backup;
mod collection;
mod counters;
mod crash;
mod duties;
mod engine;
mod error;
mod ledger_log;
mod outbox;
mod rows;
mod schema;
mod seen;
mod signal;
mod tx;

pub use backup::{BackupReport, check_backup, inspect, restore, revise};
pub use collection::Collection;
pub use counters::Added;
pub use crash::crash_point;
pub use duties::{Duty, DutyState, MAX_NOTE_BYTES, NewDuty};
pub use engine::{MAX_GROUP, MAX_QUEUED_WRITES, Options, Stats, Store};
pub use error::StoreError;
pub use ledger_log::{LedgerAppended, LedgerEntry};
pub use outbox::{MAX_OUTBOX, OutboxEntry, OutboxItem};
pub use rows::{Expect, Row};
pub use seen::Seen;
pub use signal::Signal;
pub use tx::{MAX_KEY_BYTES, MAX_PAGE, MAX_VALUE_BYTES, Snapshot, Tx};
