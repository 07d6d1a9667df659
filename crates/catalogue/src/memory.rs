//! A [`LogStore`] in memory, for tests and for a catalogue that is only looked at.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;

use crate::log::{LogReader, LogStore, LogTable};

/// A log in memory; clones are independent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryLog(BTreeMap<(LogTable, String), Vec<u8>>);

impl LogReader for MemoryLog {
    type Error = Infallible;

    fn get(&self, table: LogTable, key: &str) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.0.get(&(table, key.to_owned())).cloned())
    }

    fn scan(
        &self,
        table: LogTable,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Infallible> {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let rows = self.0.range((from.map(|key| (table, key.to_owned())), Bound::Unbounded));
        Ok(rows
            .take_while(|((held, key), _)| *held == table && key.starts_with(prefix))
            .filter(|((_, key), _)| key.as_str() > after)
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}

impl LogStore for MemoryLog {
    fn put(&mut self, table: LogTable, key: &str, value: &[u8]) -> Result<(), Infallible> {
        self.0.insert((table, key.to_owned()), value.to_vec());
        Ok(())
    }
}
