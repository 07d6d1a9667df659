//! The shared catalogue of this connector: the signed log lies in the store, the index in memory.
//!
//! Everything that enters the log goes through one writer, so that the index follows in the order of the log. What
//! our stewards publish comes from [`publication`], what others published from [`replication`].

mod admission;
mod keys;
mod log_store;
pub mod publication;
pub mod replication;
mod row;
pub mod service;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use ::catalogue::envelope::Envelope;
use ::catalogue::hash::Digest;
use ::catalogue::index::{Index, Listed, Page, Query, RebuildError};
use ::catalogue::log::{self, Admitted, HeadMark, UNKNOWN_DATASET};
use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::{Code, UnixMillis};
use policy::vocab::operand::PURPOSE;
use store::{Snapshot, Store};
use tokio::sync::MutexGuard;
use tracing::Instrument as _;

use crate::error::Error;
use crate::node::Node;
use crate::policies::Policies;
use log_store::{SnapshotLog, log_error};

pub use admission::Run;
pub use replication::{OUTBOX_KIND, deliver_envelope};
pub use row::{DatasetRow, DatasetState, datasets, is_published, onward, published, source};

/// The refusal codes of this module and those below it.
pub const ALL_CODES: &[&[&Code]] =
    &[admission::CODES, keys::CODES, publication::CODES, replication::CODES, service::CODES];

/// Heads read at once.
const HEADS_PAGE: usize = 256;
/// The most publishers told to a peer: some 150 bytes each, so the answer stays below 2 MiB.
const MAX_HEADS: usize = 10_000;

/// What all participants offer, as far as it is known here.
pub struct Catalogue {
    index: RwLock<Index>,
    policies: Arc<Policies>,
    /// Held from reading the log's end until the index has followed.
    writer: tokio::sync::Mutex<()>,
    /// Where the peers' copies of our log are known to stand.
    delivered: replication::Delivered,
}

impl Catalogue {
    /// The catalogue that the store's log holds; `policies` know which purposes are broader than others.
    pub async fn open(store: &Store, policies: Arc<Policies>) -> Result<Self, Error> {
        let index = store.read(rebuild).await?;
        tracing::info!(datasets = index.len(), "catalogue index built from the log");
        Ok(Self {
            index: RwLock::new(index),
            policies,
            writer: tokio::sync::Mutex::default(),
            delivered: replication::Delivered::default(),
        })
    }

    /// The offers of an active dataset by id, each with its canonical text; none if it is unknown, withdrawn or expired.
    pub fn offers(&self, dataset: &DatasetId, now: UnixMillis) -> Result<Vec<(String, String)>, Error> {
        let found = self.read(|index| index.get(dataset, now));
        match found {
            Ok(listed) => {
                let offers = listed.description.offers.iter();
                Ok(offers.map(|offer| (offer.id.to_string(), offer.text.clone())).collect())
            }
            Err(refusal) if refusal.code == &UNKNOWN_DATASET => Ok(Vec::new()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Who publishes an active dataset; `catalogue/unknown-dataset` if there is none.
    pub fn publisher(&self, dataset: &DatasetId, now: UnixMillis) -> Result<ParticipantId, Error> {
        Ok(self.get(dataset, now)?.description.publisher.clone())
    }

    /// An active dataset; `catalogue/unknown-dataset` if there is none.
    pub fn get(&self, dataset: &DatasetId, now: UnixMillis) -> Result<Listed, Error> {
        Ok(self.read(|index| index.get(dataset, now))?)
    }

    /// The active datasets that fit; an offer for a purpose broader than one asked for fits, too.
    pub fn search(&self, mut query: Query, now: UnixMillis) -> Result<Page, Error> {
        let profiles = self.policies.profiles();
        let wanted = query.purposes.iter();
        let mut purposes: Vec<String> =
            wanted.flat_map(|purpose| profiles.broader(PURPOSE, purpose)).map(str::to_owned).collect();
        purposes.sort_unstable();
        purposes.dedup();
        query.purposes = purposes;
        Ok(self.read(|index| index.search(&query, now))?)
    }

    /// How many datasets are in the index, expired ones included.
    pub fn len(&self) -> usize {
        self.read(Index::len)
    }

    /// Whether the index holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        // A panic while writing would leave an index that is rebuilt at the next start; what it holds is still valid.
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn begin(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().await
    }

    /// Lets the index follow what the log took; the caller holds the writer.
    async fn follow(
        &self,
        store: &Store,
        admitted: &[Admitted],
        _writer: &MutexGuard<'_, ()>,
    ) -> Result<(), Error> {
        let followed = {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            admitted.iter().try_for_each(|admitted| index.apply(admitted))
        };
        let Err(error) = followed else { return Ok(()) };
        tracing::warn!(%error, "the catalogue index cannot follow the log and is built anew");
        let rebuilt = store.read(rebuild).await?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = rebuilt;
        Ok(())
    }
}

/// One envelope of the log as it is stored.
pub async fn envelope(
    node: &Arc<Node>,
    publisher: ParticipantId,
    epoch: u32,
    seq: u64,
) -> Result<Option<Envelope>, Error> {
    let read = move |store: &Snapshot<'_>| {
        log::envelope_at(&SnapshotLog(store), &publisher, epoch, seq).map_err(log_error)
    };
    node.store.read(read).await
}

/// The hash of an envelope of the log: of its signed header.
pub fn envelope_hash(envelope: &Envelope) -> Option<Digest> {
    use base64::Engine as _;
    let payload = envelope.header.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    Some(Digest::of(&bytes))
}

/// Where every log stands here, in the order of publishers; frozen ones with `true`.
async fn heads(node: &Arc<Node>) -> Result<Vec<(HeadMark, bool)>, Error> {
    let read = |store: &Snapshot<'_>| {
        let mut marks: Vec<(HeadMark, bool)> = Vec::new();
        while marks.len() < MAX_HEADS {
            let after = marks.last().map(|(mark, _)| mark.publisher.clone());
            let page = log::heads(&SnapshotLog(store), after.as_ref(), HEADS_PAGE).map_err(log_error)?;
            if page.is_empty() {
                break;
            }
            marks.extend(page.iter().map(|head| (HeadMark::from(head), head.frozen)));
        }
        Ok(marks)
    };
    node.store.read(read).await
}

/// Does `work` to its end even if the caller goes away: the index must not miss what the log took.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.in_current_span()).await.map_err(Error::ours)?
}

fn rebuild(store: &Snapshot<'_>) -> Result<Index, Error> {
    Index::rebuild(&SnapshotLog(store)).map_err(|error| match error {
        RebuildError::Log(error) => log_error(error),
        RebuildError::Index(error) => Error::ours(error),
    })
}
