//! Our catalogue as others see it: DCAT in the protocol's compact form, and back.

use control_plane::Refusal;
use control_plane::ids::DatasetId;
use control_plane::terms::Offer;
use serde_json::{Value, json};

use crate::json::{Object, as_text, head, malformed, message, text, with};
use crate::policy;
use crate::{Canonical, Speaking};

control_plane::refusal_codes! {
    NESTED = "dsp/nested-catalogue", Input,
        "a catalogue within the catalogue is not followed", "目錄中的目錄不予跟隨", "目录中的目录不予跟随",
        clause "DSP 2025-1, 1.7", next "ask for it at the address of its own service";
}

/// The most datasets, offers or distributions read of one document.
pub const MAX_REPEATED: usize = 1_000;

/// A dataset as the protocol shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its IRI.
    pub dataset: DatasetId,
    /// Titles: text and language.
    pub titles: Vec<(String, String)>,
    /// Descriptions: text and language.
    pub descriptions: Vec<(String, String)>,
    /// Its offers.
    pub offers: Vec<Offer>,
    /// The formats in which it can be had.
    pub formats: Vec<String>,
}

/// Where negotiations about our datasets begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its IRI.
    pub id: String,
    /// The base address of the protocol's paths.
    pub endpoint: String,
}

/// One dataset as a document of its own.
///
/// # Errors
/// [`policy::NOT_CARRIED`] if none of its offers can be shown to this peer.
pub fn write_dataset(entry: &Entry, service: &Service, speaking: Speaking<'_>) -> Result<Value, Refusal> {
    let mut body = head("Dataset");
    body.append(&mut dataset(entry, service, speaking)?);
    Ok(Value::Object(body))
}

/// One page of the catalogue. A dataset whose offers this peer cannot be shown is left out; how many were is told.
pub fn write_catalog(
    id: &str,
    entries: &[Entry],
    service: &Service,
    speaking: Speaking<'_>,
) -> (Value, usize) {
    let mut body = with(head("Catalog"), [("@id", id), ("participantId", speaking.names.us.as_str())]);
    body.insert("service".to_owned(), json!([write_service(service)]));
    let shown: Vec<Value> = entries
        .iter()
        .filter_map(|entry| dataset(entry, service, speaking).ok())
        .map(Value::Object)
        .collect();
    let left_out = entries.len() - shown.len();
    // An empty array is not valid.
    if !shown.is_empty() {
        body.insert("dataset".to_owned(), Value::Array(shown));
    }
    (Value::Object(body), left_out)
}

/// The question for a catalogue, without a filter.
pub fn write_request() -> Value {
    Value::Object(head("CatalogRequestMessage"))
}

/// What a peer's catalogue offers, with what of it could not be understood.
///
/// # Errors
/// [`crate::MALFORMED`] if it is no catalogue.
pub fn read_catalog(
    value: &Value,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
) -> Result<(Vec<Entry>, Vec<Refusal>), Refusal> {
    let members = message(value, "Catalog")?;
    let mut problems = Vec::new();
    let mut entries = Vec::new();
    for one in list(members.get("dataset")) {
        match one.as_object().ok_or_else(|| malformed("a dataset is not an object")) {
            Ok(dataset) => match read_entry(dataset, speaking, canonical, &mut problems) {
                Ok(entry) => entries.push(entry),
                Err(problem) => problems.push(problem),
            },
            Err(problem) => problems.push(problem),
        }
    }
    for nested in list(members.get("catalog")) {
        let name = nested.get("@id").and_then(as_text).unwrap_or_default();
        problems.push(Refusal::new(&NESTED, format!("`{}`", control_plane::ids::printable(name))));
    }
    Ok((entries, problems))
}

/// A dataset that stands alone.
///
/// # Errors
/// [`crate::MALFORMED`], or what of its first offer is not understood where none is.
pub fn read_dataset(
    value: &Value,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
) -> Result<Entry, Refusal> {
    let mut problems = Vec::new();
    let entry = read_entry(message(value, "Dataset")?, speaking, canonical, &mut problems)?;
    match problems.into_iter().next() {
        Some(problem) if entry.offers.is_empty() => Err(problem),
        Some(_) | None => Ok(entry),
    }
}

fn read_entry(
    dataset: &Object,
    speaking: Speaking<'_>,
    canonical: &dyn Canonical,
    problems: &mut Vec<Refusal>,
) -> Result<Entry, Refusal> {
    let id = text(dataset, "@id")?;
    let mut offers = Vec::new();
    for offer in list(dataset.get("hasPolicy")) {
        let mut offer = offer.clone();
        if let Some(members) = offer.as_object_mut() {
            members.insert("target".to_owned(), json!(id));
        }
        match policy::read_offer(&offer, speaking, canonical) {
            Ok(offer) => offers.push(offer),
            Err(problem) => problems.push(problem),
        }
    }
    let formats = list(dataset.get("distribution")).iter();
    let formats = formats.filter_map(|one| one.get("format").and_then(as_text).map(str::to_owned));
    Ok(Entry {
        dataset: DatasetId::parse(&speaking.names.read(id, speaking.role))?,
        titles: texts(dataset.get("dct:title")),
        descriptions: texts(dataset.get("dct:description")),
        offers,
        formats: formats.collect(),
    })
}

/// A list, also where compaction made it a single value; cut to what is read.
fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(several)) => several.get(..several.len().min(MAX_REPEATED)).unwrap_or_default(),
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    }
}

fn texts(value: Option<&Value>) -> Vec<(String, String)> {
    let language = |one: &Value| one.get("@language").and_then(Value::as_str).unwrap_or_default().to_owned();
    list(value).iter().filter_map(|one| Some((as_text(one)?.to_owned(), language(one)))).collect()
}

fn write_texts(texts: &[(String, String)]) -> Value {
    let one = |(text, language): &(String, String)| match language.as_str() {
        "" => json!({"@value": text}),
        language => json!({"@language": language, "@value": text}),
    };
    Value::Array(texts.iter().map(one).collect())
}

fn write_service(service: &Service) -> Value {
    json!({"@id": service.id, "@type": "DataService", "endpointURL": service.endpoint})
}

fn dataset(entry: &Entry, service: &Service, speaking: Speaking<'_>) -> Result<Object, Refusal> {
    let mut offers = Vec::new();
    let mut refused = None;
    for offer in &entry.offers {
        match policy::write_offer(offer, speaking) {
            Ok(Value::Object(mut offer)) => {
                offer.remove("target");
                offers.push(Value::Object(offer));
            }
            Ok(_) => {}
            Err(refusal) => refused = Some(refusal),
        }
    }
    if offers.is_empty() {
        return Err(refused.unwrap_or_else(|| {
            Refusal::new(&policy::NOT_CARRIED, format!("`{}` has no offer", entry.dataset))
        }));
    }
    let distribution = |format: &String| json!({"@type": "Distribution", "accessService": write_service(service), "format": format});
    let mut body = Object::new();
    let id = speaking.names.write(entry.dataset.as_str(), speaking.role);
    body = with(body, [("@id", id), ("@type", "Dataset")]);
    body.insert("hasPolicy".to_owned(), Value::Array(offers));
    body.insert("distribution".to_owned(), entry.formats.iter().map(distribution).collect());
    for (member, told) in [("dct:title", &entry.titles), ("dct:description", &entry.descriptions)] {
        if !told.is_empty() {
            body.insert(member.to_owned(), write_texts(told));
        }
    }
    Ok(body)
}
