//! Which copies of our data others hold, under which agreement, and which of their duties are late: as their signed
//! notices and receipts tell it.

use control_plane::ids::ParticipantId;
use control_plane::pids::Role;
use control_plane::status::HeldAgreement;
use control_plane::transfer::StateName;
use control_plane::{UnixMillis, durable};
use store::{Collection, LedgerEntry, Row, Snapshot};

use crate::driver::notices::What;
use crate::driver::records;
use crate::error::Error;

/// One agreement under which somebody may hold a copy.
#[derive(Clone, Debug)]
pub struct Copy {
    /// The agreement and its status.
    pub held: HeldAgreement,
    /// When the last pull under it was completed.
    pub pulled: Option<UnixMillis>,
    /// When its consumer told that it destroyed the copies, and the digest in its proof.
    pub deleted: Option<(UnixMillis, String)>,
    /// Duties that its consumer told are overdue, unless the copies were destroyed since.
    pub late: Vec<String>,
}

impl Copy {
    /// Whether, as far as is known, a copy exists.
    pub fn is_held(&self) -> bool {
        match (&self.pulled, &self.deleted) {
            (Some(pulled), Some((deleted, _))) => deleted < pulled,
            (pulled, None) => pulled.is_some(),
            (None, Some(_)) => false,
        }
    }
}

/// The agreements of a page of rows under which we are the provider, of one consumer if asked.
pub fn of_rows(
    store: &Snapshot<'_>,
    us: &ParticipantId,
    rows: &[Row],
    consumer: Option<&ParticipantId>,
) -> Result<Vec<Copy>, Error> {
    let mut copies = Vec::new();
    for row in rows {
        let held = durable::decode_agreement(&row.value).map_err(|cause| Error::damaged(&row.key, cause))?;
        let agreement = held.signed.agreement();
        let ours = agreement.party(Role::Provider) == us;
        if ours && consumer.is_none_or(|asked| asked == agreement.assignee()) {
            copies.push(of(store, held)?);
        }
    }
    Ok(copies)
}

fn of(store: &Snapshot<'_>, held: HeldAgreement) -> Result<Copy, Error> {
    let id = held.signed.agreement().id().to_string();
    let mut copy = Copy { held, pulled: None, deleted: None, late: Vec::new() };
    let mut after = None;
    loop {
        let rows =
            store.find(Collection::Transfers, records::AGREEMENT, &id, after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        for row in &rows {
            let process =
                durable::decode_transfer(&row.value).map_err(|cause| Error::damaged(&row.key, cause))?;
            if process.state_name() == StateName::Completed {
                copy.pulled = copy.pulled.max(process.updated());
            }
        }
    }
    let mut from = 0;
    loop {
        let entries = store.ledger_find("agreement", &id, from, store::MAX_PAGE)?;
        let Some(last) = entries.last() else { break };
        from = last.seq.saturating_add(1);
        entries.iter().for_each(|entry| told(&mut copy, entry));
    }
    Ok(copy)
}

/// What a record says about the consumer's copy.
fn told(copy: &mut Copy, entry: &LedgerEntry) {
    let Some((record, _)) = &entry.content else { return };
    let field = |name: &str| record.subject().get(name).cloned().unwrap_or_default();
    if record.kind() != "notice-received" {
        return;
    }
    let what = field("what");
    if what == What::Deleted.code() {
        copy.deleted = Some((UnixMillis(record.at_millis()), field("digest")));
        copy.late.clear();
    } else if what == What::DutyOverdue.code() {
        copy.late.push(field("at"));
    }
}
