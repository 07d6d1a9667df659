//! The log: one gap-free, hash-chained run of envelopes per publisher; admission, publication, replication.
//!
//! [`check`] does the costly part (signature, content) without storage; [`append`] does the rest over a
//! [`LogStore`] and is meant to run in one transaction of it. Nothing is ever removed; what is shown is decided
//! at read time ([`state_at`]).

use control_plane::ids::{DatasetId, ParticipantId};
use control_plane::{Refusal, UnixMillis};

use crate::description::{Publication, SelfDescription, read_canonical};
use crate::envelope::{
    Envelope, EnvelopeSigner, EnvelopeVerifier, Header, Kind, VerifiedEnvelope, seal, verify,
};
use crate::hash::Digest;
use crate::records;
use crate::scope::{PublisherScope, SubjectBase};

mod keys;
mod replicate;

pub use replicate::{FETCH_LIMIT, HeadMark, MAX_FETCH_BYTES, Missing, fetch, heads, missing};

policy::refusal_codes! {
    GAP = "catalogue/gap", State,
        "earlier envelopes of this log are missing here", "此日誌中較早的信封尚未收到", "此日志中较早的信封尚未收到",
        clause "catalogue: log", next "send the envelopes from the sequence number named, in order";
    OLD_EPOCH = "catalogue/old-epoch", State,
        "the publisher has begun a newer epoch of its log", "發布者的日誌已進入較新的紀元", "发布者的日志已进入较新的纪元",
        clause "catalogue: epochs", next "ask for the head and continue in the newer epoch";
    EPOCH_NOT_ALLOWED = "catalogue/epoch-not-allowed", Identity,
        "a new epoch needs a certificate newer than that of the last epoch", "新紀元須使用比上一紀元更新的證書", "新纪元须使用比上一纪元更新的证书",
        clause "catalogue: epochs", next "renew the certificate, then begin the epoch";
    PUBLISHER_FROZEN = "catalogue/publisher-frozen", State,
        "the publisher signed two different histories of its log; nothing more is taken from it",
        "發布者曾簽署兩份不同的日誌歷史，現不再接收其內容", "发布者曾签署两份不同的日志历史，现不再接收其内容",
        clause "catalogue: forks", next "look at the evidence with the publisher, then release it";
    KNOWN_FORK = "catalogue/known-fork", State,
        "the envelope contradicts the log and was set aside as evidence", "此信封與日誌相矛盾，已留作證據", "此信封与日志相矛盾，已留作证据",
        clause "catalogue: forks", next "continue from the head that this replica holds";
    UNKNOWN_DATASET = "catalogue/unknown-dataset", NotFound,
        "there is no such dataset in the catalogue", "目錄中沒有此資料集", "目录中没有此数据集",
        clause "catalogue: reading", next "search again: it may have been withdrawn or have expired";
    LIVE_SET_DIFFERS = "catalogue/live-set-differs", State,
        "the publisher renews another set of datasets than the one that its log leads to",
        "發布者所續期的資料集與其日誌不符", "发布者所续期的数据集与其日志不符",
        clause "catalogue: renewal", next "the publisher must renew over the datasets that it has not withdrawn";
    OUTSIDE_SUBJECT_BASE = "catalogue/outside-subject-base", Input,
        "the dataset does not lie under the publisher's subject base", "資料集不在發布者的主體基底之下", "数据集不在发布者的主体基底之下",
        clause "operator's guide 1: the authority, subject base", next "name the dataset under your subject base";
    TOO_MANY_DATASETS = "catalogue/too-many-datasets", Limit,
        "one publisher has at most 50,000 live datasets", "每個發布者最多可有 50,000 個有效資料集", "每个发布者最多可有 50,000 个有效数据集",
        clause "catalogue: bounds", next "withdraw datasets or describe series as one";
    DAMAGED_RECORD = "catalogue/damaged-record", Ours,
        "a stored record of the catalogue cannot be read", "目錄的儲存記錄無法讀取", "目录的存储记录无法读取",
        clause "catalogue: durable formats", next "restore from a backup, or fetch the log again from a replica";
}

/// The most live datasets of one publisher: twenty kilobytes of memory each in the index.
pub const MAX_LIVE_DATASETS: u64 = 50_000;

/// Rows read at once while scanning.
const SCAN_PAGE: usize = 500;

/// The log's tables; a store maps them to collections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogTable {
    /// Every envelope by publisher, epoch and sequence.
    Envelopes,
    /// One [`Head`] per publisher.
    Heads,
    /// One [`Entry`] per publisher and dataset.
    Entries,
    /// Envelopes that contradict admitted ones.
    Evidence,
}

/// Reading the log's tables: keys are visible ASCII with single spaces, compared by bytes, at most 600 bytes.
pub trait LogReader {
    /// The storage's own failure.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The value of a key.
    fn get(&self, table: LogTable, key: &str) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Up to `limit` rows whose keys begin with `prefix` and are greater than `after`, in the order of keys.
    fn scan(
        &self,
        table: LogTable,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, Self::Error>;
}

/// Writing the log's tables, within one transaction.
pub trait LogStore: LogReader {
    /// Sets the value of a key.
    fn put(&mut self, table: LogTable, key: &str, value: &[u8]) -> Result<(), Self::Error>;
}

/// A refusal of the catalogue, or a failure of its storage.
#[derive(Debug, thiserror::Error)]
pub enum LogError<E: std::error::Error + 'static> {
    /// The catalogue says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The storage failed.
    #[error("storage of the catalogue log failed")]
    Store(#[source] E),
}

/// Where a publisher's log stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub publisher: ParticipantId,
    /// Its newest epoch.
    pub epoch: u32,
    /// The last sequence number of the epoch.
    pub seq: u64,
    /// The hash of that envelope.
    pub hash: Digest,
    /// Live datasets of the epoch.
    pub live: u64,
    /// Since when the certificate that began the epoch is valid.
    pub epoch_certificate_not_before: UnixMillis,
    /// When the first envelope of the epoch was issued; heads written by older versions do not tell.
    pub begun: Option<UnixMillis>,
    /// The last renewal of the epoch.
    pub renewal: Option<Renewal>,
    /// Whether a fork was found: nothing more is taken.
    pub frozen: bool,
}

/// A renewal: entries up to `seq` hold until `expires`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Its sequence number.
    pub seq: u64,
    /// Until when it renews.
    pub expires: UnixMillis,
}

/// The newest envelope about one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Epoch of the envelope.
    pub epoch: u32,
    /// Sequence number of the envelope.
    pub seq: u64,
    /// Whether it withdraws the dataset.
    pub withdrawn: bool,
    /// When it was issued.
    pub issued: UnixMillis,
    /// Its own end; a later renewal sets another, see [`expires_at`].
    pub expires: UnixMillis,
    /// The publisher's subject base when it was admitted.
    pub subject_base: SubjectBase,
}

/// What is true of an envelope about a dataset at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// It is to be shown.
    Active,
    /// A newer envelope about the dataset, or a newer epoch, has replaced it.
    Superseded,
    /// The publisher has withdrawn the dataset.
    Withdrawn,
    /// It has ended without a renewal.
    Expired,
}

/// An envelope whose signature and content hold; only [`check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEnvelope {
    envelope: Envelope,
    verified: VerifiedEnvelope,
    description: Option<SelfDescription>,
}

impl CheckedEnvelope {
    /// The signed header.
    pub fn header(&self) -> &Header {
        self.verified.header()
    }
}

/// An envelope that the log took, with the head that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The envelope as stored.
    pub envelope: Envelope,
    /// Its header.
    pub header: Header,
    /// The publisher's head after it.
    pub head: Head,
    /// What it publishes, if it publishes something.
    pub published: Option<Published>,
}

/// A description that the log took, with its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// What the publisher says.
    pub description: SelfDescription,
    /// The entry that was written.
    pub entry: Entry,
}

/// What the log did with an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Appended.
    New(Box<Admitted>),
    /// It was there already: nothing changed.
    Repeat,
    /// It contradicts the log: kept as evidence, the publisher is frozen. The transaction must still be committed.
    Fork(ForkEvidence),
}

/// Two statements of one publisher that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkEvidence {
    /// Who signed both.
    pub publisher: ParticipantId,
    /// The position.
    pub epoch: u32,
    /// The position.
    pub seq: u64,
    /// The hash that our log has at or before this position.
    pub held: Digest,
    /// The hash of the contradicting envelope, which is kept.
    pub found: Digest,
}

/// Checks an envelope without storage: sizes, signature, times, content hash, canonical form, description.
pub fn check(
    envelope: Envelope,
    verifier: &dyn EnvelopeVerifier,
    now: UnixMillis,
) -> Result<CheckedEnvelope, Refusal> {
    let verified = verify(&envelope, verifier, now)?;
    let header = verified.header();
    let scope = PublisherScope {
        participant: header.publisher.clone(),
        subject_base: verified.subject_base().clone(),
    };
    if let Some(dataset) = header.kind.dataset()
        && !scope.subject_base.contains(dataset.as_str())
    {
        return Err(Refusal::new(&OUTSIDE_SUBJECT_BASE, dataset.to_string()));
    }
    let description = match &header.kind {
        Kind::Publish { dataset, .. } => {
            Some(read_canonical(&envelope.content, dataset, &scope).map_err(|report| report.first())?)
        }
        Kind::Withdraw { .. } | Kind::Renew { .. } => None,
    };
    Ok(CheckedEnvelope { envelope, verified, description })
}

/// Checks and appends; see [`check`] and [`append`].
pub fn admit<S: LogStore>(
    store: &mut S,
    envelope: Envelope,
    verifier: &dyn EnvelopeVerifier,
    now: UnixMillis,
) -> Result<Admission, LogError<S::Error>> {
    append(store, check(envelope, verifier, now)?)
}

/// Appends a checked envelope if it is the next of its log.
pub fn append<S: LogStore>(store: &mut S, checked: CheckedEnvelope) -> Result<Admission, LogError<S::Error>> {
    let CheckedEnvelope { envelope, verified, description } = checked;
    let header = verified.header().clone();
    let held = head(store, &header.publisher)?;
    let held = match place(store, held, &verified)? {
        Place::Next(held) => held,
        Place::Repeat => return Ok(Admission::Repeat),
        Place::Fork { held, mut head } => {
            let found = verified.hash();
            let key = keys::evidence(&header.publisher, header.epoch, header.seq, found);
            if get(store, LogTable::Evidence, &key)?.is_some() {
                // A person has released the publisher in spite of it: meeting it again is no news.
                return Err(Refusal::new(&KNOWN_FORK, format!("{} {}", header.publisher, header.seq)).into());
            }
            // The header proves the contradiction; the content proves nothing more and could be large.
            let evidence = Envelope { content: Vec::new(), ..envelope };
            put(store, LogTable::Evidence, &key, &records::encode_envelope(&evidence))?;
            head.frozen = true;
            put(store, LogTable::Heads, header.publisher.as_str(), &records::encode_head(&head))?;
            let Header { publisher, epoch, seq, .. } = header;
            return Ok(Admission::Fork(ForkEvidence { publisher, epoch, seq, held, found }));
        }
    };
    let mut next = Head {
        publisher: header.publisher.clone(),
        epoch: header.epoch,
        seq: header.seq,
        hash: verified.hash(),
        live: held.as_ref().map_or(0, |held| held.live),
        epoch_certificate_not_before: held
            .as_ref()
            .map_or(verified.certificate_not_before(), |held| held.epoch_certificate_not_before),
        begun: held.as_ref().map_or(Some(header.issued), |held| held.begun),
        renewal: held.as_ref().and_then(|held| held.renewal),
        frozen: false,
    };
    let mut published = None;
    match &header.kind {
        Kind::Publish { dataset, .. } | Kind::Withdraw { dataset } => {
            let withdrawn = matches!(header.kind, Kind::Withdraw { .. });
            let live =
                entry(store, &header.publisher, dataset)?.is_some_and(|entry| entry.is_live(header.epoch));
            next.live = match (withdrawn, live) {
                (true, false) => return Err(Refusal::new(&UNKNOWN_DATASET, dataset.to_string()).into()),
                (true, true) => next.live.saturating_sub(1),
                (false, true) => next.live,
                (false, false) => next.live + 1,
            };
            if next.live > MAX_LIVE_DATASETS {
                return Err(Refusal::new(&TOO_MANY_DATASETS, header.publisher.to_string()).into());
            }
            let entry = Entry {
                epoch: header.epoch,
                seq: header.seq,
                withdrawn,
                issued: header.issued,
                expires: header.expires,
                subject_base: verified.subject_base().clone(),
            };
            let key = keys::entry(&header.publisher, dataset.as_str());
            put(store, LogTable::Entries, &key, &records::encode_entry(&entry))?;
            published = description.map(|description| Published { description, entry });
        }
        Kind::Renew { live } => {
            let ours = live_set_hash(&live_set(store, &header.publisher, header.epoch)?);
            if ours != *live {
                return Err(Refusal::new(&LIVE_SET_DIFFERS, format!("theirs {live}, ours {ours}")).into());
            }
            next.renewal = Some(Renewal { seq: header.seq, expires: header.expires });
        }
    }
    let key = keys::envelope(&header.publisher, header.epoch, header.seq);
    put(store, LogTable::Envelopes, &key, &records::encode_envelope(&envelope))?;
    put(store, LogTable::Heads, header.publisher.as_str(), &records::encode_head(&next))?;
    Ok(Admission::New(Box::new(Admitted { envelope, header, head: next, published })))
}

/// Takes envelopes of a frozen publisher again, after a person has looked at the evidence; `false` if not frozen.
pub fn release<S: LogStore>(store: &mut S, publisher: &ParticipantId) -> Result<bool, LogError<S::Error>> {
    match head(store, publisher)? {
        Some(held) if held.frozen => {
            let released = Head { frozen: false, ..held };
            put(store, LogTable::Heads, publisher.as_str(), &records::encode_head(&released))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Signs the next envelope that publishes `publication`; it must still be admitted like any other.
pub fn publish<R: LogReader>(
    reader: &R,
    publication: &Publication,
    issued: UnixMillis,
    lifetime_millis: i64,
    signer: &dyn EnvelopeSigner,
) -> Result<Envelope, LogError<R::Error>> {
    let description = &publication.description;
    let kind =
        Kind::Publish { dataset: description.dataset.clone(), content: Digest::of(&publication.content) };
    let header = next_header(reader, &description.publisher, kind, issued, lifetime_millis)?;
    Ok(seal(&header, publication.content.clone(), signer)?)
}

/// Signs the next envelope that withdraws `dataset`.
pub fn withdraw<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    dataset: &DatasetId,
    issued: UnixMillis,
    lifetime_millis: i64,
    signer: &dyn EnvelopeSigner,
) -> Result<Envelope, LogError<R::Error>> {
    let epoch = head(reader, publisher)?.map_or(1, |head| head.epoch);
    if !entry(reader, publisher, dataset)?.is_some_and(|entry| entry.is_live(epoch)) {
        return Err(Refusal::new(&UNKNOWN_DATASET, dataset.to_string()).into());
    }
    let kind = Kind::Withdraw { dataset: dataset.clone() };
    let header = next_header(reader, publisher, kind, issued, lifetime_millis)?;
    Ok(seal(&header, Vec::new(), signer)?)
}

/// Signs the next envelope that renews everything the publisher has not withdrawn.
pub fn renew<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    issued: UnixMillis,
    lifetime_millis: i64,
    signer: &dyn EnvelopeSigner,
) -> Result<Envelope, LogError<R::Error>> {
    let epoch = head(reader, publisher)?.map_or(1, |head| head.epoch);
    let kind = Kind::Renew { live: live_set_hash(&live_set(reader, publisher, epoch)?) };
    let header = next_header(reader, publisher, kind, issued, lifetime_millis)?;
    Ok(seal(&header, Vec::new(), signer)?)
}

/// Signs the first envelope of a new epoch: an empty log, for a publisher that has lost its own.
///
/// `last_epoch` is the newest that any replica knows. The signer's certificate must be newer than that epoch's.
pub fn begin_epoch(
    publisher: &ParticipantId,
    last_epoch: u32,
    issued: UnixMillis,
    lifetime_millis: i64,
    signer: &dyn EnvelopeSigner,
) -> Result<Envelope, Refusal> {
    let header = Header {
        publisher: publisher.clone(),
        epoch: last_epoch.saturating_add(1),
        seq: 1,
        prev: None,
        kind: Kind::Renew { live: live_set_hash(&[]) },
        issued,
        expires: issued.plus_millis(lifetime_millis),
    };
    seal(&header, Vec::new(), signer)
}

/// Where a publisher's log stands here.
pub fn head<R: LogReader>(reader: &R, publisher: &ParticipantId) -> Result<Option<Head>, LogError<R::Error>> {
    get(reader, LogTable::Heads, publisher.as_str())?
        .map(|bytes| Ok(records::decode_head(&bytes)?))
        .transpose()
}

/// The newest entry about a dataset.
pub fn entry<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    dataset: &DatasetId,
) -> Result<Option<Entry>, LogError<R::Error>> {
    let key = keys::entry(publisher, dataset.as_str());
    get(reader, LogTable::Entries, &key)?.map(|bytes| Ok(records::decode_entry(&bytes)?)).transpose()
}

/// One envelope of the log.
pub fn envelope_at<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    epoch: u32,
    seq: u64,
) -> Result<Option<Envelope>, LogError<R::Error>> {
    let key = keys::envelope(publisher, epoch, seq);
    get(reader, LogTable::Envelopes, &key)?.map(|bytes| Ok(records::decode_envelope(&bytes)?)).transpose()
}

/// The contradicting envelopes of a publisher that were set aside, without content; at most `limit`.
pub fn evidence<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    limit: usize,
) -> Result<Vec<Envelope>, LogError<R::Error>> {
    let rows =
        reader.scan(LogTable::Evidence, &keys::publisher(publisher), "", limit).map_err(LogError::Store)?;
    rows.iter().map(|(_, bytes)| Ok(records::decode_envelope(bytes)?)).collect()
}

/// Until when an entry holds: its own end, or that of a renewal after it.
pub fn expires_at(head: &Head, entry: &Entry) -> UnixMillis {
    match head.renewal {
        Some(renewal) if head.epoch == entry.epoch && renewal.seq > entry.seq => renewal.expires,
        _ => entry.expires,
    }
}

/// The state of an entry at `now`.
pub fn state_at(head: &Head, entry: &Entry, now: UnixMillis) -> EntryState {
    if entry.epoch != head.epoch {
        EntryState::Superseded
    } else if entry.withdrawn {
        EntryState::Withdrawn
    } else if expires_at(head, entry) <= now {
        EntryState::Expired
    } else {
        EntryState::Active
    }
}

/// The datasets that a publisher has published and not withdrawn in an epoch, with their sequence numbers.
///
/// Ordered by dataset; expired ones belong to it, since a renewal brings them back.
pub fn live_set<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    epoch: u32,
) -> Result<Vec<(String, u64)>, LogError<R::Error>> {
    let mut live = Vec::new();
    each_entry(reader, publisher, |dataset, entry| {
        if entry.is_live(epoch) {
            live.push((dataset.to_owned(), entry.seq));
        }
        Ok(())
    })?;
    Ok(live)
}

/// SHA-256 of the RFC 8785 text of `[[dataset, "seq"], ...]`, ordered by dataset.
pub fn live_set_hash(live: &[(String, u64)]) -> Digest {
    let rows: Vec<[String; 2]> =
        live.iter().map(|(dataset, seq)| [dataset.clone(), seq.to_string()]).collect();
    Digest::of(&serde_jcs::to_vec(&rows).unwrap_or_default())
}

impl Entry {
    fn is_live(&self, epoch: u32) -> bool {
        self.epoch == epoch && !self.withdrawn
    }
}

pub(crate) fn each_entry<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    mut visit: impl FnMut(&str, Entry) -> Result<(), LogError<R::Error>>,
) -> Result<(), LogError<R::Error>> {
    let prefix = keys::publisher(publisher);
    let mut after = String::new();
    loop {
        let rows = reader.scan(LogTable::Entries, &prefix, &after, SCAN_PAGE).map_err(LogError::Store)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        after.clone_from(last);
        for (key, bytes) in &rows {
            let dataset = key.strip_prefix(&prefix).unwrap_or_default();
            visit(dataset, records::decode_entry(bytes)?)?;
        }
    }
}

enum Place {
    /// It is the next one; `None` begins a log or an epoch.
    Next(Option<Head>),
    Repeat,
    Fork {
        held: Digest,
        head: Head,
    },
}

fn place<S: LogStore>(
    store: &S,
    held: Option<Head>,
    verified: &VerifiedEnvelope,
) -> Result<Place, LogError<S::Error>> {
    let header = verified.header();
    let gap = |wanted: u64| {
        let detail =
            format!("{} epoch {}: {} came, {wanted} is next", header.publisher, header.epoch, header.seq);
        Err(Refusal::new(&GAP, detail).into())
    };
    let Some(head) = held else {
        return if header.seq == 1 { Ok(Place::Next(None)) } else { gap(1) };
    };
    if header.epoch > head.epoch {
        if head.frozen {
            return Err(Refusal::new(&PUBLISHER_FROZEN, header.publisher.to_string()).into());
        }
        if verified.certificate_not_before() <= head.epoch_certificate_not_before {
            return Err(Refusal::new(
                &EPOCH_NOT_ALLOWED,
                format!("{} epoch {}", header.publisher, header.epoch),
            )
            .into());
        }
        return if header.seq == 1 { Ok(Place::Next(None)) } else { gap(1) };
    }
    let known = if header.epoch < head.epoch || header.seq <= head.seq {
        envelope_at(store, &header.publisher, header.epoch, header.seq)?
    } else {
        None
    };
    let known = known.map(|envelope| signed_hash(&envelope)).transpose()?;
    if known == Some(verified.hash()) {
        return Ok(Place::Repeat);
    }
    if head.frozen {
        return Err(Refusal::new(&PUBLISHER_FROZEN, header.publisher.to_string()).into());
    }
    match known {
        Some(held) => Ok(Place::Fork { held, head }),
        None if header.epoch < head.epoch => {
            Err(Refusal::new(&OLD_EPOCH, format!("{} is in epoch {}", header.publisher, head.epoch)).into())
        }
        None if header.seq == head.seq.saturating_add(1) => {
            // A signed successor of another envelope than ours: the publisher has signed two histories.
            let continues = header.prev == Some(head.hash);
            Ok(if continues { Place::Next(Some(head)) } else { Place::Fork { held: head.hash, head } })
        }
        None => gap(head.seq.saturating_add(1)),
    }
}

/// The hash of an envelope that was verified when it was stored.
fn signed_hash(envelope: &Envelope) -> Result<Digest, Refusal> {
    use base64::Engine as _;
    let payload = envelope.header.split('.').nth(1);
    payload
        .and_then(|encoded| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok())
        .map(|bytes| Digest::of(&bytes))
        .ok_or_else(|| Refusal::new(&DAMAGED_RECORD, "envelope header"))
}

fn next_header<R: LogReader>(
    reader: &R,
    publisher: &ParticipantId,
    kind: Kind,
    issued: UnixMillis,
    lifetime_millis: i64,
) -> Result<Header, LogError<R::Error>> {
    let (epoch, seq, prev) = match head(reader, publisher)? {
        Some(head) if head.frozen => {
            return Err(Refusal::new(&PUBLISHER_FROZEN, publisher.to_string()).into());
        }
        Some(head) => (head.epoch, head.seq.saturating_add(1), Some(head.hash)),
        None => (1, 1, None),
    };
    let expires = issued.plus_millis(lifetime_millis);
    let header = Header { publisher: publisher.clone(), epoch, seq, prev, kind, issued, expires };
    // What every replica would refuse is not signed: reading the header back applies the same rules.
    Ok(Header::from_json(header.to_json().as_bytes())?)
}

fn get<R: LogReader>(reader: &R, table: LogTable, key: &str) -> Result<Option<Vec<u8>>, LogError<R::Error>> {
    reader.get(table, key).map_err(LogError::Store)
}

fn put<S: LogStore>(
    store: &mut S,
    table: LogTable,
    key: &str,
    value: &[u8],
) -> Result<(), LogError<S::Error>> {
    store.put(table, key, value).map_err(LogError::Store)
}
