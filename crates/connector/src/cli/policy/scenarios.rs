//! `fairlead policy test` and `simulate`: tables of requests with expected answers, and logs replayed.

use std::path::{Path, PathBuf};

use clap::Args;
use policy::scenario::{self, Scenario};

use super::{MAX_SCENARIO_BYTES, Shelf};
use crate::cli::datasets::read_text;
use crate::cli::output::{Failure, exit};

/// A table and its policy.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The table: a JSON array, or one JSON object a line
    file: PathBuf,
    /// The policy; if left out, the one that lies beside: for offer.scenarios.json, offer.json or offer.ttl
    #[arg(long)]
    policy: Option<PathBuf>,
}

/// Two versions and a log.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The version before
    before: PathBuf,
    /// The version after
    after: PathBuf,
    /// Past requests, as a table of scenarios
    #[arg(long)]
    log: PathBuf,
}

fn scenarios(shelf: &Shelf, file: &Path) -> Result<Vec<Scenario>, Failure> {
    let read = scenario::read(&read_text(file, MAX_SCENARIO_BYTES)?, &shelf.profiles)?;
    if read.is_empty() {
        return Err(Failure::usage(format!("`{}` has no scenario", file.display()), "write at least one"));
    }
    Ok(read)
}

fn policy_beside(table: &Path) -> Result<PathBuf, Failure> {
    let name = table.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.split_once(".scenarios.").map(|(stem, _)| stem);
    let beside = stem.and_then(|stem| {
        let candidates =
            ["json", "jsonld", "ttl"].map(|ending| table.with_file_name(format!("{stem}.{ending}")));
        candidates.into_iter().find(|candidate| candidate.is_file())
    });
    beside.ok_or_else(|| {
        let text = format!("no policy lies beside `{}`", table.display());
        Failure::usage(text, "name the table POLICY.scenarios.json, or give --policy")
    })
}

pub(super) fn test(shelf: &Shelf, args: &TestArgs) -> Result<(), Failure> {
    let scenarios = scenarios(shelf, &args.file)?;
    let beside = match &args.policy {
        Some(policy) => policy.clone(),
        None => policy_beside(&args.file)?,
    };
    let results = scenario::run(&shelf.load(&beside)?, &scenarios);
    shelf.output.list(
        &results,
        ["", "scenario", "answer", "expected", "code"],
        |result| {
            let mark = if result.passed { "ok" } else { "FAILED" };
            let expected = result.expected.unwrap_or("-");
            [
                mark.into(),
                result.name.clone(),
                result.outcome.into(),
                expected.into(),
                result.code.unwrap_or("").into(),
            ]
        },
        "",
    )?;
    let failed: Vec<&str> =
        results.iter().filter(|result| !result.passed).map(|result| result.name.as_str()).collect();
    if failed.is_empty() {
        shelf.output.note(&format!("{} scenarios as expected", results.len()));
        return Ok(());
    }
    Err(Failure {
        code: "policy/scenario-failed".into(),
        text: format!("{} of {} scenarios came out otherwise than expected", failed.len(), results.len()),
        detail: failed.join(", "),
        next: "`fairlead policy explain` tells why; correct the policy or the expectation".into(),
        exit: exit::REFUSED_BY_POLICY,
    })
}

pub(super) fn simulate(shelf: &Shelf, args: &SimulateArgs) -> Result<(), Failure> {
    let scenarios = scenarios(shelf, &args.log)?;
    let changed = scenario::simulate(&shelf.load(&args.before)?, &shelf.load(&args.after)?, &scenarios);
    shelf.output.list(
        &changed,
        ["request", "before", "after", "code"],
        |one| [one.name.clone(), one.before.into(), one.after.into(), one.code.unwrap_or("").into()],
        "",
    )?;
    shelf.output.note(&format!("{} of {} requests come out differently", changed.len(), scenarios.len()));
    Ok(())
}
