//! `fairlead dataset …` and `fairlead catalogue …`.

use proto::admin;

use super::args::{CatalogueCommand, DatasetCommand, PageArgs};
use super::client::Admin;
use super::output::{Failure, Output, facts};

/// Largest self-description taken from a file; the catalogue's own cap is the same.
const MAX_DESCRIPTION_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(output: Output, admin: &mut Admin, command: DatasetCommand) -> Result<(), Failure> {
    match command {
        DatasetCommand::Publish { description, source, transform, purpose, dry_run } => {
            let turtle = read_text(&description, MAX_DESCRIPTION_BYTES)?;
            let max = data_plane::MAX_DECLARATION_BYTES as u64;
            let transform = transform.map(|path| read_text(&path, max)).transpose()?.unwrap_or_default();
            let purpose = purpose.unwrap_or_default();
            let request = admin::PublishDatasetRequest { turtle, source, dry_run, transform, purpose };
            let published = admin.publish_dataset(request).await?.into_inner();
            output.show(&published, published_facts)
        }
        DatasetCommand::Withdraw { dataset } => {
            let withdrawn =
                admin.withdraw_dataset(admin::WithdrawDatasetRequest { dataset }).await?.into_inner();
            output.show(&withdrawn, published_facts)
        }
        DatasetCommand::List(page) => {
            let list = admin.list_datasets(page_request(page)).await?.into_inner();
            output.list(
                &list.datasets,
                ["dataset", "title", "state", "bytes", "source"],
                |row| {
                    let bytes = row.bytes.to_string();
                    [row.dataset.clone(), row.title.clone(), row.state.clone(), bytes, row.source.clone()]
                },
                &list.next_page_token,
            )
        }
    }
}

pub(super) async fn catalogue(
    output: Output,
    admin: &mut Admin,
    command: CatalogueCommand,
) -> Result<(), Failure> {
    match command {
        CatalogueCommand::Search { text, keyword, theme, publisher, purpose, page_size, page } => {
            let request = admin::SearchCatalogueRequest {
                text,
                keyword,
                theme,
                publisher,
                purpose,
                language: output.language.tag().into(),
                page_size,
                page_token: page,
            };
            let found = admin.search_catalogue(request).await?.into_inner();
            output.list(
                &found.hits,
                ["dataset", "title", "publisher", "modified", "state"],
                |hit| {
                    let [dataset, title] = [hit.dataset.clone(), hit.title.clone()];
                    [dataset, title, hit.publisher.clone(), hit.modified.clone(), hit.state.clone()]
                },
                &found.next_page_token,
            )?;
            output.note(&format!("{} found", found.total));
            Ok(())
        }
        CatalogueCommand::Peer { participant, peer_url, page } => {
            let request = admin::PeerCatalogueRequest {
                counterparty: participant,
                counterparty_address: peer_url,
                page_token: page,
                language: output.language.tag().into(),
            };
            let read = admin.read_peer_catalogue(request).await?.into_inner();
            output.list(
                &read.datasets,
                ["dataset", "title", "offers", "formats"],
                |row| {
                    let title = row.titles.first().map(|title| title.value.clone()).unwrap_or_default();
                    let offers: Vec<&str> = row.offers.iter().map(|offer| offer.id.as_str()).collect();
                    [row.dataset.clone(), title, offers.join(" "), row.formats.join(" ")]
                },
                &read.next_page_token,
            )?;
            for problem in &read.problems {
                output.note(&format!("not understood: {problem}"));
            }
            Ok(())
        }
        CatalogueCommand::Show { dataset } => {
            let request =
                admin::ShowCatalogueEntryRequest { dataset, language: output.language.tag().into() };
            let entry = admin.show_catalogue_entry(request).await?.into_inner();
            output.show(&entry, entry_text)
        }
    }
}

/// A page as the connector takes it.
pub(super) fn page_request(page: PageArgs) -> admin::PageRequest {
    admin::PageRequest { page_size: page.page_size, page_token: page.page }
}

/// Reads a small text file, naming it in every failure.
pub(super) fn read_text(path: &std::path::Path, max_bytes: u64) -> Result<String, Failure> {
    let wrong = |error: String| {
        Failure::usage(format!("cannot read `{}`: {error}", path.display()), "check the path")
    };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > max_bytes {
        return Err(wrong(format!("{length} bytes are more than the {max_bytes} allowed")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

/// Numbered clauses, one a line.
pub(super) fn clause_lines(clauses: &[admin::Clause]) -> String {
    let line = |clause: &admin::Clause| {
        let warnings: String = clause.warnings.iter().map(|warning| format!("\n     ! {warning}")).collect();
        let number = if clause.number.is_empty() { "-".to_owned() } else { format!("{}.", clause.number) };
        format!("  {number} {}{warnings}", clause.text)
    };
    clauses.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn published_facts(published: &admin::PublishedDataset) -> String {
    let mut text = facts(&[
        ("dataset", published.dataset.clone()),
        ("title", published.title.clone()),
        ("state", published.state.clone()),
        ("offer", published.offer.clone()),
        ("offer hash", published.offer_hash.clone()),
        ("objects", published.objects.to_string()),
        ("bytes", published.bytes.to_string()),
        ("manifest", published.manifest_digest.clone()),
        ("log position", published.seq.to_string()),
        ("transform", published.transform.clone()),
    ]);
    if !published.clauses.is_empty() {
        text.push_str(&format!("\nclauses\n{}", clause_lines(&published.clauses)));
    }
    for warning in &published.warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    text
}

fn entry_text(entry: &admin::CatalogueEntry) -> String {
    let texts = |texts: &[admin::Text]| {
        texts.iter().map(|text| format!("{} ({})", text.value, text.language)).collect::<Vec<_>>().join(" · ")
    };
    let mut shown = facts(&[
        ("dataset", entry.dataset.clone()),
        ("title", texts(&entry.titles)),
        ("description", texts(&entry.descriptions)),
        ("keywords", texts(&entry.keywords)),
        ("themes", entry.themes.join(" ")),
        ("publisher", entry.publisher.clone()),
        ("modified", entry.modified.clone()),
        ("state", entry.state.clone()),
        ("expires", entry.expires.clone()),
        ("media types", entry.media_types.join(" ")),
        ("bytes", entry.byte_size.to_string()),
        ("transforms", entry.transforms.join(" ")),
        ("derived from", entry.derived_from.join(" ")),
        ("publisher enforces classes", super::doctor::class_list(&entry.publisher_enforces)),
        ("envelope", entry.envelope_hash.clone()),
    ]);
    for offer in &entry.offers {
        shown.push_str(&format!("\noffer {}\n{}", offer.id, clause_lines(&offer.clauses)));
    }
    shown
}
