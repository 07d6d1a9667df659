//! Whether a concluded agreement may be acted on: active, suspended, revoked or expired.
//!
//! DSP ends with FINALIZED; what follows is ours and travels in notices. Each party holds and lifts its own
//! suspension, so that the order in which notices arrive makes no difference.

use policy::refusal::Refusal;
use policy::time::UnixMillis;

use crate::agreement::SignedAgreement;
use crate::cause::Cause;
use crate::pids::Role;

policy::refusal_codes! {
    AGREEMENT_SUSPENDED = "transfer/agreement-suspended", Policy,
        "the agreement is suspended", "協議已暫停", "协议已暂停",
        clause "agreement status", next "ask the party that suspended it to resume it";
    AGREEMENT_REVOKED = "transfer/agreement-revoked", Policy,
        "the agreement is revoked", "協議已撤銷", "协议已撤销",
        clause "agreement status", next "negotiate a new agreement";
    AGREEMENT_EXPIRED = "transfer/agreement-expired", Policy,
        "the agreement has expired", "協議已到期", "协议已到期",
        clause "agreement status", next "negotiate a new agreement";
    AGREEMENT_ENDED = "agreement/ended", State,
        "an agreement that was revoked or has expired cannot be suspended or resumed",
        "已撤銷或到期的協議不能暫停或恢復", "已撤销或到期的协议不能暂停或恢复",
        clause "agreement status", next "negotiate a new agreement";
    NOT_SUSPENDED_BY_YOU = "agreement/not-suspended-by-you", State,
        "only the party that suspended the agreement can resume it",
        "只有暫停協議的一方才能恢復", "只有暂停协议的一方才能恢复",
        clause "agreement status", next "ask the party that suspended it to resume it";
}

/// One party's act on an agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Why.
    pub cause: Cause,
    /// When, by the clock of the side that stored it.
    pub at: UnixMillis,
}

/// Who holds the agreement suspended; at least one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// One party does.
    One(Role, Act),
    /// Both do.
    Both {
        /// The consumer's hold.
        consumer: Act,
        /// The provider's hold.
        provider: Act,
    },
}

impl Holds {
    /// Whether `role` holds.
    pub fn held_by(&self, role: Role) -> bool {
        self.of(role).is_some()
    }

    /// The hold of `role`.
    pub fn of(&self, role: Role) -> Option<&Act> {
        match (self, role) {
            (Self::One(holder, act), role) => (*holder == role).then_some(act),
            (Self::Both { consumer, .. }, Role::Consumer) => Some(consumer),
            (Self::Both { provider, .. }, Role::Provider) => Some(provider),
        }
    }

    /// These holds and `role`'s; one that is there already stays as it is.
    #[must_use]
    pub fn with(&self, role: Role, act: Act) -> Self {
        match (self, role) {
            (Self::One(Role::Consumer, consumer), Role::Provider) => {
                Self::Both { consumer: consumer.clone(), provider: act }
            }
            (Self::One(Role::Provider, provider), Role::Consumer) => {
                Self::Both { consumer: act, provider: provider.clone() }
            }
            (Self::One(Role::Consumer, _), Role::Consumer)
            | (Self::One(Role::Provider, _), Role::Provider)
            | (Self::Both { .. }, Role::Consumer | Role::Provider) => self.clone(),
        }
    }

    /// What remains when `role` lifts its hold; `None` if nothing does.
    pub fn without(&self, role: Role) -> Option<Self> {
        let other = role.other();
        self.of(other).map(|act| Self::One(other, act.clone()))
    }
}

/// The status of a concluded agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgreementStatus {
    /// It may be acted on.
    Active,
    /// Nothing may start or go on until every hold is lifted.
    Suspended(Holds),
    /// Ended for good by one party.
    Revoked {
        /// Who ended it.
        by: Role,
        /// Why and when.
        act: Act,
    },
    /// Its time has passed.
    Expired {
        /// When that was noticed.
        at: UnixMillis,
    },
}

/// What can happen to a concluded agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusChange {
    /// A party suspends it.
    Suspend(Role, Act),
    /// A party lifts its own suspension.
    Resume(Role),
    /// A party ends it.
    Revoke(Role, Act),
    /// Its time has passed.
    Expire(UnixMillis),
}

impl AgreementStatus {
    /// The status after `change`. Repeating a change gives the same status.
    ///
    /// # Errors
    /// [`AGREEMENT_ENDED`] to suspend or resume what has ended, [`NOT_SUSPENDED_BY_YOU`] to lift the other's hold.
    pub fn after(&self, change: StatusChange) -> Result<Self, Refusal> {
        match change {
            StatusChange::Suspend(by, act) => self.suspended(by, act),
            StatusChange::Resume(by) => self.resumed(by),
            StatusChange::Revoke(by, act) => Ok(match self {
                Self::Revoked { .. } => self.clone(),
                Self::Active | Self::Suspended(_) | Self::Expired { .. } => Self::Revoked { by, act },
            }),
            StatusChange::Expire(at) => Ok(match self {
                Self::Active | Self::Suspended(_) => Self::Expired { at },
                Self::Revoked { .. } | Self::Expired { .. } => self.clone(),
            }),
        }
    }

    /// `active`, `suspended`, `revoked` or `expired`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended(_) => "suspended",
            Self::Revoked { .. } => "revoked",
            Self::Expired { .. } => "expired",
        }
    }

    /// Demands that the agreement may be acted on.
    ///
    /// # Errors
    /// [`AGREEMENT_SUSPENDED`], [`AGREEMENT_REVOKED`] or [`AGREEMENT_EXPIRED`].
    pub fn require_active(&self) -> Result<(), Refusal> {
        match self {
            Self::Active => Ok(()),
            Self::Suspended(_) => Err(Refusal::new(&AGREEMENT_SUSPENDED, "")),
            Self::Revoked { by, act } => {
                Err(Refusal::new(&AGREEMENT_REVOKED, format!("by the {by} at {}", act.at)))
            }
            Self::Expired { at } => Err(Refusal::new(&AGREEMENT_EXPIRED, format!("at {at}"))),
        }
    }

    fn suspended(&self, by: Role, act: Act) -> Result<Self, Refusal> {
        match self {
            Self::Active => Ok(Self::Suspended(Holds::One(by, act))),
            Self::Suspended(holds) => Ok(Self::Suspended(holds.with(by, act))),
            Self::Revoked { .. } | Self::Expired { .. } => Err(Refusal::new(&AGREEMENT_ENDED, self.name())),
        }
    }

    fn resumed(&self, by: Role) -> Result<Self, Refusal> {
        match self {
            Self::Active => Ok(Self::Active),
            Self::Suspended(holds) if holds.held_by(by) => {
                Ok(holds.without(by).map_or(Self::Active, Self::Suspended))
            }
            Self::Suspended(_) => {
                Err(Refusal::new(&NOT_SUSPENDED_BY_YOU, format!("suspended by the {}", by.other())))
            }
            Self::Revoked { .. } | Self::Expired { .. } => Err(Refusal::new(&AGREEMENT_ENDED, self.name())),
        }
    }
}

/// A signed agreement as a party holds it: with its status. What transfers ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAgreement {
    /// The agreement with both signatures.
    pub signed: SignedAgreement,
    /// Whether it may be acted on.
    pub status: AgreementStatus,
}

impl HeldAgreement {
    /// A newly final agreement.
    pub fn active(signed: SignedAgreement) -> Self {
        Self { signed, status: AgreementStatus::Active }
    }

    /// The same agreement after `change`.
    ///
    /// # Errors
    /// As [`AgreementStatus::after`].
    pub fn after(&self, change: StatusChange) -> Result<Self, Refusal> {
        Ok(Self { signed: self.signed.clone(), status: self.status.after(change)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(at: i64) -> Act {
        Act { cause: Cause::new("c", []), at: UnixMillis(at) }
    }

    fn suspended(role: Role) -> AgreementStatus {
        AgreementStatus::Suspended(Holds::One(role, act(1)))
    }

    fn check(
        from: &AgreementStatus,
        change: StatusChange,
        expected: Result<&str, &'static policy::refusal::Code>,
    ) {
        let got = from.after(change.clone());
        assert_eq!(
            got.as_ref().map(AgreementStatus::name).map_err(|r| r.code),
            expected,
            "{from:?} {change:?}"
        );
        if let Ok(next) = got {
            assert_eq!(next.after(change.clone()), Ok(next), "repeating {change:?} changes nothing");
        }
    }

    #[test]
    fn every_change_from_every_status() {
        let both = suspended(Role::Consumer).after(StatusChange::Suspend(Role::Provider, act(2))).unwrap();
        let revoked = AgreementStatus::Revoked { by: Role::Provider, act: act(3) };
        let expired = AgreementStatus::Expired { at: UnixMillis(4) };
        for role in [Role::Consumer, Role::Provider] {
            let other = role.other();
            check(&AgreementStatus::Active, StatusChange::Suspend(role, act(5)), Ok("suspended"));
            check(&AgreementStatus::Active, StatusChange::Resume(role), Ok("active"));
            check(&suspended(role), StatusChange::Suspend(role, act(5)), Ok("suspended"));
            check(&suspended(role), StatusChange::Suspend(other, act(5)), Ok("suspended"));
            check(&suspended(role), StatusChange::Resume(role), Ok("active"));
            check(&suspended(role), StatusChange::Resume(other), Err(&NOT_SUSPENDED_BY_YOU));
            assert_eq!(
                both.after(StatusChange::Resume(role)).unwrap().require_active().unwrap_err().code,
                &AGREEMENT_SUSPENDED
            );
            for ended in [&revoked, &expired] {
                check(ended, StatusChange::Suspend(role, act(5)), Err(&AGREEMENT_ENDED));
                check(ended, StatusChange::Resume(role), Err(&AGREEMENT_ENDED));
                check(ended, StatusChange::Revoke(role, act(5)), Ok("revoked"));
            }
            for live in [&AgreementStatus::Active, &suspended(role), &both] {
                check(live, StatusChange::Revoke(role, act(5)), Ok("revoked"));
                check(live, StatusChange::Expire(UnixMillis(9)), Ok("expired"));
            }
        }
        check(&revoked, StatusChange::Expire(UnixMillis(9)), Ok("revoked"));
        check(&expired, StatusChange::Expire(UnixMillis(9)), Ok("expired"));
        assert_eq!(revoked.require_active().unwrap_err().code, &AGREEMENT_REVOKED);
        assert_eq!(expired.require_active().unwrap_err().code, &AGREEMENT_EXPIRED);
        assert_eq!(AgreementStatus::Active.require_active(), Ok(()));
    }
}
