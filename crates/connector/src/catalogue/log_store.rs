//! The catalogue's log in the store: which table lies where, read in a snapshot and written in a transaction.

use catalogue::log::{LogError, LogReader, LogStore, LogTable};
use store::{Collection, Expect, Snapshot, StoreError, Tx};

use crate::error::Error;

/// The log as one consistent state of the store.
pub(super) struct SnapshotLog<'a, 's>(pub &'a Snapshot<'s>);

/// The log within one transaction of the store.
pub(super) struct TxLog<'a, 's>(pub &'a Tx<'s>);

impl LogReader for SnapshotLog<'_, '_> {
    type Error = StoreError;

    fn get(&self, table: LogTable, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (collection, prefix) = place(table);
        Ok(self.0.get(collection, &format!("{prefix}{key}"))?.map(|row| row.value))
    }

    fn scan(
        &self,
        table: LogTable,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (collection, ours) = place(table);
        let after = (!after.is_empty()).then(|| format!("{ours}{after}"));
        let rows = self.0.scan(collection, &format!("{ours}{prefix}"), after.as_deref(), limit)?;
        let without = |key: &str| key.strip_prefix(ours).unwrap_or(key).to_owned();
        Ok(rows.into_iter().map(|row| (without(&row.key), row.value)).collect())
    }
}

impl LogReader for TxLog<'_, '_> {
    type Error = StoreError;

    fn get(&self, table: LogTable, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        SnapshotLog(self.0).get(table, key)
    }

    fn scan(
        &self,
        table: LogTable,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        SnapshotLog(self.0).scan(table, prefix, after, limit)
    }
}

impl LogStore for TxLog<'_, '_> {
    fn put(&mut self, table: LogTable, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let (collection, prefix) = place(table);
        self.0.put(collection, &format!("{prefix}{key}"), value, Expect::Any)?;
        Ok(())
    }
}

/// The collection of a table, and what its keys begin with there: heads and entries change together, so they share
/// one collection.
const fn place(table: LogTable) -> (Collection, &'static str) {
    match table {
        LogTable::Envelopes => (Collection::CatalogueEnvelopes, ""),
        LogTable::Heads => (Collection::CatalogueHeads, "head "),
        LogTable::Entries => (Collection::CatalogueHeads, "dataset "),
        LogTable::Evidence => (Collection::CatalogueForks, ""),
    }
}

/// The log's failure as ours.
pub(super) fn log_error(error: LogError<StoreError>) -> Error {
    match error {
        LogError::Refused(refusal) => refusal.into(),
        LogError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Options, Store};

    #[test]
    fn tables_are_apart_and_scanned_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let rows = [
            (LogTable::Heads, "https://a.example/", "head a"),
            (LogTable::Heads, "https://b.example/", "head b"),
            (LogTable::Entries, "https://a.example/ https://a.example/1", "entry 1"),
            (LogTable::Entries, "https://a.example/ https://a.example/2", "entry 2"),
            (LogTable::Entries, "https://b.example/ https://b.example/1", "entry 3"),
            (LogTable::Envelopes, "https://a.example/ 0000000001 00000000000000000001", "envelope"),
            (LogTable::Evidence, "https://a.example/ 0000000001 00000000000000000001 x", "evidence"),
        ];
        store
            .write_blocking(move |tx| {
                let mut log = TxLog(tx);
                rows.iter().try_for_each(|(table, key, value)| log.put(*table, key, value.as_bytes()))
            })
            .unwrap();
        let check = |table: LogTable, prefix: &str, after: &str, limit: usize, expected: &[&str]| {
            let (prefix, after) = (prefix.to_owned(), after.to_owned());
            let found = store
                .read_blocking(move |snapshot| SnapshotLog(snapshot).scan(table, &prefix, &after, limit))
                .unwrap();
            let values: Vec<String> =
                found.iter().map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect();
            assert_eq!(values, expected, "{table:?}");
            assert!(
                found.iter().all(|(key, _)| key.starts_with("https://")),
                "keys come back as they were put"
            );
        };
        check(LogTable::Heads, "", "", 10, &["head a", "head b"]);
        check(LogTable::Heads, "", "https://a.example/", 10, &["head b"]);
        check(LogTable::Entries, "https://a.example/ ", "", 10, &["entry 1", "entry 2"]);
        check(
            LogTable::Entries,
            "https://a.example/ ",
            "https://a.example/ https://a.example/1",
            10,
            &["entry 2"],
        );
        check(LogTable::Entries, "", "", 2, &["entry 1", "entry 2"]);
        check(LogTable::Envelopes, "", "", 10, &["envelope"]);
        check(LogTable::Evidence, "", "", 10, &["evidence"]);
        store
            .read_blocking(|snapshot| {
                let log = SnapshotLog(snapshot);
                assert_eq!(
                    log.get(LogTable::Heads, "https://a.example/")?.as_deref(),
                    Some(b"head a".as_slice())
                );
                assert_eq!(log.get(LogTable::Entries, "https://a.example/")?, None);
                Ok::<_, StoreError>(())
            })
            .unwrap();
    }
}
