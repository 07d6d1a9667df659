//! What the suites share: a store in a folder of its own, and short forms.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of several test binaries")]

use control_plane::UnixMillis;
use ledger::{Record, Salt};
use store::{Options, OutboxItem, Store, StoreError, Tx};
use tempfile::TempDir;

pub const T0: UnixMillis = UnixMillis(1_795_000_000_000);

pub fn at(millis: i64) -> UnixMillis {
    T0.plus_millis(millis)
}

pub fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), Options::default()).unwrap()
}

pub fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    (dir, store)
}

/// A write whose failure is the store's own.
pub fn write<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    store.write_blocking(work)
}

pub fn record(n: i64) -> Record {
    Record::new("use-opened", T0.0 + n, [("agreement", format!("urn:agreement:{}", n % 3))]).unwrap()
}

pub fn salt(n: i64) -> Salt {
    Salt([n as u8; 32])
}

pub fn item<'a>(id: &'a str, lane: &'a str, due: UnixMillis) -> OutboxItem<'a> {
    OutboxItem { id, lane, destination: "https://campus.example/id/um", kind: "message", body: b"{}", due }
}
