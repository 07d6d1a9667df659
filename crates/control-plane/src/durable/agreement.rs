//! Stored form of a signed agreement with its status.

use serde::{Deserialize, Serialize};

use super::{DurableError, Result, StoredCause, instant, instant_to_text, read, role, text, write};
use crate::agreement::{Agreement, PartySignature, SignedAgreement, SignedPart};
use crate::pids::Role;
use crate::status::{Act, AgreementStatus, HeldAgreement, Holds};

const KIND: &str = "fairlead-agreement";

/// Writes a held agreement.
///
/// # Errors
/// [`super::DurableError`] if an instant is out of range.
pub fn encode_agreement(held: &HeldAgreement) -> Result<Vec<u8>> {
    write(KIND, &StoredHeld { signed: StoredSigned::of(&held.signed), status: stored_status(&held.status)? })
}

/// Reads a held agreement. The signatures were verified before they were stored; here their form, their parties
/// and that all are over this text and one annex are checked again.
///
/// # Errors
/// [`super::DurableError`].
pub fn decode_agreement(bytes: &[u8]) -> Result<HeldAgreement> {
    let stored: StoredHeld = read(KIND, bytes)?;
    Ok(HeldAgreement { signed: stored.signed.restore()?, status: restored_status(stored.status)? })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHeld {
    signed: StoredSigned,
    status: StoredStatus,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredPart {
    agreement: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assigner: Option<String>,
}

impl StoredPart {
    pub(super) fn of(part: &SignedPart) -> Self {
        Self { agreement: text(part.agreement().text()), assigner: part.assigner_signature().map(jws) }
    }

    pub(super) fn restore(&self) -> Result<SignedPart> {
        restored_part(&self.agreement, self.assigner.as_deref())
    }
}

fn jws(signature: &PartySignature) -> String {
    text(signature.jws())
}

fn restored_part(agreement: &str, assigner: Option<&str>) -> Result<SignedPart> {
    let agreement = Agreement::parse(agreement)?;
    Ok(match assigner {
        Some(jws) => {
            let assigner = PartySignature::verified(jws, &agreement)?;
            SignedPart::new(agreement, assigner)?
        }
        None => SignedPart::unsigned(agreement),
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredSigned {
    agreement: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assigner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assignee: Option<String>,
}

impl StoredSigned {
    pub(super) fn of(signed: &SignedAgreement) -> Self {
        Self {
            agreement: text(signed.agreement().text()),
            assigner: signed.assigner_signature().map(jws),
            assignee: signed.assignee_signature().map(jws),
        }
    }

    pub(super) fn restore(&self) -> Result<SignedAgreement> {
        let part = restored_part(&self.agreement, self.assigner.as_deref())?;
        Ok(match &self.assignee {
            Some(jws) => {
                let assignee = PartySignature::verified(jws, part.agreement())?;
                part.countersigned(assignee)?
            }
            None => part.uncountersigned()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAct {
    at: String,
    cause: StoredCause,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredHolds {
    consumer: Option<StoredAct>,
    provider: Option<StoredAct>,
}

impl StoredHolds {
    pub(super) fn of(holds: &Holds) -> Result<Self> {
        Ok(Self {
            consumer: holds.of(Role::Consumer).map(stored_act).transpose()?,
            provider: holds.of(Role::Provider).map(stored_act).transpose()?,
        })
    }

    pub(super) fn restore(self) -> Result<Holds> {
        let consumer = self.consumer.map(restored_act).transpose()?;
        let provider = self.provider.map(restored_act).transpose()?;
        match (consumer, provider) {
            (Some(consumer), Some(provider)) => Ok(Holds::Both { consumer, provider }),
            (Some(consumer), None) => Ok(Holds::One(Role::Consumer, consumer)),
            (None, Some(provider)) => Ok(Holds::One(Role::Provider, provider)),
            (None, None) => Err(DurableError::Inconsistent { kind: KIND, why: "nobody holds a suspension" }),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
enum StoredStatus {
    Active {},
    Suspended { holds: StoredHolds },
    Revoked { by: String, act: StoredAct },
    Expired { at: String },
}

fn stored_status(status: &AgreementStatus) -> Result<StoredStatus> {
    Ok(match status {
        AgreementStatus::Active => StoredStatus::Active {},
        AgreementStatus::Suspended(holds) => StoredStatus::Suspended { holds: StoredHolds::of(holds)? },
        AgreementStatus::Revoked { by, act } => StoredStatus::Revoked { by: text(by), act: stored_act(act)? },
        AgreementStatus::Expired { at } => StoredStatus::Expired { at: instant_to_text(*at)? },
    })
}

fn restored_status(stored: StoredStatus) -> Result<AgreementStatus> {
    Ok(match stored {
        StoredStatus::Active {} => AgreementStatus::Active,
        StoredStatus::Suspended { holds } => AgreementStatus::Suspended(holds.restore()?),
        StoredStatus::Revoked { by, act } => {
            AgreementStatus::Revoked { by: role(&by)?, act: restored_act(act)? }
        }
        StoredStatus::Expired { at } => AgreementStatus::Expired { at: instant(&at)? },
    })
}

fn stored_act(act: &Act) -> Result<StoredAct> {
    Ok(StoredAct { at: instant_to_text(act.at)?, cause: StoredCause::from(&act.cause) })
}

fn restored_act(stored: StoredAct) -> Result<Act> {
    Ok(Act { at: instant(&stored.at)?, cause: stored.cause.restore()? })
}
