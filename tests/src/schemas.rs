//! Whether what a connector says keeps to the Dataspace Protocol's schemas: by our own checks always, and by the schemas
//! themselves where [`VARIABLE`] names the folder that holds them. They are no part of this project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

/// The environment variable that names a folder with `schemas/` and `examples/` of the protocol's artifacts.
pub const VARIABLE: &str = "DSP_SCHEMAS";

/// Where the schemas say that they lie.
const BASE: &str = "https://w3id.org/dspace/2025/1/";
/// The version document's, which names no type.
const VERSION: &str = "common/protocol-version-schema.json";

/// The schema of each document that stands alone, by its `@type`.
const BY_TYPE: &[(&str, &str)] = &[
    ("Catalog", "catalog/catalog-schema.json"),
    ("CatalogError", "catalog/catalog-error-schema.json"),
    ("CatalogRequestMessage", "catalog/catalog-request-message-schema.json"),
    ("ContractAgreementMessage", "negotiation/contract-agreement-message-schema.json"),
    (
        "ContractAgreementVerificationMessage",
        "negotiation/contract-agreement-verification-message-schema.json",
    ),
    ("ContractNegotiation", "negotiation/contract-negotiation-schema.json"),
    ("ContractNegotiationError", "negotiation/contract-negotiation-error-schema.json"),
    ("ContractNegotiationEventMessage", "negotiation/contract-negotiation-event-message-schema.json"),
    (
        "ContractNegotiationTerminationMessage",
        "negotiation/contract-negotiation-termination-message-schema.json",
    ),
    ("ContractOfferMessage", "negotiation/contract-offer-message-schema.json"),
    ("ContractRequestMessage", "negotiation/contract-request-message-schema.json"),
    ("Dataset", "catalog/dataset-schema.json"),
    ("DatasetRequestMessage", "catalog/dataset-request-message-schema.json"),
    ("TransferCompletionMessage", "transfer/transfer-completion-message-schema.json"),
    ("TransferError", "transfer/transfer-error-schema.json"),
    ("TransferProcess", "transfer/transfer-process-schema.json"),
    ("TransferRequestMessage", "transfer/transfer-request-message-schema.json"),
    ("TransferStartMessage", "transfer/transfer-start-message-schema.json"),
    ("TransferSuspensionMessage", "transfer/transfer-suspension-message-schema.json"),
    ("TransferTerminationMessage", "transfer/transfer-termination-message-schema.json"),
];

/// Schemas as published that strict validators refuse: the slash behind `#` is missing in a reference.
pub const WITHOUT_SLASH: [&str; 3] = [
    "transfer/transfer-error-schema.json",
    "transfer/transfer-suspension-message-schema.json",
    "transfer/transfer-termination-message-schema.json",
];

/// The protocol's schemas, compiled.
pub struct Schemas {
    validators: BTreeMap<String, Validator>,
}

/// The folder that [`VARIABLE`] names.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

/// The schemas of [`folder`]; without it nothing but our own checks is held against what is said, and standard error
/// says so.
pub fn schemas() -> Option<&'static Schemas> {
    static SCHEMAS: OnceLock<Option<Schemas>> = OnceLock::new();
    let read = || match folder() {
        Some(folder) => Some(Schemas::read(&folder)),
        None => {
            eprintln!(
                "{VARIABLE} is not set: documents are held against our own checks, not the protocol's schemas"
            );
            None
        }
    };
    SCHEMAS.get_or_init(read).as_ref()
}

/// Checks a document that a connector sent or answered.
///
/// # Errors
/// What is wrong with it.
pub fn check(document: &Value) -> Result<(), String> {
    let version = document.get("protocolVersions").is_some();
    if !version {
        dsp::conform::check(document)?;
    }
    let Some(schemas) = schemas() else { return Ok(()) };
    let kind = document["@type"].as_str().unwrap_or_default();
    let schema = match BY_TYPE.iter().find(|(known, _)| *known == kind) {
        Some((_, schema)) => schema,
        None if version => VERSION,
        None => return Err(format!("no schema for `{kind}`")),
    };
    schemas.check(schema, document)
}

impl Schemas {
    /// Compiles every schema of the folder; nothing is fetched from anywhere else.
    fn read(folder: &Path) -> Self {
        let documents = documents(&folder.join("schemas"));
        assert!(!documents.is_empty(), "{} holds no schemas", folder.display());
        let mut fixed = BTreeMap::new();
        for (name, document) in documents {
            let text = document.to_string();
            let whole = text.replace(".json#definitions/", ".json#/definitions/");
            assert_eq!(whole != text, WITHOUT_SLASH.contains(&name.as_str()), "{name}");
            fixed.insert(name, serde_json::from_str::<Value>(&whole).expect("a schema stays JSON"));
        }
        let compile = |schema: &Value| {
            let options = jsonschema::options().with_retriever(Known(fixed.clone()));
            options.build(schema).unwrap_or_else(|error| panic!("{error}: {schema}"))
        };
        Self { validators: fixed.iter().map(|(name, schema)| (name.clone(), compile(schema))).collect() }
    }

    /// Holds a document against the schema of this name.
    ///
    /// # Errors
    /// Every place that the schema does not take.
    pub fn check(&self, schema: &str, document: &Value) -> Result<(), String> {
        let validator = self.validators.get(schema).unwrap_or_else(|| panic!("no schema `{schema}`"));
        let wrong: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{schema}: {}", wrong.join("; "))) }
    }
}

/// The JSON files below a folder, by their path in it.
pub fn documents(folder: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for area in ["common", "catalog", "negotiation", "transfer"] {
        let listed = std::fs::read_dir(folder.join(area));
        for file in listed.unwrap_or_else(|error| panic!("{}/{area}: {error}", folder.display())) {
            let path = file.expect("a file is listed").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a file is text");
            let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            found.insert(format!("{area}/{name}"), value);
        }
    }
    found
}

/// Gives what other schemas refer to, from memory.
struct Known(BTreeMap<String, Value>);

impl Retrieve for Known {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.as_str().strip_prefix(BASE).unwrap_or_default();
        self.0.get(name).cloned().ok_or_else(|| format!("`{uri}` is not in the folder").into())
    }
}
