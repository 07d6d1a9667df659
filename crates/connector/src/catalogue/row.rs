//! How a published dataset lies in the store: one versioned row for people's lists, one for the data plane.

use control_plane::ids::DatasetId;
use data_plane::Publication;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Row, Snapshot, Tx};

use crate::data::onward::SCHEME;
use crate::error::Error;

/// The version of [`DatasetRow`] that is written.
const VERSION: u32 = 1;

/// Tag of a dataset that passes a held copy on.
const ONWARD: &str = "onward";

/// Whether a dataset of ours is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatasetState {
    /// It is in the catalogue.
    Published,
    /// It was taken back; agreements on it stay.
    Withdrawn,
}

impl DatasetState {
    /// The word for people and machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A dataset that this participant published; numbers that may pass 2^53 are strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatasetRow {
    pub(super) version: u32,
    /// Its IRI.
    pub dataset: String,
    /// Its title, in English where there is one.
    pub title: String,
    /// The first of its offers.
    pub offer: String,
    /// SHA-256 of that offer's canonical text.
    pub offer_hash: String,
    /// Sequence number of the newest envelope about it.
    #[serde(with = "decimal")]
    pub seq: u64,
    /// Objects of its manifest.
    pub objects: u32,
    /// Bytes of all objects.
    #[serde(with = "decimal")]
    pub bytes: u64,
    /// Digest of its manifest.
    pub manifest_digest: String,
    /// Where its bytes come from, as the steward wrote it; never leaves this connector.
    pub source: String,
    /// What is done to its objects before they leave: `name@version` and digest; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transform: String,
    /// Whether it is offered.
    pub state: DatasetState,
    /// When that changed, RFC 3339.
    pub changed: String,
}

impl DatasetRow {
    /// A row about `dataset` that says nothing else yet.
    pub(super) fn new(dataset: &DatasetId) -> Self {
        Self {
            version: VERSION,
            dataset: dataset.to_string(),
            title: String::new(),
            offer: String::new(),
            offer_hash: String::new(),
            seq: 0,
            objects: 0,
            bytes: 0,
            manifest_digest: String::new(),
            source: String::new(),
            transform: String::new(),
            state: DatasetState::Published,
            changed: String::new(),
        }
    }

    /// RFC 8785 JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, Error> {
        serde_jcs::to_vec(self).map_err(Error::ours)
    }

    /// Reads a row back; another version or unknown members refuse.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let row: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::damaged("dataset row", error))?;
        if row.version != VERSION {
            return Err(Error::damaged(
                "dataset row",
                format!("version {}, {VERSION} is known", row.version),
            ));
        }
        Ok(row)
    }
}

/// Our row about `dataset`.
pub(super) fn dataset(store: &Snapshot<'_>, dataset: &DatasetId) -> Result<Option<DatasetRow>, Error> {
    store
        .get(Collection::Datasets, dataset.as_str())?
        .map(|row| DatasetRow::from_json(&row.value))
        .transpose()
}

/// Our datasets in the order of their IRIs, after `after`; at most `limit`.
pub fn datasets(store: &Snapshot<'_>, after: Option<&str>, limit: usize) -> Result<Vec<DatasetRow>, Error> {
    let rows = store.scan(Collection::Datasets, "", after, limit)?;
    rows.iter().map(|row: &Row| DatasetRow::from_json(&row.value)).collect()
}

pub(super) fn put_dataset(tx: &Tx<'_>, row: &DatasetRow) -> Result<(), Error> {
    tx.put(Collection::Datasets, &row.dataset, &row.to_json()?, Expect::Any)?;
    let onward = row.source.starts_with(SCHEME);
    let tags: &[(&str, &str)] = if onward { &[(ONWARD, "yes")] } else { &[] };
    tx.tag(Collection::Datasets, &row.dataset, tags)?;
    Ok(())
}

/// Where the bytes of a dataset of ours come from, as its steward wrote it.
pub fn source(store: &Snapshot<'_>, id: &DatasetId) -> Result<Option<String>, Error> {
    Ok(dataset(store, id)?.map(|row| row.source))
}

/// Whether a dataset of ours is in the catalogue.
pub fn is_published(store: &Snapshot<'_>, id: &DatasetId) -> Result<bool, Error> {
    Ok(dataset(store, id)?.is_some_and(|row| row.state == DatasetState::Published))
}

/// A page of our datasets that pass a held copy on, withdrawn ones included, after `after`.
pub fn onward(store: &Snapshot<'_>, after: Option<&str>) -> Result<Vec<String>, Error> {
    let rows = store.find(Collection::Datasets, ONWARD, "yes", after, store::MAX_PAGE)?;
    Ok(rows.into_iter().map(|row| row.key).collect())
}

/// What `dataset` consists of and where its bytes lie, as published last; stays after a withdrawal, since agreements do.
pub fn published(store: &Snapshot<'_>, dataset: &DatasetId) -> Result<Option<Publication>, Error> {
    let Some(row) = store.get(Collection::Manifests, &publication_key(dataset))? else { return Ok(None) };
    let damaged = |cause: String| Error::damaged(&format!("publication of `{dataset}`"), cause);
    let text = String::from_utf8(row.value).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(Publication::from_json(&text).map_err(|refusal| damaged(refusal.to_string()))?))
}

pub(super) fn put_publication(tx: &Tx<'_>, dataset: &DatasetId, json: &str) -> Result<(), Error> {
    tx.put(Collection::Manifests, &publication_key(dataset), json.as_bytes(), Expect::Any)?;
    Ok(())
}

/// Manifests of received data lie in the same collection under other prefixes.
fn publication_key(dataset: &DatasetId) -> String {
    format!("published {dataset}")
}

/// A `u64` as a decimal string: JSON numbers are exact only up to 2^53.
pub(super) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("not a decimal number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/dataset-row-v1.json");

    fn row() -> DatasetRow {
        DatasetRow {
            title: "Harbour tide gauges 2010-2025".into(),
            offer: "https://harbour.example/id/tide-offer".into(),
            offer_hash: "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0".into(),
            seq: 7,
            objects: 14,
            bytes: 9_007_199_254_740_993,
            manifest_digest: "sha-256:ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0".into(),
            source: "directory:tide/gauges".into(),
            state: DatasetState::Withdrawn,
            changed: "2026-11-25T08:00:00.000Z".into(),
            ..DatasetRow::new(&DatasetId::parse("https://harbour.example/id/tide").unwrap())
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let text = FIXTURE.trim_end();
        assert_eq!(String::from_utf8(row().to_json().unwrap()).unwrap(), text);
        assert_eq!(DatasetRow::from_json(text.as_bytes()).unwrap(), row());
    }

    #[test]
    fn other_rows_are_damaged() {
        let text = FIXTURE.trim_end();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"seq\":\"7\"", "\"seq\":7"),
            ("\"seq\":\"7\"", "\"seq\":\"-7\""),
            ("\"withdrawn\"", "\"gone\""),
            ("{", "{\"more\":true,"),
            ("}", ""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(DatasetRow::from_json(changed.as_bytes()).is_err(), "{changed}");
        }
    }
}
