//! What our stewards publish and withdraw: description, source and offer are checked, the bytes hashed, the envelope
//! signed; log, rows, ledger and deliveries are one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::sync::Arc;

use ::catalogue::description::{self, ObjectFacts, SelfDescription, read_turtle, read_turtle_derived};
use ::catalogue::envelope::Envelope;
use ::catalogue::hash::Digest;
use ::catalogue::log::{self, Admission, Admitted, Head, LogError};
use ::catalogue::offers::PolicyOffers;
use ::catalogue::report::{Problem, Report};
use ::catalogue::scope::{PublisherScope, SubjectBase};
use ::catalogue::text::Language;
use ::catalogue::vocabulary::FL_ENFORCES;
use control_plane::ids::{DatasetId, printable};
use control_plane::{Refusal, UnixMillis};
use data_plane::{AppliedTransform, Manifest, Publication, Salt, SourceSpec, Transform};
use policy::Policy;
use store::{Snapshot, StoreError, Tx};

use super::keys::{Members, OwnSigner};
use super::log_store::{SnapshotLog, TxLog, log_error};
use super::row::{DatasetRow, DatasetState, dataset, published, put_dataset, put_publication};
use super::{replication, to_the_end};
use crate::data::onward::offer::HeldSource;
use crate::data::onward::{self, SCHEME};
use crate::data::transforms;
use crate::driver::records;
use crate::enforceable;
use crate::error::Error;
use crate::fresh;
use crate::node::Node;
use crate::restored;

control_plane::refusal_codes! {
    BAD_SOURCE = "source/malformed-source", Input,
        "a source is `file:ROOT/path`, `directory:ROOT/path`, an http(s) URL or `holding:AGREEMENT`",
        "來源須為 `file:ROOT/路徑`、`directory:ROOT/路徑`、http(s) 網址或 `holding:協議`",
        "来源须为 `file:ROOT/路径`、`directory:ROOT/路径`、http(s) 网址或 `holding:协议`",
        clause "settings: sources.roots", next "name a root of [sources.roots] and a path below it without `..`, or an agreement under which a copy is held";
    UNKNOWN_ROOT = "source/unknown-root", Input,
        "no source root of this name is configured", "未設定此名稱的來源根目錄", "未配置此名称的来源根目录",
        clause "settings: sources.roots", next "add the folder under [sources.roots], or use one of the names there";
    SEVERAL_DISTRIBUTIONS = "catalogue/several-distributions", Input,
        "one source serves one distribution, and the description has several",
        "一個來源只供應一個分發，而描述中有多個", "一个来源只供应一个分发，而描述中有多个",
        clause "DCAT 3, 6.8", next "describe one distribution; publish other forms as datasets of their own";
    ENFORCES_WRITTEN = "catalogue/enforces-written", Input,
        "what this connector enforces is stated by the connector, never by a description", "本連接器所執行的類別由連接器聲明，而非由描述聲明",
        "本连接器所执行的类别由连接器声明，而非由描述声明",
        clause "security model: what decides", next "leave `fl:enforces` out of the description: publication adds it";
    OTHER_SUBJECT_BASE = "catalogue/other-subject-base", Input,
        "the configured subject base does not lie within the one that our statement grants",
        "所設定的主體基底不在我方聲明所授予的範圍內", "所配置的主体基底不在我方声明所授予的范围内",
        clause "operator's guide 1: the authority, subject base", next "set catalogue.subject_base to the statement's, or ask the authority for another";
}

/// How long what we publish is shown without a renewal: a connector that is gone for a week is gone from the catalogue.
pub(super) const LIFETIME_MILLIS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The longest list of problems in one refusal: it travels in gRPC trailers of at most some 8 KiB.
const MAX_REPORT_BYTES: usize = 3 * 1024;

/// What was published, or would be.
#[derive(Clone, Debug)]
pub struct Published {
    /// The row; after a dry run it has sequence number 0.
    pub row: DatasetRow,
    /// What the catalogue says about it.
    pub description: SelfDescription,
    /// What could be better.
    pub warnings: Vec<Problem>,
}

/// What a steward publishes.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The description.
    pub turtle: &'a str,
    /// Where the bytes come from.
    pub source: &'a str,
    /// What is done to them before they leave, in JSON; empty for what duties of the offers define alone.
    pub transform: &'a str,
    /// For what purpose a held copy is passed on, an IRI; empty for none.
    pub purpose: &'a str,
}

impl<'a> Draft<'a> {
    /// A description and where its bytes come from, and nothing else.
    pub const fn new(turtle: &'a str, source: &'a str) -> Self {
        Self { turtle, source, transform: "", purpose: "" }
    }
}

/// Publishes a dataset; with `dry_run` checks all of it and changes nothing.
pub async fn publish(node: &Arc<Node>, draft: Draft<'_>, dry_run: bool) -> Result<Published, Error> {
    let Draft { turtle, source, .. } = draft;
    let scope = scope(node)?;
    let offers = PolicyOffers::new(node.policies.profiles().clone());
    // First without the bytes: what is wrong with the text is said before anything large is read.
    let read =
        read_turtle(turtle, &scope, &offers, &BTreeMap::new()).map_err(|report| refusal_of(&report))?;
    if !read.description.enforces.is_empty() {
        return Err(Refusal::new(&ENFORCES_WRITTEN, node.us.as_str()).into());
    }
    let mut policies = Vec::new();
    for offer in &read.description.offers {
        let policy = node.policies.compiled(&offer.text)?;
        // What we could not hold ourselves is not promised to others.
        enforceable::require_published(&policy, node.now())?;
        policies.push(policy);
    }
    let [distribution] = read.description.distributions.as_slice() else {
        let count = read.description.distributions.len().to_string();
        return Err(Refusal::new(&SEVERAL_DISTRIBUTIONS, count).into());
    };
    let (id, media_type) = (read.description.dataset.clone(), distribution.media_type.clone());
    require_same_source(node, &id, source).await?;
    let (data, derived_from) = match source.strip_prefix(SCHEME) {
        Some(agreement) => held(node, agreement, draft, id, &policies).await?,
        None => (read_source(node, draft, id, media_type, &policies).await?, BTreeSet::new()),
    };
    let facts = BTreeMap::from([(distribution.iri.clone(), facts(data.manifest()))]);
    let publication =
        read_turtle_derived(&with_classes(node, turtle), &scope, &offers, &facts, &derived_from);
    let publication = publication.map_err(|report| refusal_of(&report))?;
    let row = row(&publication.description, data.manifest(), source);
    let (description, warnings) = (publication.description.clone(), publication.warnings.clone());
    let row = if dry_run { row } else { commit(node, publication, row, data).await? };
    Ok(Published { row, description, warnings })
}

/// Hashes what leaves of a source of our own.
async fn read_source(
    node: &Arc<Node>,
    draft: Draft<'_>,
    dataset: DatasetId,
    media_type: Option<String>,
    policies: &[Arc<Policy>],
) -> Result<Publication, Error> {
    if !draft.purpose.is_empty() {
        return Err(Refusal::new(&onward::PURPOSE, format!("`{}`", printable(draft.source))).into());
    }
    let declared = (!draft.transform.is_empty()).then(|| Transform::parse(draft.transform)).transpose()?;
    let transform = transforms::of_offers(declared, policies)?;
    let mark = transform.as_ref().map(Transform::mark);
    policies.iter().try_for_each(|policy| transforms::require_bound(policy, mark.as_ref()))?;
    let spec = source_spec(node, draft.source, media_type).await?;
    let applied = match transform {
        Some(transform) => Some(AppliedTransform { transform, salt: salt(node, &dataset).await? }),
        None => None,
    };
    let data = node.data.sources.publish_transformed(&spec, dataset, applied).await;
    data.map_err(|error| Error::Refused(error.into_refusal()))
}

/// What we hold under an agreement, and what it was made from; refused unless it may be passed on under these offers.
async fn held(
    node: &Arc<Node>,
    agreement: &str,
    draft: Draft<'_>,
    dataset: DatasetId,
    policies: &[Arc<Policy>],
) -> Result<(Publication, BTreeSet<String>), Error> {
    if !draft.transform.is_empty() {
        return Err(Refusal::new(&onward::CHANGED, format!("`{}`", printable(agreement))).into());
    }
    let purpose = (!draft.purpose.is_empty()).then(|| draft.purpose.to_owned());
    let source = HeldSource::open(node, agreement, purpose).await?;
    source.require_strict(node, policies).await?;
    let mark = source.manifest.transform();
    policies.iter().try_for_each(|policy| transforms::require_bound(policy, mark))?;
    Ok((source.publication(dataset)?, source.derived_from))
}

/// Agreements on a dataset rest on its source: one that passes a held copy on keeps it, and no other gets one.
async fn require_same_source(node: &Node, id: &DatasetId, source: &str) -> Result<(), Error> {
    let id = id.clone();
    let before = node.store.read(move |store| dataset(store, &id)).await?;
    let other = before.filter(|row| row.source != source).map(|row| row.source);
    match other.filter(|before| before.starts_with(SCHEME) || source.starts_with(SCHEME)) {
        Some(before) => Err(Refusal::new(&onward::OTHER_SOURCE, format!("it is `{before}`")).into()),
        None => Ok(()),
    }
}

/// The description with what this connector enforces, as a statement about the publisher.
fn with_classes(node: &Node, turtle: &str) -> String {
    let classes = enforceable::classes(node.policies.profiles());
    let classes: Vec<String> = classes.iter().map(ToString::to_string).collect();
    if classes.is_empty() {
        return turtle.to_owned();
    }
    // On lines of its own: what was read once ends with a whole statement or a comment.
    format!("{turtle}\n<{}> <{FL_ENFORCES}> {} .\n", node.us, classes.join(", "))
}

/// Takes a dataset of ours out of the catalogue; agreements on it, and their data, stay.
pub async fn withdraw(node: &Arc<Node>, id: &DatasetId) -> Result<DatasetRow, Error> {
    withdraw_because(node, id, "").await
}

/// As [`withdraw`], with the code of what made us do it; empty where our operator did.
pub async fn withdraw_because(
    node: &Arc<Node>,
    id: &DatasetId,
    code: &'static str,
) -> Result<DatasetRow, Error> {
    let (us, signed_id, id) = (node.us.clone(), id.clone(), id.clone());
    let make = move |store: &Snapshot<'_>, now: UnixMillis, signer: &OwnSigner| {
        log::withdraw(&SnapshotLog(store), &us, &signed_id, now, LIFETIME_MILLIS, signer)
    };
    let also = move |tx: &Tx<'_>, admitted: &Admitted| {
        let mut row = dataset(tx, &id)?.unwrap_or_else(|| DatasetRow::new(&id));
        row.state = DatasetState::Withdrawn;
        row.seq = admitted.header.seq;
        row.changed = admitted.header.issued.to_string();
        put_dataset(tx, &row)?;
        let code = Some(code).filter(|code| !code.is_empty()).map(|code| ("code", code.to_owned()));
        let fields = envelope_fields(admitted, &id).into_iter().chain(code);
        records::append_fields(tx, "dataset-withdrawn", admitted.header.issued, fields)?;
        Ok(row)
    };
    let (row, _) = sign_and_append(node, make, also).await?;
    Ok(row)
}

/// Gives everything that we publish another lifetime; says until when, or nothing if it is not due.
pub(super) async fn renew_if_due(node: &Arc<Node>) -> Result<Option<UnixMillis>, Error> {
    let us = node.us.clone();
    let head = node.store.read(move |store| log::head(&SnapshotLog(store), &us).map_err(log_error)).await?;
    if !head.is_some_and(|head| renewal_is_due(&head, node.now())) {
        return Ok(None);
    }
    let us = node.us.clone();
    let make = move |store: &Snapshot<'_>, now: UnixMillis, signer: &OwnSigner| {
        log::renew(&SnapshotLog(store), &us, now, LIFETIME_MILLIS, signer)
    };
    let also = |tx: &Tx<'_>, admitted: &Admitted| {
        let fields = [
            ("epoch", admitted.header.epoch.to_string()),
            ("seq", admitted.header.seq.to_string()),
            ("envelope", admitted.head.hash.to_string()),
            ("until", admitted.header.expires.to_string()),
        ];
        records::append_fields(tx, "catalogue-renewed", admitted.header.issued, fields)
    };
    let ((), admitted) = sign_and_append(node, make, also).await?;
    Ok(Some(admitted.header.expires))
}

/// Renewals are an hour apart, far more often than needed: a replica that missed a withdrawal notices by the next one.
/// The first comes an hour after the log began: what was just published holds as long as a renewal would let it.
const RENEWAL_INTERVAL_MILLIS: i64 = 60 * 60 * 1000;

fn renewal_is_due(head: &Head, now: UnixMillis) -> bool {
    let renewed = head.renewal.map(|renewal| renewal.expires.plus_millis(-LIFETIME_MILLIS));
    !head.frozen
        && head.live > 0
        && renewed.or(head.begun).is_none_or(|renewed| now.millis_since(renewed) >= RENEWAL_INTERVAL_MILLIS)
}

/// The secret of the dataset, kept when it is published anew: who joins its versions by a hashed column still can.
async fn salt(node: &Node, id: &DatasetId) -> Result<Salt, Error> {
    let id = id.clone();
    let before = node.store.read(move |store| published(store, &id)).await?;
    let kept = before.and_then(|before| before.applied().map(|applied| applied.salt.clone()));
    Ok(kept.unwrap_or_else(fresh::transform_salt))
}

async fn commit(
    node: &Arc<Node>,
    publication: description::Publication,
    row: DatasetRow,
    data: Publication,
) -> Result<DatasetRow, Error> {
    let id = publication.description.dataset.clone();
    let data = data.to_json().map_err(|error| Error::Refused(error.into_refusal()))?;
    let make = move |store: &Snapshot<'_>, now: UnixMillis, signer: &OwnSigner| {
        log::publish(&SnapshotLog(store), &publication, now, LIFETIME_MILLIS, signer)
    };
    let also = move |tx: &Tx<'_>, admitted: &Admitted| {
        let row = DatasetRow { seq: admitted.header.seq, changed: admitted.header.issued.to_string(), ..row };
        put_dataset(tx, &row)?;
        put_publication(tx, &id, &data)?;
        let terms = [
            ("offer", row.offer.clone()),
            ("offerHash", row.offer_hash.clone()),
            ("manifest", row.manifest_digest.clone()),
        ];
        let transform = Some(&row.transform).filter(|transform| !transform.is_empty());
        let transform = transform.map(|transform| ("transform", transform.clone()));
        let fields = envelope_fields(admitted, &id).into_iter().chain(terms).chain(transform);
        records::append_fields(tx, "dataset-published", admitted.header.issued, fields)?;
        Ok(row)
    };
    let (row, _) = sign_and_append(node, make, also).await?;
    Ok(row)
}

fn envelope_fields(admitted: &Admitted, id: &DatasetId) -> [(&'static str, String); 4] {
    [
        ("dataset", id.to_string()),
        ("epoch", admitted.header.epoch.to_string()),
        ("seq", admitted.header.seq.to_string()),
        ("envelope", admitted.head.hash.to_string()),
    ]
}

/// Signs the next envelope of our log and appends it; `also` writes what belongs to it in the same transaction.
///
/// It is signed and checked outside the transaction, since all writers would wait for that; meanwhile the log's end
/// stays where it is, because the catalogue's writer is held.
async fn sign_and_append<T, M, A>(node: &Arc<Node>, make: M, also: A) -> Result<(T, Admitted), Error>
where
    T: Send + 'static,
    M: FnOnce(&Snapshot<'_>, UnixMillis, &OwnSigner) -> Result<Envelope, LogError<StoreError>>
        + Send
        + 'static,
    A: FnOnce(&Tx<'_>, &Admitted) -> Result<T, Error> + Send + 'static,
{
    let node = node.clone();
    to_the_end(async move {
        let writer = node.catalogue.begin().await;
        let now = node.now();
        let signer = OwnSigner::of(&node.identity)?;
        let members = Members::load(&node, [node.us.clone()], now).await?;
        let peers = replication::replicas(&node.config.load());
        let asked = peers.clone();
        let envelope = node
            .store
            .read(move |store| {
                restored::require_replicas_asked(store, &asked)?;
                make(store, now, &signer).map_err(log_error)
            })
            .await?;
        let checked = tokio::task::spawn_blocking(move || log::check(envelope, &members, now));
        let checked = checked.await.map_err(Error::ours)??;
        let append = move |tx: &Tx<'_>| match log::append(&mut TxLog(tx), checked).map_err(log_error)? {
            Admission::New(admitted) => {
                let result = also(tx, &admitted)?;
                replication::queue(tx, &peers, &admitted.header, now)?;
                Ok((result, *admitted))
            }
            Admission::Repeat | Admission::Fork(_) => {
                Err(Error::ours("the end of our log moved under its writer"))
            }
        };
        let (result, admitted) = node.store.write(append).await?;
        node.catalogue.follow(&node.store, std::slice::from_ref(&admitted), &writer).await?;
        tracing::info!(
            kind = admitted.header.kind.name(),
            seq = admitted.header.seq,
            "catalogue envelope published"
        );
        Ok((result, admitted))
    })
    .await
}

/// What we may speak about: the configured base, which must lie within that of our statement.
fn scope(node: &Node) -> Result<PublisherScope, Error> {
    let configured = node.config.load().catalogue.subject_base.clone();
    let granted = node.statement.load().statement.membership.subject_base.to_string();
    if !configured.starts_with(&granted) {
        return Err(Refusal::new(&OTHER_SUBJECT_BASE, format!("`{configured}`, granted `{granted}`")).into());
    }
    Ok(PublisherScope { participant: node.us.clone(), subject_base: SubjectBase::parse(&configured)? })
}

fn row(description: &SelfDescription, manifest: &Manifest, source: &str) -> DatasetRow {
    let title = description.titles.best(&Language::En).map(|(_, title)| title.to_owned());
    let offer = description.offers.first();
    DatasetRow {
        title: title.unwrap_or_default(),
        offer: offer.map(|offer| offer.id.to_string()).unwrap_or_default(),
        offer_hash: offer.map(|offer| offer.hash.to_string()).unwrap_or_default(),
        objects: u32::try_from(manifest.objects().len()).unwrap_or(u32::MAX),
        bytes: manifest.total_bytes(),
        manifest_digest: manifest.digest().to_string(),
        source: source.to_owned(),
        transform: manifest.transform().map(ToString::to_string).unwrap_or_default(),
        ..DatasetRow::new(&description.dataset)
    }
}

fn facts(manifest: &Manifest) -> ObjectFacts {
    let digest = |digest: data_plane::Digest| Digest(*digest.as_bytes());
    let sha256 = match manifest.objects() {
        [object] => Some(digest(object.checksum())),
        _ => None,
    };
    let manifest_digest = Some(digest(manifest.digest()));
    let transform = manifest.transform().map(ToString::to_string);
    ObjectFacts { byte_size: Some(manifest.total_bytes()), sha256, manifest_digest, transform }
}

/// All problems of a description under the code of the first.
fn refusal_of(report: &Report) -> Error {
    let first = report.first();
    let mut detail = String::new();
    for (index, problem) in report.problems().iter().enumerate() {
        let line = problem.to_string();
        if detail.len() + line.len() > MAX_REPORT_BYTES && index > 0 {
            let left = report.problems().len() - index + report.unlisted();
            detail.push_str(&format!("\nand {left} more"));
            break;
        }
        if index > 0 {
            detail.push('\n');
        }
        detail.push_str(&line);
    }
    if report.problems().len() == 1 { first.into() } else { Refusal::new(first.code, detail).into() }
}

/// A source as the data plane takes it.
async fn source_spec(node: &Node, source: &str, media_type: Option<String>) -> Result<SourceSpec, Error> {
    match Source::parse(source)? {
        Source::Http { name } => {
            Ok(SourceSpec::Http { url: source.to_owned(), name: name.to_owned(), media_type })
        }
        Source::Beneath { root, path, directory } => {
            let config = node.config.load_full();
            let folder = config.sources.roots.get(root).ok_or_else(|| {
                let known: Vec<&str> = config.sources.roots.keys().map(String::as_str).collect();
                Refusal::new(&UNKNOWN_ROOT, format!("`{}`, known: {}", printable(root), known.join(", ")))
            })?;
            let folder = tokio::fs::canonicalize(folder).await.map_err(Error::ours)?;
            let path = if path.is_empty() { folder } else { folder.join(path) };
            Ok(match directory {
                true => SourceSpec::Directory { path, media_type },
                false => SourceSpec::File { path, media_type },
            })
        }
    }
}

/// A source as a steward writes it.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    /// A file or folder below a named root.
    Beneath { root: &'a str, path: &'a str, directory: bool },
    /// A resource; its object is called as the last part of the URL.
    Http { name: &'a str },
}

impl<'a> Source<'a> {
    fn parse(source: &'a str) -> Result<Self, Refusal> {
        let refuse = || Refusal::new(&BAD_SOURCE, format!("`{}`", printable(source)));
        if source.starts_with("http://") || source.starts_with("https://") {
            let path = source.split(['?', '#']).next().unwrap_or_default();
            let name =
                path.splitn(4, '/').nth(3).and_then(|path| path.rsplit('/').find(|part| !part.is_empty()));
            return Ok(Self::Http { name: name.unwrap_or("data") });
        }
        let (kind, place) = source.split_once(':').ok_or_else(refuse)?;
        let (root, path) = place.split_once('/').unwrap_or((place, ""));
        let directory = match kind {
            "file" => false,
            "directory" => true,
            _ => return Err(refuse()),
        };
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if root.is_empty() || !plain || path.contains('\0') || (path.is_empty() && !directory) {
            return Err(refuse());
        }
        Ok(Self::Beneath { root, path, directory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::catalogue::log::Renewal;
    use control_plane::ids::ParticipantId;

    #[test]
    fn sources() {
        let beneath = |root, path, directory| Ok(Source::Beneath { root, path, directory });
        let http = |name| Ok(Source::Http { name });
        let check = |source: &str, expected: Result<Source<'_>, &str>| {
            assert_eq!(Source::parse(source).map_err(|refusal| refusal.code.code), expected, "{source}");
        };
        check("file:tide/2025/a.csv", beneath("tide", "2025/a.csv", false));
        check("directory:tide/2025", beneath("tide", "2025", true));
        check("directory:tide", beneath("tide", "", true));
        check("https://data.example/a/b.csv?x=/y", http("b.csv"));
        check("http://data.example/a/", http("a"));
        check("https://data.example", http("data"));
        for source in [
            "",
            "tide/a.csv",
            "file:tide",
            "file:/etc/passwd",
            "file:tide//etc/passwd",
            "file:tide/../a",
            "file:tide/a/../../b",
            "file:tide/./../a",
            "directory:",
            "ftp://data.example/a",
            "file:tide/a\0b",
        ] {
            check(source, Err(BAD_SOURCE.code));
        }
    }

    #[test]
    fn renewals_are_due_once_an_hour_while_something_is_published() {
        let now = UnixMillis(1_795_593_600_000);
        let head = |live: u64, begun: Option<i64>, renewed: Option<i64>, frozen: bool| Head {
            publisher: ParticipantId::parse("https://harbour.example/id").unwrap(),
            epoch: 1,
            seq: 3,
            hash: Digest::of(b"envelope"),
            live,
            epoch_certificate_not_before: now,
            begun: begun.map(|ago| now.plus_millis(-ago)),
            renewal: renewed.map(|ago| Renewal { seq: 2, expires: now.plus_millis(LIFETIME_MILLIS - ago) }),
            frozen,
        };
        let check = |live, begun, renewed, frozen, expected| {
            assert_eq!(
                renewal_is_due(&head(live, begun, renewed, frozen), now),
                expected,
                "{live} {begun:?} {renewed:?} {frozen}"
            );
        };
        let (fresh, old) = (Some(RENEWAL_INTERVAL_MILLIS - 1), Some(RENEWAL_INTERVAL_MILLIS));
        check(0, None, None, false, false);
        // Older versions did not note when the log began.
        check(1, None, None, false, true);
        check(1, None, None, true, false);
        check(1, fresh, None, false, false);
        check(1, old, None, false, true);
        check(1, old, fresh, false, false);
        check(1, old, old, false, true);
        check(0, old, old, false, false);
    }
}
