//! What a step leaves in the ledger: plain names and texts, so that the ledger need not know our types.

use std::collections::BTreeMap;

use policy::time::UnixMillis;

/// One ledger event as data; to be appended in the transaction that stores the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What happened: `negotiation-state`, `negotiation-divergence`, `transfer-state` or `transfer-divergence`.
    pub kind: &'static str,
    /// When we decided it, by our clock.
    pub at: UnixMillis,
    /// Names and values; a name that does not apply is absent.
    pub fields: BTreeMap<&'static str, String>,
}

impl Record {
    pub(crate) fn new(kind: &'static str, at: UnixMillis) -> Self {
        Self { kind, at, fields: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.fields.insert(name, value.to_string());
        self
    }

    pub(crate) fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}
