//! Change notification: what a commit touched, so that a driver wakes at once instead of polling.

use tokio::sync::watch;

use crate::Collection;

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// An outbox entry was pushed, moved or removed.
    Outbox,
    /// A duty was added or changed.
    Duties,
    /// A record was appended.
    Ledger,
    /// A row of the collection was written or deleted.
    Rows(Collection),
}

const FIXED: usize = 3;
const COUNT: usize = FIXED + Collection::ALL.len();
const _: () = assert!(COUNT <= 64, "signals of one transaction are kept in a u64");

impl Signal {
    fn place(self) -> usize {
        match self {
            Self::Outbox => 0,
            Self::Duties => 1,
            Self::Ledger => 2,
            Self::Rows(collection) => FIXED + collection as usize,
        }
    }

    pub(crate) fn bit(self) -> u64 {
        1 << self.place()
    }
}

/// One counter of commits for each signal.
pub(crate) struct Signals(Vec<watch::Sender<u64>>);

impl Signals {
    pub(crate) fn new() -> Self {
        Self((0..COUNT).map(|_| watch::Sender::new(0)).collect())
    }

    pub(crate) fn raise(&self, bits: u64) {
        for (place, sender) in self.0.iter().enumerate() {
            if bits >> place & 1 == 1 {
                sender.send_modify(|commits| *commits += 1);
            }
        }
    }

    pub(crate) fn subscribe(&self, signal: Signal) -> watch::Receiver<u64> {
        match self.0.get(signal.place()) {
            Some(sender) => sender.subscribe(),
            None => watch::channel(0).1,
        }
    }
}
