//! Commands that need no running connector: `run`, `config check`, `enrol`.

use std::path::Path;

use super::args::EnrolArgs;
use super::output::{Failure, Output, exit};
use crate::config::{Config, ConfigProblems};
use crate::{authority, run as running, telemetry};

/// Runs the connector until it is told to stop.
pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|problems| config_failure(&problems))?;
    let logs = telemetry::init_logs(&config.logging).map_err(Failure::ours)?;
    keep_memory_private().map_err(Failure::ours)?;
    super::server_runtime()?.block_on(async {
        let started = running::start(config, Some(file.to_owned()), Some(logs)).await;
        let running = started.map_err(|error| Failure::from(error.into_refusal()))?;
        running.until_stopped().await.map_err(|error| Failure::from(error.into_refusal()))
    })
}

/// No core dump of this process, and no other process of the same user reads its memory: keys and plaintext are in it.
pub(super) fn keep_memory_private() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Reports every mistake of a settings file.
pub(super) fn check_config(output: Output, file: &Path) -> Result<(), Failure> {
    let config = Config::load(file).map_err(|problems| config_failure(&problems))?;
    let summary = serde_json::json!({ "file": file.display().to_string(), "participant": config.participant.as_str(), "ok": true });
    output.show(&summary, |_| format!("{}: fine; participant {}", file.display(), config.participant))
}

fn config_failure(problems: &ConfigProblems) -> Failure {
    Failure {
        code: "config/invalid".into(),
        text: "the settings cannot be used".into(),
        detail: problems.to_string(),
        next: "correct every line named; connector-config/ has commented examples".into(),
        exit: exit::USAGE,
    }
}

/// Makes a key, asks the authority for a certificate and keeps the identity.
pub(super) fn enrol(output: Output, args: &EnrolArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config).map_err(|problems| config_failure(&problems))?;
    let token = super::datasets::read_text(&args.token_file, MAX_TOKEN_BYTES)?;
    let enrolled = super::client_runtime()?
        .block_on(authority::client::enrol(&config, token.trim()))
        .map_err(|error| Failure::from(error.into_refusal()))?;
    let shown = serde_json::json!({
        "participant": enrolled.participant.as_str(),
        "certificateExpires": enrolled.certificate_expires.to_string(),
        "statementExpires": enrolled.statement_expires.to_string(),
    });
    output.show(&shown, |_| {
        super::output::facts(&[
            ("participant", enrolled.participant.to_string()),
            ("certificate until", enrolled.certificate_expires.to_string()),
            ("statement until", enrolled.statement_expires.to_string()),
        ])
    })
}

/// A token is a few hundred bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;
