//! `fairlead audit …`.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};

use identity::{StoredIdentity, TrustBundle};
use ledger::{Hash, TreeHead};
use proto::admin;
use proto::admin::export_audit_response::Step;

use super::args::{AuditCommand, VerifyArgs};
use super::client::Admin;
use super::datasets::{page_request, read_text};
use super::output::{Failure, Output, exit, facts};
use crate::audit::verify::{self as verification, Verdict};
use crate::run::IDENTITY_FILE;

/// An export that is verified is read whole: several million records.
const MAX_EXPORT_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// A statement with its chain.
const MAX_STATEMENT_BYTES: u64 = 64 * 1024;
/// A few roots.
const MAX_ROOTS_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(output: Output, admin: &mut Admin, command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Export { peer, agreement, period, format, output: file } => {
            let request = admin::ExportAuditRequest { peer, agreement, period, format };
            export(output, admin, request, &file).await
        }
        AuditCommand::Copies { consumer, all, page } => {
            let admin::PageRequest { page_size, page_token } = page_request(page);
            let request = admin::ListCopiesRequest { consumer, all, page_size, page_token };
            let list = admin.list_copies(request).await?.into_inner();
            output.list(
                &list.copies,
                ["agreement", "consumer", "dataset", "state", "agreement is", "late duties"],
                |row| {
                    let [agreement, consumer, dataset] =
                        [row.agreement.clone(), row.consumer.clone(), row.dataset.clone()];
                    let late = row.late_duties.join(" ");
                    [agreement, consumer, dataset, row.state.clone(), row.agreement_status.clone(), late]
                },
                &list.next_page_token,
            )
        }
        // Handled without a running connector.
        AuditCommand::Verify(_) => Ok(()),
    }
}

fn statement_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".jws");
    PathBuf::from(name)
}

fn create(path: &Path) -> Result<File, Failure> {
    File::options().write(true).create_new(true).open(path).map_err(|error| {
        Failure::usage(
            format!("cannot create `{}`: {error}", path.display()),
            "name a file that does not exist yet",
        )
    })
}

async fn export(
    output: Output,
    admin: &mut Admin,
    request: admin::ExportAuditRequest,
    file: &Path,
) -> Result<(), Failure> {
    let beside = statement_of(file);
    if beside.exists() {
        return Err(Failure::usage(format!("`{}` exists", beside.display()), "name another file"));
    }
    let mut pieces = admin.export_audit(request).await?.into_inner();
    let mut written = create(file)?;
    let mut bytes = 0_u64;
    while let Some(piece) = pieces.message().await? {
        match piece.step {
            Some(Step::Data(data)) => {
                bytes = bytes.saturating_add(data.len() as u64);
                written.write_all(&data).map_err(Failure::ours)?;
            }
            Some(Step::Statement(statement)) => {
                written.sync_all().map_err(Failure::ours)?;
                create(&beside)?.write_all(statement.as_bytes()).map_err(Failure::ours)?;
                let shown = serde_json::json!({
                    "file": file.display().to_string(), "statement": beside.display().to_string(), "bytes": bytes,
                });
                return output
                    .show(&shown, |_| format!("{} ({bytes} bytes)\n{}", file.display(), beside.display()));
            }
            None => {}
        }
    }
    Err(Failure {
        code: "audit/interrupted".into(),
        text: "the export ended before its statement".into(),
        detail: format!("`{}` is incomplete", file.display()),
        next: "remove it and export again".into(),
        exit: exit::UNAVAILABLE,
    })
}

/// Checks an export; needs no running connector.
pub(super) fn verify(output: Output, data: &Path, args: &VerifyArgs) -> Result<(), Failure> {
    let beside = args.statement.clone().unwrap_or_else(|| statement_of(&args.file));
    let statement = read_text(&beside, MAX_STATEMENT_BYTES)?;
    let roots = roots(data, args.roots.as_deref())?;
    let head = args.head.as_deref().map(head).transpose()?;
    let size = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    if size > MAX_EXPORT_BYTES {
        let what = format!("`{}` has {size} bytes, at most {MAX_EXPORT_BYTES} are read", args.file.display());
        return Err(Failure::usage(what, "export a shorter period, or one peer at a time"));
    }
    let mut bytes = Vec::new();
    let opened = File::open(&args.file).and_then(|file| file.take(MAX_EXPORT_BYTES).read_to_end(&mut bytes));
    opened.map_err(|error| {
        Failure::usage(format!("cannot read `{}`: {error}", args.file.display()), "name the exported file")
    })?;
    let verdict = verification::check(&bytes, &statement, &roots, head)?;
    output.show(&verdict, verdict_text)
}

fn roots(data: &Path, named: Option<&Path>) -> Result<TrustBundle, Failure> {
    if let Some(path) = named {
        return Ok(TrustBundle::from_pem(&read_text(path, MAX_ROOTS_BYTES)?)?);
    }
    let stored = StoredIdentity::load(&data.join(IDENTITY_FILE));
    let stored = stored.map_err(|error| Failure::from(crate::error::Error::from(error).into_refusal()))?;
    stored.map(|stored| stored.bundle).ok_or_else(|| {
        Failure::usage(
            "no roots to check the signature with",
            "name the data space's roots with --roots FILE",
        )
    })
}

fn head(text: &str) -> Result<TreeHead, Failure> {
    let parsed = text
        .split_once(':')
        .and_then(|(size, root)| Some(TreeHead { size: size.parse().ok()?, root: Hash::parse(root).ok()? }));
    parsed.ok_or_else(|| {
        Failure::usage("a head is SIZE:ROOT", "take it from `fairlead status` or another export")
    })
}

fn verdict_text(verdict: &Verdict) -> String {
    let complete = if verdict.complete {
        "every record of the ledger is there"
    } else {
        "each record is genuine; that none was left out cannot be seen from a part"
    };
    facts(&[
        ("verified", complete.to_owned()),
        ("participant", verdict.participant.clone()),
        ("exported", verdict.exported.clone()),
        ("records", verdict.records.to_string()),
        ("ledger", format!("{} records, root {}", verdict.ledger_size, verdict.ledger_root)),
        ("only about", verdict.peer.clone()),
        ("only under", verdict.agreement.clone()),
        ("from", verdict.from.clone()),
        ("until", verdict.until.clone()),
    ])
}
