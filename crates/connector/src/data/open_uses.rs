//! Use sessions that are open in this process, by whichever way they were opened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use control_plane::UnixMillis;
use control_plane::ids::AgreementId;
use data_plane::{SessionId, UseRequest};

/// An open use session.
#[derive(Clone, Debug)]
pub struct OpenUse {
    /// Its name.
    pub session: SessionId,
    /// Who does what, and why.
    pub request: UseRequest,
    /// When it was granted.
    pub opened: UnixMillis,
    /// When its decision ends by itself.
    pub until: Until,
}

/// The end of the last decision, moved on by each new one.
#[derive(Clone, Debug)]
pub struct Until(Arc<AtomicI64>);

/// Stands for «no end».
const NO_END: i64 = i64::MAX;

impl Until {
    /// Of the first decision.
    pub fn new(until: Option<UnixMillis>) -> Self {
        Self(Arc::new(AtomicI64::new(until.map_or(NO_END, |until| until.0))))
    }

    /// There was another decision.
    pub fn set(&self, until: Option<UnixMillis>) {
        self.0.store(until.map_or(NO_END, |until| until.0), Ordering::Relaxed);
    }

    /// The end of the last one.
    pub fn get(&self) -> Option<UnixMillis> {
        Some(self.0.load(Ordering::Relaxed)).filter(|until| *until != NO_END).map(UnixMillis)
    }
}

/// All of them: as many as there are places for sessions.
#[derive(Debug, Default)]
pub struct OpenUses(Mutex<BTreeMap<String, OpenUse>>);

impl OpenUses {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, OpenUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session was granted.
    pub fn opened(&self, open: OpenUse) {
        self.held().insert(open.session.to_string(), open);
    }

    /// A session is over.
    pub fn ended(&self, session: &SessionId) {
        self.held().remove(session.as_str());
    }

    /// Those under an agreement, oldest first.
    pub fn of(&self, agreement: &AgreementId) -> Vec<OpenUse> {
        let mut found: Vec<OpenUse> =
            self.held().values().filter(|open| open.request.agreement == *agreement).cloned().collect();
        found.sort_by_key(|open| open.opened);
        found
    }
}
