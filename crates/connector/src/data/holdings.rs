//! What this connector holds of others' data: rows, sealed objects, and their destruction with proof.

use std::sync::Arc;

use control_plane::ids::{AgreementId, ParticipantId};
use control_plane::status::HeldAgreement;
use control_plane::{Refusal, UnixMillis};
use data_plane::{
    AgreementKey, BoxError, Manifest, ObjectId, ObjectRecord, ObjectState, ProgressPort, SOURCE_CHANGED,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Snapshot, Tx, crash_point};

use super::provider::data_error;
use super::{duties, keys};
use crate::driver::notices::{self, Notice, What};
use crate::driver::records;
use crate::error::Error;
use crate::node::Node;

control_plane::refusal_codes! {
    NO_HOLDING = "use/no-holding", NotFound,
        "nothing is held under this agreement", "依此協議未持有任何資料", "依此协议未持有任何数据",
        clause "holdings", next "`fairlead transfer start AGREEMENT` pulls it";
    DESTROYED = "use/destroyed", Policy,
        "the copy under this agreement was destroyed", "依此協議持有的副本已銷毀", "依此协议持有的副本已销毁",
        clause "usage control: delete", next "negotiate a new agreement to pull the data again";
    LEASE_WENT_ON = "transfer/lease-went-on", Unavailable,
        "another pull or use has moved this copy to a newer lease", "另一個拉取或使用已將此副本移至較新的租約",
        "另一个拉取或使用已将此副本移至较新的租约",
        clause "security model: what a lease holds", next "nothing: the pull goes on by itself with the newer lease";
    INCOMPLETE = "use/incomplete", State,
        "the copy under this agreement is not complete yet", "依此協議拉取的副本尚未完整", "依此协议拉取的副本尚不完整",
        clause "holdings", next "wait for the transfer, or resume it with `fairlead transfer start AGREEMENT`";
}

/// The version of [`Holding`] that is written.
const VERSION: u32 = 1;

/// What is held under one agreement; the durable form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Holding {
    version: u32,
    /// The agreement.
    pub agreement: String,
    /// The dataset.
    pub dataset: String,
    /// Who granted it.
    pub assigner: String,
    /// Digest of the manifest.
    pub manifest: String,
    /// What the provider did to the data before it left: `name@version` and digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<String>,
    /// The datasets that this one was made from, as its description said when the pull began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derived_from: Vec<String>,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339, once used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_use: Option<String>,
    /// RFC 3339, once the keys were destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<String>,
    /// Files outside our reach that a permitted export wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsealed: Vec<String>,
}

impl Holding {
    /// When the data was first used.
    pub fn first_use(&self) -> Option<UnixMillis> {
        self.first_use.as_deref().and_then(UnixMillis::parse_rfc3339)
    }

    /// Whether the keys are gone.
    pub fn is_destroyed(&self) -> bool {
        self.destroyed.is_some()
    }
}

/// The counter of uses under an agreement.
pub fn uses_counter(agreement: &AgreementId) -> String {
    format!("uses {agreement}")
}

/// The holding under an agreement.
pub fn get(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Option<Holding>, Error> {
    let row = store.get(Collection::Holdings, agreement.as_str())?;
    row.map(|row| read(&row.key, &row.value)).transpose()
}

/// Reads a holding's row.
pub fn read(key: &str, value: &[u8]) -> Result<Holding, Error> {
    let holding: Holding =
        serde_json::from_slice(value).map_err(|error| Error::damaged(&format!("holding {key}"), error))?;
    if holding.version != VERSION {
        return Err(Error::damaged(&format!("holding {key}"), format!("version {}", holding.version)));
    }
    Ok(holding)
}

/// Stores a holding.
pub fn put(tx: &Tx<'_>, holding: &Holding) -> Result<(), Error> {
    let bytes = serde_jcs::to_vec(holding).map_err(Error::ours)?;
    tx.put(Collection::Holdings, &holding.agreement, &bytes, Expect::Any)?;
    Ok(())
}

/// The manifest of what is held under an agreement.
pub fn manifest(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Option<Arc<Manifest>>, Error> {
    let Some(holding) = get(store, agreement)? else { return Ok(None) };
    let row = store.get(Collection::Manifests, &held_key(&holding.manifest))?;
    let Some(row) = row else { return Ok(None) };
    let text = std::str::from_utf8(&row.value).map_err(|error| Error::damaged(&holding.manifest, error))?;
    let manifest = Manifest::parse(text).map_err(|refusal| Error::damaged(&holding.manifest, refusal))?;
    Ok(Some(Arc::new(manifest)))
}

/// The sealed objects under an agreement, in the manifest's order.
pub fn objects(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Vec<ObjectRecord>, Error> {
    object_rows(store, &format!("{agreement} "))
}

/// Every sealed object.
pub fn all_objects(store: &Snapshot<'_>) -> Result<Vec<ObjectRecord>, Error> {
    object_rows(store, "")
}

/// Whether what is held under an agreement is `sealed`, `partial` or `destroyed`; `None` if nothing ever was.
pub fn state(store: &Snapshot<'_>, agreement: &AgreementId) -> Result<Option<&'static str>, Error> {
    let Some(holding) = get(store, agreement)? else { return Ok(None) };
    if holding.is_destroyed() {
        return Ok(Some("destroyed"));
    }
    let objects = objects(store, agreement)?;
    let complete =
        !objects.is_empty() && objects.iter().all(|object| object.state() == ObjectState::Complete);
    Ok(Some(if complete { "sealed" } else { "partial" }))
}

fn object_rows(store: &Snapshot<'_>, prefix: &str) -> Result<Vec<ObjectRecord>, Error> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let rows = store.scan(Collection::Ingress, prefix, after.as_deref(), store::MAX_PAGE)?;
        let Some(last) = rows.last() else { return Ok(found) };
        after = Some(last.key.clone());
        for row in &rows {
            found.push(object_row(&row.key, &row.value)?);
        }
    }
}

fn object_row(key: &str, value: &[u8]) -> Result<ObjectRecord, Error> {
    let text = std::str::from_utf8(value).map_err(|error| Error::damaged(key, error))?;
    ObjectRecord::from_json(text).map_err(|refusal| Error::damaged(key, refusal))
}

fn held_key(digest: &str) -> String {
    format!("held {digest}")
}

fn object_key(agreement: &AgreementId, object: &ObjectId) -> String {
    format!("{agreement} {object}")
}

/// The name of the object at `index`: padded, so that rows lie in the manifest's order.
pub fn object_id(index: u32) -> Result<ObjectId, Refusal> {
    ObjectId::parse(&format!("o{index:010}"))
}

/// The index in the manifest that an object is named by.
pub fn object_index(object: &ObjectId) -> Option<u32> {
    object.as_str().strip_prefix('o')?.parse().ok()
}

/// Begins or goes on with what is held under an agreement; gives the key of its copies.
pub async fn prepare(
    node: &Arc<Node>,
    agreement: HeldAgreement,
    manifest: Arc<Manifest>,
) -> Result<AgreementKey, Error> {
    let kek = node.data.keys.current().await;
    let (worker, wrapper, now) = (node.clone(), (*kek).clone(), node.now());
    // Not known of what is in no catalogue of ours.
    let listed = node.catalogue.get(agreement.signed.agreement().target(), now).ok();
    let derived_from = listed.map(|listed| listed.description.derived_from.iter().cloned().collect());
    let derived_from: Vec<String> = derived_from.unwrap_or_default();
    node.store
        .write(move |tx| {
            let signed = agreement.signed.agreement();
            let id = signed.id();
            let digest = manifest.digest().to_string();
            if let Some(holding) = get(tx, id)? {
                if holding.is_destroyed() {
                    return Err(Refusal::new(&DESTROYED, id.as_str()).into());
                }
                if holding.manifest != digest {
                    let detail = format!("begun with {}, offered {digest}", holding.manifest);
                    return Err(Refusal::new(&SOURCE_CHANGED, detail).into());
                }
                let key = keys::agreement_key(tx, &wrapper, id)?;
                return records::found(key, &DESTROYED, id.as_str()).map_err(Error::from);
            }
            let holding = Holding {
                version: VERSION,
                agreement: id.to_string(),
                dataset: signed.target().to_string(),
                assigner: signed.assigner().to_string(),
                manifest: digest.clone(),
                transform: manifest.transform().map(ToString::to_string),
                derived_from,
                created: now.to_string(),
                first_use: None,
                destroyed: None,
                unsealed: Vec::new(),
            };
            put(tx, &holding)?;
            tx.put(Collection::Manifests, &held_key(&digest), manifest.text().as_bytes(), Expect::Any)?;
            let fields = [("agreement", id.to_string()), ("manifest", digest)].into_iter();
            let fields = fields.chain(holding.transform.clone().map(|transform| ("transform", transform)));
            records::append_fields(tx, "holding-begun", now, fields)?;
            duties::plan(&worker, tx, &agreement, &holding, now)?;
            keys::make_agreement_key(tx, &wrapper, id)
        })
        .await
}

/// Destroys the keys of everything held under an agreement, tells the provider with proof, and removes the files.
///
/// The commit decides: after it nothing opens the copies, and what is left to do is done at the next start, too.
pub async fn destroy(node: &Arc<Node>, agreement: &AgreementId, reason: &str) -> Result<Holding, Error> {
    node.data.stop_agreement(agreement, &Refusal::new(&DESTROYED, agreement.as_str()));
    let (worker, id, reason, now) = (node.clone(), agreement.clone(), reason.to_owned(), node.now());
    let (holding, removed) = node
        .store
        .write(move |tx| {
            let mut holding = records::found(get(tx, &id)?, &NO_HOLDING, id.as_str())?;
            if holding.is_destroyed() {
                duties::deleted(tx, &id, &holding, now)?;
                return Ok((holding, Vec::new()));
            }
            let mut removed = Vec::new();
            for object in objects(tx, &id)? {
                let destroyed = object.destroy(now);
                save_object(tx, &destroyed)?;
                removed.push(destroyed);
            }
            tx.delete(Collection::WrappedKeys, id.as_str(), Expect::Any)?;
            keys::owe_rotation(tx)?;
            holding.destroyed = Some(now.to_string());
            put(tx, &holding)?;
            let proof = [
                ("agreement", id.to_string()),
                ("manifest", holding.manifest.clone()),
                ("objects", removed.len().to_string()),
                ("reason", reason.clone()),
            ];
            tx.put(Collection::Tombstones, id.as_str(), now.to_string().as_bytes(), Expect::Any)?;
            records::append_fields(tx, "holding-destroyed", now, proof.clone())?;
            duties::deleted(tx, &id, &holding, now)?;
            let notice = Notice {
                agreement: id,
                what: What::Deleted,
                reason,
                at: now,
                fields: [
                    ("digest".to_owned(), holding.manifest.clone()),
                    ("objects".to_owned(), removed.len().to_string()),
                ]
                .into(),
            };
            notices::push(&worker, tx, &ParticipantId::parse(&holding.assigner)?, &notice)?;
            Ok::<_, Error>((holding, removed))
        })
        .await?;
    // What began between the first stop and the commit.
    node.data.stop_agreement(agreement, &Refusal::new(&DESTROYED, agreement.as_str()));
    crash_point("keys-deleted");
    node.data.keys.rotate_if_owed(&node.store).await?;
    for record in &removed {
        node.data.sealed.remove(record).map_err(data_error)?;
    }
    Ok(holding)
}

/// One sealed object.
pub fn object(
    store: &Snapshot<'_>,
    agreement: &AgreementId,
    object: &ObjectId,
) -> Result<Option<ObjectRecord>, Error> {
    let row = store.get(Collection::Ingress, &object_key(agreement, object))?;
    row.map(|row| object_row(&row.key, &row.value)).transpose()
}

/// Stores the row of a sealed object.
pub fn save_object(tx: &Tx<'_>, record: &ObjectRecord) -> Result<(), Error> {
    let json = record.to_json().map_err(data_error)?;
    let key = object_key(record.agreement(), record.object());
    tx.put(Collection::Ingress, &key, json.as_bytes(), Expect::Any)?;
    Ok(())
}

/// Removes the row of an object whose file is not there: the copy is incomplete from then on, and a pull completes it.
pub fn forget_object(tx: &Tx<'_>, record: &ObjectRecord) -> Result<(), Error> {
    tx.delete(Collection::Ingress, &object_key(record.agreement(), record.object()), Expect::Any)?;
    Ok(())
}

/// The data plane's rows of incoming objects, in this connector's store.
pub struct Progress(pub Arc<Node>);

impl ProgressPort for Progress {
    fn load<'a>(
        &'a self,
        agreement: &'a AgreementId,
        object: &'a ObjectId,
    ) -> BoxFuture<'a, Result<Option<ObjectRecord>, BoxError>> {
        let (agreement, name) = (agreement.clone(), object.clone());
        async move {
            let found = self.0.store.read(move |store| self::object(store, &agreement, &name));
            found.await.map_err(|error: Error| error.into())
        }
        .boxed()
    }

    fn save(&self, record: ObjectRecord) -> BoxFuture<'_, Result<(), BoxError>> {
        async move {
            let saved = self.0.store.write(move |tx| {
                // A pull that did not hear yet must not bring back a row of what was destroyed.
                if get(tx, record.agreement())?.is_some_and(|holding| holding.is_destroyed()) {
                    return Err(Refusal::new(&DESTROYED, record.agreement().as_str()).into());
                }
                // Nor the key of an epoch whose share the provider has destroyed: another pull went on meanwhile.
                let saved = object(tx, record.agreement(), record.object())?;
                if saved.is_some_and(|saved| saved.lease_epoch() > record.lease_epoch()) {
                    return Err(Refusal::new(&LEASE_WENT_ON, record.object().as_str()).into());
                }
                save_object(tx, &record)
            });
            saved.await.map_err(|error: Error| error.into())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_format_is_frozen() {
        let text = r#"{"agreement":"a","assigner":"https://p.example/id","created":"1970-01-01T00:00:00.000Z","dataset":"d","manifest":"sha-256:x","version":1}"#;
        let holding = read("a", text.as_bytes()).unwrap();
        assert_eq!(serde_jcs::to_string(&holding).unwrap(), text);
        assert!(!holding.is_destroyed());
        assert!(read("a", text.replace("\"version\":1", "\"version\":2").as_bytes()).is_err());
        assert!(read("a", text.replace("\"agreement\"", "\"agreements\"").as_bytes()).is_err());
    }
}
