//! Checks an export offline: signature, digest, and each record's path to the ledger's head.

use control_plane::Refusal;
use identity::{Digest, TrustBundle};
use ledger::TreeHead;

use super::statement::Statement;
use super::{FILE_ALTERED, MALFORMED_EXPORT, OTHER_LEDGER, OUTSIDE_SCOPE, RECORD_NOT_IN_LEDGER, file};

/// What holds of an export.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verdict {
    /// Whose ledger it is.
    pub participant: String,
    /// Records, each with its path to the head.
    pub records: u64,
    /// The ledger's size.
    pub ledger_size: u64,
    /// The ledger's root.
    pub ledger_root: String,
    /// RFC 3339.
    pub exported: String,
    /// The participant that it was narrowed to; empty for all.
    pub peer: String,
    /// The agreement that it was narrowed to; empty for all.
    pub agreement: String,
    /// RFC 3339, or empty.
    pub from: String,
    /// RFC 3339, or empty.
    pub until: String,
    /// Whether every record of the ledger is there. Where the export is narrowed, or records were erased, nothing shows
    /// that none was left out.
    pub complete: bool,
}

/// Checks `bytes` against the signed statement about them; `known` is a head that the verifier has from elsewhere.
pub fn check(
    bytes: &[u8],
    statement: &str,
    roots: &TrustBundle,
    known: Option<TreeHead>,
) -> Result<Verdict, Refusal> {
    let statement = Statement::read(statement, roots)?;
    let found = Digest::of(bytes);
    if found != statement.digest {
        return Err(Refusal::new(&FILE_ALTERED, format!("signed {}, found {found}", statement.digest)));
    }
    if known.is_some_and(|known| known.size == statement.head.size && known.root != statement.head.root) {
        return Err(Refusal::new(&OTHER_LEDGER, format!("at {} records", statement.head.size)));
    }
    let (mut records, mut last) = (0_u64, None);
    file::read(statement.format, bytes, |evidence| {
        let at = control_plane::UnixMillis(evidence.record.at_millis());
        if last.is_some_and(|last| evidence.index <= last) {
            return Err(Refusal::new(
                &MALFORMED_EXPORT,
                format!("record {} is out of order", evidence.index),
            ));
        }
        last = Some(evidence.index);
        evidence.verify(&statement.head).map_err(|error| {
            Refusal::new(&RECORD_NOT_IN_LEDGER, format!("record {}: {error}", evidence.index))
        })?;
        if !statement.scope.covers(at) {
            return Err(Refusal::new(&OUTSIDE_SCOPE, format!("record {} of {at}", evidence.index)));
        }
        records = records.saturating_add(1);
        Ok(())
    })?;
    if records != statement.records {
        let detail = format!("{records} records, the statement says {}", statement.records);
        return Err(Refusal::new(&MALFORMED_EXPORT, detail));
    }
    let text = |value: Option<String>| value.unwrap_or_default();
    Ok(Verdict {
        participant: statement.participant.to_string(),
        records,
        ledger_size: statement.head.size,
        ledger_root: statement.head.root.to_string(),
        exported: statement.exported.to_string(),
        peer: text(statement.scope.peer.as_ref().map(ToString::to_string)),
        agreement: text(statement.scope.agreement.as_ref().map(ToString::to_string)),
        from: text(statement.scope.from.map(|at| at.to_string())),
        until: text(statement.scope.until.map(|at| at.to_string())),
        complete: statement.scope.is_everything() && records == statement.head.size,
    })
}
