//! `fairlead backup`, `restore` and `recovery`.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use proto::admin;
use serde_json::json;

use super::args::{BackupArgs, RecoveryCommand, RestoreArgs};
use super::client::Admin;
use super::output::{Failure, Output, facts};
use crate::clock::Clock;
use crate::error::Error;
use crate::recovery::{self, NO_RECOVERY_KEY, Options, PublicKey, SecretKey};

/// How often the growing file is looked at for the bar.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

fn failure(error: Error) -> Failure {
    Failure::from(error.into_refusal())
}

/// Asks the running connector for a backup.
pub(super) async fn backup(output: Output, admin: &mut Admin, args: BackupArgs) -> Result<(), Failure> {
    let absolute = std::path::absolute(&args.file).map_err(Failure::ours)?;
    let Some(path) = absolute.to_str().map(str::to_owned) else {
        return Err(Failure::usage("the path is not UTF-8", "name another file"));
    };
    let partial = format!("{path}.partial");
    let request = admin::BackupRequest {
        path,
        state_only: args.state_only,
        without_copies: args.without_copies,
        keep_days: args.keep_days,
    };
    let bar = bar(output, 0, "{spinner} {bytes} {bytes_per_sec}");
    let mut answer = std::pin::pin!(admin.backup(request));
    let report = loop {
        // The file may be on a disk that only the connector sees: then the bar stays at nothing.
        match tokio::time::timeout(LOOK, &mut answer).await {
            Ok(report) => break report,
            Err(_) => bar.set_position(std::fs::metadata(&partial).map_or(0, |file| file.len())),
        }
    };
    bar.finish_and_clear();
    output.show(&report?.into_inner(), |report| {
        let mut rows = vec![
            ("file", report.path.clone()),
            ("bytes", report.bytes.to_string()),
            ("ledger records", report.ledger_size.to_string()),
        ];
        if report.recovery_key.is_empty() {
            rows.push(("keys", "none: copies can be opened only with this machine's `keys/`".into()));
        } else {
            rows.push(("opened by", report.recovery_key.clone()));
            rows.push(("may be restored until", report.keep_until.clone()));
            rows.push(("agreements with keys", report.keys.to_string()));
            rows.push(("sealed copies", report.copies.to_string()));
        }
        if !report.keys_left_out.is_empty() {
            rows.push(("to be deleted before, left out", report.keys_left_out.join(" ")));
        }
        facts(&rows)
    })
}

/// Puts a backup into a data directory in which no connector runs.
pub(super) fn restore(output: Output, args: &RestoreArgs, data: &Path) -> Result<(), Failure> {
    super::local::keep_memory_private().map_err(Failure::ours)?;
    let secret = args.recovery_key.as_deref().map(SecretKey::load).transpose().map_err(failure)?;
    let length = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    let bar = bar(output, length, "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    let restored = recovery::restore(
        &args.file,
        data,
        secret.as_ref(),
        Options { without_copies: args.without_copies },
        Clock::start(None).now(),
        &|bytes| bar.inc(bytes),
    );
    bar.finish_and_clear();
    let restored = restored.map_err(failure)?;
    let found = restored.found.as_ref();
    let shown = json!({
        "data": data.display().to_string(),
        "ledgerSize": restored.ledger_size,
        "participant": found.map(|found| found.participant.as_str()),
        "created": found.map(|found| found.created.as_str()),
        "copies": found.map(|found| found.copies),
        "copiesMissing": found.map(|found| found.copies_missing),
    });
    output.show(&shown, |_| {
        let mut rows = vec![
            ("restored into", data.display().to_string()),
            ("ledger records", restored.ledger_size.to_string()),
        ];
        if let Some(found) = found {
            rows.push(("participant", found.participant.clone()));
            rows.push(("as of", found.created.clone()));
            rows.push(("sealed copies", found.copies.to_string()));
            rows.push(("to be pulled again", found.copies_missing.to_string()));
        }
        facts(&rows)
    })?;
    output.note(
        "what is held stays closed until its provider was reached and told what became of the agreement",
    );
    Ok(())
}

/// Makes or shows the recovery key.
pub(super) fn key(output: Output, command: &RecoveryCommand, data: &Path) -> Result<(), Failure> {
    super::local::keep_memory_private().map_err(Failure::ours)?;
    let public = match command {
        RecoveryCommand::Init { file, replace } => {
            if !replace && PublicKey::load(data).map_err(failure)?.is_some() {
                let there = data.join(recovery::PUBLIC_KEY_FILE);
                let exists =
                    control_plane::Refusal::new(&recovery::KEY_EXISTS, format!("`{}`", there.display()));
                return Err(Failure::from(exists));
            }
            let secret = SecretKey::generate(Clock::start(None).now()).map_err(failure)?;
            if file.as_os_str() == "-" {
                output.line(&secret.to_text().map_err(failure)?)?;
            } else {
                secret.save(file).map_err(failure)?;
            }
            // The private part is safe before anything can be encrypted to the public one.
            secret.public().save(data, *replace).map_err(failure)?;
            if file.as_os_str() == "-" {
                output.note("that was the private part; it is shown only once");
                return Ok(());
            }
            secret.public().clone()
        }
        RecoveryCommand::Show => {
            let there = PublicKey::load(data).map_err(failure)?;
            there.ok_or_else(|| Failure::from(control_plane::Refusal::new(&NO_RECOVERY_KEY, "")))?
        }
    };
    let shown = json!({ "recoveryKey": public.id(), "created": public.created() });
    output.show(&shown, |_| facts(&[("recovery key", public.id()), ("made", public.created().to_owned())]))
}

fn bar(output: Output, length: u64, template: &str) -> ProgressBar {
    let bar = if output.shows_progress() { ProgressBar::new(length) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
