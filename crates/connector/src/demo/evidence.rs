//! What the steps do again and again, and what they look at to tell what came out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use control_plane::UnixMillis;
use identity::{ParticipantCertificate, RememberedCertificates, StoredIdentity, Typ, jws};
use proto::admin;
use serde_json::Value;

use super::data_space::{Campus, until};
use super::narrator::Narrator;
use super::processes::{Refused, Told, Trouble, ensure};
use crate::clock::Clock;
use crate::run::IDENTITY_FILE;

/// Negotiates on the published terms to the end; gives the agreement.
pub async fn agree(narrator: &Narrator, campus: &Campus<'_>, dataset: &str) -> Told<String> {
    let negotiation: admin::Negotiation = campus.ask(narrator, &["negotiate", dataset]).await?;
    ensure(negotiation.state == "FINALIZED", || format!("the negotiation is {}", negotiation.state))?;
    Ok(negotiation.agreement)
}

/// Pulls everything under an agreement.
pub async fn pull(narrator: &Narrator, campus: &Campus<'_>, agreement: &str) -> Told<admin::Transfer> {
    let transfer: admin::Transfer = campus.ask(narrator, &["transfer", "start", agreement]).await?;
    ensure(transfer.state == "COMPLETED", || format!("the transfer is {}", transfer.state))?;
    Ok(transfer)
}

/// Reads one file of the folder for a purpose that its policy permits.
pub async fn teach(narrator: &Narrator, campus: &Campus<'_>, agreement: &str, object: &str) -> Told<Vec<u8>> {
    campus.run(narrator, &["use", agreement, "--purpose", "fl:Teaching", "--object", object]).await
}

/// The provider's side of the transfer under `agreement`, once it is complete there, too.
pub async fn completed_at_provider(campus: &Campus<'_>, agreement: &str) -> Told<admin::Transfer> {
    until("the provider completes the transfer", async || {
        let transfers: Vec<admin::Transfer> = campus.look_at_list(&["transfer", "list"]).await?;
        Ok(transfers.into_iter().find(|one| one.agreement == agreement && one.state == "COMPLETED"))
    })
    .await
}

/// The hit for `dataset`, once the search finds it.
pub async fn appears(campus: &Campus<'_>, search: &[&str], dataset: &str) -> Told<admin::CatalogueHit> {
    until(&format!("`{dataset}` appears in the catalogue of {}", campus.place.title), async || {
        let hits: Vec<admin::CatalogueHit> = campus.look_at_list(search).await?;
        Ok(hits.into_iter().find(|hit| hit.dataset == dataset))
    })
    .await
}

/// An entry of a campus's catalogue.
pub async fn entry(campus: &Campus<'_>, dataset: &str, language: &str) -> Told<admin::CatalogueEntry> {
    campus.look(&["catalogue", "show", dataset, "--language", language]).await
}

/// The title in one script.
pub fn title<'a>(entry: &'a admin::CatalogueEntry, language: &str) -> Told<&'a str> {
    let title = entry.titles.iter().find(|title| title.language == language);
    title.map(|title| title.value.as_str()).ok_or_else(|| Trouble::failed(format!("no title in {language}")))
}

/// The clauses of the one offer; every clause is there.
pub fn clauses(entry: &admin::CatalogueEntry) -> Told<&[admin::Clause]> {
    match entry.offers.as_slice() {
        [offer] if !offer.clauses.is_empty() => Ok(&offer.clauses),
        _ => Err(Trouble::failed("the entry shows no clauses")),
    }
}

/// The ledger records of one kind about an agreement.
pub async fn records(campus: &Campus<'_>, kind: &str, agreement: &str) -> Told<Vec<String>> {
    let entries: Vec<admin::LedgerRecord> = campus.look_at_list(&["ledger", "--limit", "500"]).await?;
    let wanted = entries.into_iter().map(|entry| entry.record).filter(|record| {
        let read: Value = serde_json::from_str(record).unwrap_or_default();
        text(&read, "kind") == kind
            && read.get("subject").is_some_and(|subject| text(subject, "agreement") == agreement)
    });
    Ok(wanted.collect())
}

/// Who signed an agreement's document, each signature checked with the certificate that the signer enrolled.
pub fn signers(document: &str, parties: &[&Campus<'_>]) -> Told<BTreeSet<String>> {
    let failed = |error: &dyn std::fmt::Display| Trouble::Failed(error.to_string());
    let certificates = RememberedCertificates::default();
    for party in parties {
        let stored =
            StoredIdentity::load(&party.data().join(IDENTITY_FILE)).map_err(|error| failed(&error))?;
        let chain = stored.map(|stored| stored.chain).unwrap_or_default();
        let leaf = chain.first().ok_or_else(|| Trouble::failed("an identity without a certificate"))?;
        certificates.remember_own(&ParticipantCertificate::read(leaf).map_err(|error| failed(&error))?);
    }
    let signatures = jws::split(document).map_err(|error| failed(&error))?;
    let verified =
        signatures.iter().map(|signature| jws::verify(signature, Typ::Agreement, &certificates, now()));
    verified.map(|signed| Ok(signed.map_err(|error| failed(&error))?.signer().to_string())).collect()
}

/// The offer with a hundred times as many uses.
pub fn more_uses(offer: &str) -> Told<String> {
    let count = r#""@value":"2""#;
    ensure(offer.contains(count), || format!("the offer counts otherwise than expected: {offer}"))?;
    Ok(offer.replace(count, r#""@value":"102""#))
}

/// The refusal that `answer` is; a success is not as told.
pub fn refused<T>(answer: Told<T>) -> Told<Refused> {
    match answer {
        Ok(_) => Err(Trouble::failed("it was permitted")),
        Err(Trouble::Refused(refused)) => Ok(refused),
        Err(failed) => Err(failed),
    }
}

/// The refusal that a line of a provider's log tells.
pub fn logged(line: &Value) -> Refused {
    let heading = format!("Hong Kong's log: {} from {}", text(line, "message"), text(line, "remote"));
    Refused { code: text(line, "code").to_owned(), text: heading, detail: text(line, "detail").to_owned() }
}

/// A text of a JSON object; empty where there is none.
pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The time, as every connector on this machine reads it.
pub fn now() -> UnixMillis {
    Clock::start(None).now()
}

/// The sealed files on a campus's disk.
pub fn sealed_files(campus: &Campus<'_>) -> Told<BTreeSet<PathBuf>> {
    Ok(files(&campus.data().join("sealed"))?.into_iter().collect())
}

/// Every regular file below `folder`.
pub fn files(folder: &Path) -> Told<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Flips the lowest bit of the byte in the middle of the file; twice leaves it as it was.
pub fn flip_one_bit(file: &Path) -> Told<()> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    let byte = bytes.get_mut(middle).ok_or_else(|| Trouble::failed("the sealed file is empty"))?;
    *byte ^= 1;
    Ok(fs::write(file, bytes)?)
}
