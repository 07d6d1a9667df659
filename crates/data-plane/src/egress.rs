//! Provider side: the chunks of one object, each released by a decision of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use policy::refusal::Refusal;
use policy::time::UnixMillis;
use tokio::task::JoinHandle;

use crate::digest::Digest;
use crate::error::DataError;
use crate::manifest::CHUNK_BYTES;
use crate::ports::{AccessGrant, AccessQuestion, AccessSubject, Clock, DecisionPort};
use crate::source::{ChunkReader, Publication, Sources};
use crate::stop::{StopHandle, StopSignal, stop_pair};

policy::refusal_codes! {
    SOURCE_CHANGED = "transfer/source-changed", State,
        "the source or the manifest is not the one that the transfer started with",
        "來源或清單與傳輸開始時不同", "来源或清单与传输开始时不同",
        clause "proto/fairlead/data: GetManifest", next "negotiate a new transfer; what was pulled so far is of the older state";
    NO_SUCH_OBJECT = "transfer/no-such-object", NotFound,
        "the manifest has no object of this index", "清單中沒有此序號的物件", "清单中没有此序号的对象",
        clause "proto/fairlead/data: GetManifest", next "ask for an index below the number of objects in the manifest";
    BAD_OFFSET = "transfer/bad-offset", Input,
        "a pull starts at a multiple of the chunk size, not behind the end", "拉取須始於區塊大小的整數倍，且不得超過結尾",
        "拉取须始于区块大小的整数倍，且不得超过结尾",
        clause "proto/fairlead/data: GetManifest", next "resume from the last whole chunk that is held durably";
    GRANT_EXPIRED = "transfer/decision-expired", Policy,
        "the decision is no longer valid", "許可決定已失效", "许可决定已失效",
        clause "usage control: a grant never outlives its decision", next "look at the agreement's time limits";
    GRANT_MISMATCH = "transfer/grant-mismatch", Ours,
        "the decision answers another question", "許可決定所回應的並非此問題", "许可决定所回应的并非此问题",
        clause "usage control: decide where the bytes move", next "report this to the operator: it is a fault of the connector";
    RECEIPT_MISMATCH = "transfer/receipt-mismatch", Input,
        "the receipt does not say what was sent", "回條與所傳送的內容不符", "回条与所发送的内容不符",
        clause "proto/fairlead/data: GetManifest", next "compare the digest with the manifest and pull the object again";
}

/// The longest time that one decision holds while a pull is open.
pub const WINDOW_MILLIS: i64 = 100;

/// What a consumer asks for when it opens a pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// Who pulls what under which agreement, as established before.
    pub subject: AccessSubject,
    /// The manifest that the consumer holds.
    pub manifest: Digest,
    /// Index of the object in it.
    pub object: u32,
    /// Plaintext bytes that the consumer already holds durably: a multiple of [`CHUNK_BYTES`], or the size.
    pub offset: u64,
}

/// Up to [`CHUNK_BYTES`] of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// First plaintext byte.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// SHA-256 of `data`, from the manifest.
    pub digest: Digest,
    /// The last chunk of the object.
    pub last: bool,
}

/// One open pull. Dropping it ends it.
pub struct Egress {
    shared: Arc<Shared>,
    publication: Arc<Publication>,
    object: u32,
    size: u64,
    offset: u64,
    chunks: ChunkReader,
    stop: StopSignal,
    guard_stop: StopSignal,
    guard: JoinHandle<()>,
    ended: bool,
}

/// Hears when a pull was stopped, for whoever holds bytes of it that are not yet sent.
pub struct EgressWatch {
    stop: StopSignal,
    guard_stop: StopSignal,
}

/// What the stream and its guard both need.
struct Shared {
    port: Arc<dyn DecisionPort>,
    clock: Arc<dyn Clock>,
    subject: AccessSubject,
    object: u32,
    released: AtomicU64,
    decided_at: AtomicI64,
    valid_until: AtomicI64,
}

impl Egress {
    /// Opens a pull: checks manifest, object and offset, takes the first decision, starts reading ahead.
    pub async fn open(
        port: Arc<dyn DecisionPort>,
        clock: Arc<dyn Clock>,
        sources: &Sources,
        publication: Arc<Publication>,
        request: PullRequest,
        stop: StopSignal,
    ) -> Result<Self, DataError> {
        let PullRequest { subject, manifest, object, offset } = request;
        stop.check()?;
        if publication.manifest().digest() != manifest || publication.manifest().dataset() != &subject.dataset
        {
            return Err(Refusal::new(&SOURCE_CHANGED, "the consumer holds another manifest").into());
        }
        let size = publication
            .manifest()
            .object(object)
            .ok_or_else(|| Refusal::new(&NO_SUCH_OBJECT, object.to_string()))?
            .size();
        if offset > size || (offset < size && !offset.is_multiple_of(CHUNK_BYTES as u64)) {
            return Err(Refusal::new(&BAD_OFFSET, format!("{offset} of {size} bytes")).into());
        }
        let shared = Arc::new(Shared {
            port,
            clock,
            subject,
            object,
            released: AtomicU64::new(offset),
            decided_at: AtomicI64::new(i64::MIN),
            valid_until: AtomicI64::new(i64::MAX),
        });
        shared.decide(offset).await?;
        let chunks = sources.read_ahead(&publication, object, offset, &shared.subject).await?;
        let (handle, guard_stop) = stop_pair();
        let guard = tokio::spawn(guard(Arc::clone(&shared), handle));
        Ok(Self { shared, publication, object, size, offset, chunks, stop, guard_stop, guard, ended: false })
    }

    /// The next chunk, released by a decision taken after it was read; `None` after the last one or a refusal.
    pub async fn next(&mut self) -> Option<Result<Chunk, DataError>> {
        if self.ended {
            return None;
        }
        let released = self.release().await;
        match &released {
            Ok(chunk) => self.ended = chunk.last,
            Err(_) => self.ended = true,
        }
        if self.ended {
            self.guard.abort();
        }
        Some(released)
    }

    /// The chunks as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Chunk, DataError>> + Send {
        futures::stream::unfold(self, |mut egress| async move {
            let item = egress.next().await?;
            Some((item, egress))
        })
    }

    /// Hears the stop of this pull, also while no chunk is asked for.
    pub fn watch(&self) -> EgressWatch {
        EgressWatch { stop: self.stop.clone(), guard_stop: self.guard_stop.clone() }
    }

    /// Compares the consumer's receipt with what this pull consists of.
    pub fn check_receipt(&self, bytes: u64, digest: Digest) -> Result<(), Refusal> {
        check_receipt(&self.publication, self.object, bytes, digest)
    }

    async fn release(&mut self) -> Result<Chunk, DataError> {
        let chunk = if self.offset == self.size {
            Chunk { offset: self.size, data: Bytes::new(), digest: Digest::of(b""), last: true }
        } else {
            self.read_chunk().await?
        };
        tokio::select! {
            biased;
            reason = self.stop.stopped() => return Err(reason.into()),
            reason = self.guard_stop.stopped() => return Err(reason.into()),
            decision = self.shared.decide(self.offset) => decision?,
        }
        self.stop.check()?;
        self.offset = self.offset.saturating_add(chunk.data.len() as u64);
        self.shared.released.store(self.offset, Ordering::Relaxed);
        Ok(chunk)
    }

    async fn read_chunk(&mut self) -> Result<Chunk, DataError> {
        let data = tokio::select! {
            biased;
            reason = self.stop.stopped() => return Err(reason.into()),
            reason = self.guard_stop.stopped() => return Err(reason.into()),
            data = self.chunks.next() => data?,
        };
        let index = usize::try_from(self.offset / CHUNK_BYTES as u64).map_err(|_| DataError::Worker)?;
        let digest = self
            .publication
            .manifest()
            .object(self.object)
            .and_then(|object| object.chunks().get(index))
            .copied()
            .ok_or(DataError::Worker)?;
        let end = self.offset.saturating_add(data.len() as u64);
        Ok(Chunk { offset: self.offset, data, digest, last: end == self.size })
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.guard.abort();
    }
}

impl EgressWatch {
    /// Resolves with the reason once the pull must stop, at most [`WINDOW_MILLIS`] after its cause.
    ///
    /// Never resolves for a pull that ended by itself: select it against sending.
    pub async fn stopped(&mut self) -> Refusal {
        tokio::select! {
            biased;
            reason = self.stop.stopped() => reason,
            reason = guard_reason(&mut self.guard_stop) => reason,
        }
    }
}

/// Compares a consumer's receipt with the manifest.
pub(crate) fn check_receipt(
    publication: &Publication,
    object: u32,
    bytes: u64,
    digest: Digest,
) -> Result<(), Refusal> {
    let entry = publication
        .manifest()
        .object(object)
        .ok_or_else(|| Refusal::new(&NO_SUCH_OBJECT, object.to_string()))?;
    if entry.size() != bytes || entry.digest() != digest {
        return Err(Refusal::new(
            &RECEIPT_MISMATCH,
            format!("{bytes} bytes of {digest}, sent were {} bytes of {}", entry.size(), entry.digest()),
        ));
    }
    Ok(())
}

impl Shared {
    async fn decide(&self, offset: u64) -> Result<(), Refusal> {
        let asked_at = self.clock.now();
        let question = AccessQuestion { subject: self.subject.clone(), object: self.object, offset };
        let grant = self.port.decide(question).await?;
        self.check(&grant, offset)?;
        self.decided_at.store(asked_at.0, Ordering::Relaxed);
        self.valid_until.store(grant.valid_until().map_or(i64::MAX, |until| until.0), Ordering::Relaxed);
        Ok(())
    }

    fn check(&self, grant: &AccessGrant, offset: u64) -> Result<(), Refusal> {
        if !grant.answers(self.object, offset) {
            return Err(Refusal::new(&GRANT_MISMATCH, format!("object {} at {offset}", self.object)));
        }
        match grant.valid_until() {
            Some(until) if until <= self.clock.now() => {
                Err(Refusal::new(&GRANT_EXPIRED, format!("valid until {until}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The instant at which the last decision must be replaced.
    fn due(&self) -> UnixMillis {
        let decided_at = UnixMillis(self.decided_at.load(Ordering::Relaxed));
        UnixMillis(self.valid_until.load(Ordering::Relaxed)).min(decided_at.plus_millis(WINDOW_MILLIS))
    }
}

/// Decides again while no chunk does it: a receiver that does not read must not keep a right alive.
async fn guard(shared: Arc<Shared>, stop: StopHandle) {
    loop {
        let wait = shared.due().millis_since(shared.clock.now());
        if let Ok(wait @ 1..) = u64::try_from(wait) {
            // Bounded, so that a clock that is set cannot put the next look off.
            tokio::time::sleep(Duration::from_millis(wait.min(WINDOW_MILLIS.unsigned_abs()))).await;
            continue;
        }
        if let Err(reason) = shared.decide(shared.released.load(Ordering::Relaxed)).await {
            stop.stop(reason);
            return;
        }
    }
}

/// The guard's reason; its mere end (the pull is over) is none.
async fn guard_reason(signal: &mut StopSignal) -> Refusal {
    let reason = signal.stopped().await;
    if reason.code == &crate::stop::UNCONTROLLED {
        return futures::future::pending().await;
    }
    reason
}

#[cfg(test)]
pub(crate) mod tests;
