//! `cargo xtask bench path|usage`: builds the program and its measurement as they are released, and runs the measurement.
//!
//! The measurement itself is the bench target `federation` of the connector (crates/connector/benches/federation).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde::Deserialize;

/// What can be measured.
#[derive(Subcommand)]
pub enum Bench {
    /// Negotiation, pull, stream and use between real processes on this machine
    Path(SpaceArgs),
    /// What enforcement after delivery costs, and how soon revocations and dates stop bytes
    Usage(SpaceArgs),
    /// Decisions, explanation, compilation and comparison of policies, with Cedar beside them
    Policy(crate::bench_policy::PolicyArgs),
}

/// How a data space of real processes is measured.
#[derive(Args)]
pub struct SpaceArgs {
    /// Print one JSON object a line: `figure`, `value`, `unit`, and the spread
    #[arg(long)]
    json: bool,
    /// Few rounds and little data: to see that it runs, not to measure
    #[arg(long)]
    short: bool,
    /// The folder whose disk is measured; default: cargo's target folder
    #[arg(long, value_name = "DIR")]
    on: Option<PathBuf>,
}

/// Runs a measurement; its output goes where ours goes.
pub fn run(root: &Path, bench: &Bench) -> anyhow::Result<()> {
    let (what, arguments) = match bench {
        Bench::Path(arguments) => ("path", arguments),
        Bench::Usage(arguments) => ("usage", arguments),
        Bench::Policy(arguments) => return crate::bench_policy::run(root, arguments),
    };
    let built = build(root)?;
    let named = |name: &str| {
        let mut executables = built.iter().filter(|artifact| artifact.target.name == name);
        executables
            .find_map(|artifact| artifact.executable.as_deref())
            .with_context(|| format!("cargo built no `{name}`"))
    };
    let (program, measurement) = (named("fairlead")?, named("federation")?);
    let disk = match &arguments.on {
        Some(folder) => folder.as_path(),
        None => program.parent().and_then(Path::parent).context("a program lies in target/release")?,
    };
    // Not made here: the measurement makes and removes it. Its name keeps two runs apart.
    let folder = disk.join(format!("bench-{what}-{}", std::process::id()));
    let mut command = Command::new(measurement);
    command.arg(what).arg("--program").arg(program).arg("--dir").arg(&folder);
    command.args(arguments.json.then_some("--json")).args(arguments.short.then_some("--short"));
    let status = command.status().context("start the measurement")?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}

/// One line of cargo's JSON; what is not an artifact has no target.
#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds program and measurement in the release profile; what cargo has to say goes to standard error.
fn build(root: &Path) -> anyhow::Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    // Apart, so that the program is what `cargo build --release` gives people.
    for target in [["--bin", "fairlead"], ["--bench", "federation"]] {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--package",
                "connector",
                "--message-format",
                "json-render-diagnostics",
            ])
            .args(target)
            .current_dir(root)
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("start cargo")?;
        if !output.status.success() {
            bail!("the release build failed");
        }
        let lines = String::from_utf8(output.stdout).context("cargo writes UTF-8")?;
        artifacts.extend(lines.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()));
    }
    Ok(artifacts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let cases = [
            (r#"{"reason":"build-finished","success":true}"#, None),
            (
                r#"{"reason":"compiler-artifact","target":{"name":"proto"},"executable":null}"#,
                Some(("proto", None)),
            ),
            (
                r#"{"reason":"compiler-artifact","target":{"name":"path"},"executable":"/t/release/deps/path-1"}"#,
                Some(("path", Some("/t/release/deps/path-1"))),
            ),
        ];
        for (line, expected) in cases {
            let read = serde_json::from_str::<Artifact>(line).ok();
            let read = read.as_ref().map(|artifact| {
                (artifact.target.name.as_str(), artifact.executable.as_deref().and_then(Path::to_str))
            });
            assert_eq!(read, expected, "{line}");
        }
    }
}
