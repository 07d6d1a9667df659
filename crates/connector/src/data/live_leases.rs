//! The key leases that are live in this process, the sessions that live on them, and when each is to be renewed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use control_plane::UnixMillis;
use control_plane::ids::{AgreementId, ParticipantId};
use data_plane::{LeaseShare, SessionId};
use tokio::sync::Notify;

use super::lease_provider::SessionUse;

/// Renewal comes when this part of the agreed time has passed; the rest is for a provider that does not answer.
const PERIODS: i64 = 2;
/// Between two attempts to renew: an eighth of what is left, within these bounds.
const SHORTEST_PAUSE_MS: i64 = 100;
const LONGEST_PAUSE_MS: i64 = 15_000;

/// Every lease that is live, and every session that lives on one.
#[derive(Default)]
pub struct Leases {
    held: Mutex<HashMap<AgreementId, Lease>>,
    sessions: Mutex<HashMap<AgreementId, Vec<SessionUse>>>,
    /// One request for each agreement at a time: rows and shares move together.
    turns: Mutex<HashMap<AgreementId, Arc<tokio::sync::Mutex<()>>>>,
    pub(super) changed: Notify,
}

/// Shares are zeroised when this is dropped.
pub(super) struct Lease {
    provider: ParticipantId,
    last: UnixMillis,
    until: UnixMillis,
    renew_at: UnixMillis,
    pub(super) shares: HashMap<u32, LeaseShare>,
}

/// When a lease was granted, and until when it lets use go on, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Before the request was sent.
    pub last: UnixMillis,
    /// The end of use without another.
    pub until: UnixMillis,
}

impl Leases {
    pub(super) fn held(&self) -> std::sync::MutexGuard<'_, HashMap<AgreementId, Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<AgreementId, Vec<SessionUse>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn turn(&self, agreement: &AgreementId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(agreement.clone()).or_default().clone()
    }

    /// The live lease under an agreement.
    pub fn live(&self, agreement: &AgreementId, now: UnixMillis) -> Option<Granted> {
        let held = self.held();
        let lease = held.get(agreement).filter(|lease| now < lease.until)?;
        Some(Granted { last: lease.last, until: lease.until })
    }

    /// Whether a lease needs no asking for these objects.
    pub(super) fn is_young(&self, agreement: &AgreementId, objects: &[u32], now: UnixMillis) -> bool {
        self.held().get(agreement).is_some_and(|lease| {
            now < lease.renew_at && objects.iter().all(|object| lease.shares.contains_key(object))
        })
    }

    pub(super) fn covers(&self, agreement: &AgreementId, objects: &[u32], now: UnixMillis) -> bool {
        self.held().get(agreement).is_some_and(|lease| {
            now < lease.until && objects.iter().all(|object| lease.shares.contains_key(object))
        })
    }

    pub(super) fn share(&self, agreement: &AgreementId, object: u32, now: UnixMillis) -> Option<LeaseShare> {
        self.held().get(agreement).filter(|lease| now < lease.until)?.shares.get(&object).cloned()
    }

    pub(super) fn keep(
        &self,
        agreement: &AgreementId,
        provider: &ParticipantId,
        granted: Granted,
        shares: Vec<(u32, LeaseShare)>,
    ) {
        let period = granted.until.millis_since(granted.last) / PERIODS;
        let mut held = self.held();
        let lease = held.entry(agreement.clone()).or_insert_with(|| Lease {
            provider: provider.clone(),
            last: granted.last,
            until: granted.until,
            renew_at: granted.until,
            shares: HashMap::new(),
        });
        (lease.last, lease.until) = (granted.last, granted.until);
        lease.renew_at = granted.last.plus_millis(period);
        lease.shares.extend(shares);
        drop(held);
        self.changed.notify_one();
    }

    /// A session lives under this agreement from now on, until [`Leases::ended`].
    pub fn opened(&self, agreement: &AgreementId, of: SessionUse) {
        self.sessions().entry(agreement.clone()).or_default().push(of);
        self.changed.notify_one();
    }

    /// A session is over; true if it was on the list.
    pub fn ended(&self, agreement: &AgreementId, session: &SessionId) -> bool {
        let mut sessions = self.sessions();
        let Some(open) = sessions.get_mut(agreement) else { return false };
        let before = open.len();
        open.retain(|of| of.session != *session);
        let was_open = open.len() < before;
        if open.is_empty() {
            sessions.remove(agreement);
        }
        was_open
    }

    /// Drops the shares under an agreement: its copies are closed until the provider grants another lease.
    pub fn forget(&self, agreement: &AgreementId) {
        self.held().remove(agreement);
    }

    /// Drops every share that `provider` gave.
    pub fn forget_of(&self, provider: &ParticipantId) {
        self.held().retain(|_, lease| lease.provider != *provider);
    }

    /// Takes away what has ended; gives the agreements to renew, each not before its next pause.
    pub(super) fn due(&self, now: UnixMillis) -> Vec<AgreementId> {
        let sessions = self.sessions();
        let mut held = self.held();
        held.retain(|_, lease| now < lease.until);
        let mut due = Vec::new();
        for (agreement, lease) in held.iter_mut().filter(|(agreement, _)| sessions.contains_key(*agreement)) {
            if lease.renew_at <= now {
                let left = lease.until.millis_since(now);
                lease.renew_at = now.plus_millis((left / 8).clamp(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS));
                due.push(agreement.clone());
            }
        }
        due
    }

    /// When [`Leases::due`] has something to do.
    pub(super) fn next(&self) -> Option<UnixMillis> {
        let sessions = self.sessions();
        let at = |(agreement, lease): (&AgreementId, &Lease)| {
            if sessions.contains_key(agreement) { lease.renew_at.min(lease.until) } else { lease.until }
        };
        self.held().iter().map(at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgreementId {
        AgreementId::parse(name).unwrap()
    }

    #[test]
    fn a_lease_is_renewed_at_half_of_its_time_and_let_go_at_its_end() {
        let leases = Leases::default();
        let provider = ParticipantId::parse("https://p.example/id").unwrap();
        let granted = Granted { last: UnixMillis(1000), until: UnixMillis(9000) };
        leases.keep(&id("a"), &provider, granted, vec![(0, LeaseShare::generate(1).unwrap())]);
        let session = SessionId::parse("s").unwrap();
        let of = SessionUse { session: session.clone(), action: "odrl:read".into(), purpose: None };

        // Without a session nothing is renewed.
        assert_eq!(leases.next(), Some(UnixMillis(9000)));
        assert!(leases.due(UnixMillis(8000)).is_empty());
        leases.opened(&id("a"), of);
        let young = |objects: &[u32], now| leases.is_young(&id("a"), objects, UnixMillis(now));
        assert!(young(&[0], 4999) && !young(&[0], 5000) && !young(&[1], 4999));
        assert!(leases.covers(&id("a"), &[0], UnixMillis(8999)));
        assert_eq!(leases.next(), Some(UnixMillis(5000)));
        assert!(leases.due(UnixMillis(4999)).is_empty());
        assert_eq!(leases.due(UnixMillis(5000)), [id("a")]);
        // The next attempt comes after an eighth of what is left.
        assert!(leases.due(UnixMillis(5499)).is_empty());
        assert_eq!(leases.due(UnixMillis(5500)), [id("a")]);

        assert_eq!(leases.live(&id("a"), UnixMillis(8999)), Some(granted));
        assert_eq!(leases.live(&id("a"), UnixMillis(9000)), None);
        assert!(leases.share(&id("a"), 0, UnixMillis(9000)).is_none());
        assert!(leases.due(UnixMillis(9000)).is_empty());
        assert_eq!(leases.next(), None, "the shares are gone");
        assert!(leases.ended(&id("a"), &session) && !leases.ended(&id("a"), &session));

        for forget in [|leases: &Leases, _: &ParticipantId| leases.forget(&id("a")), Leases::forget_of] {
            leases.keep(&id("a"), &provider, granted, Vec::new());
            forget(&leases, &provider);
            assert_eq!(leases.live(&id("a"), UnixMillis(1000)), None);
        }
    }
}
