//! `cargo xtask bench policy`: builds benches/policy, a workspace of its own because it brings Cedar, and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

/// How the policy engine is measured.
#[derive(Args)]
pub struct PolicyArgs {
    /// Print one JSON object a line: `figure`, `value`, `unit`, and the spread
    #[arg(long)]
    json: bool,
}

/// Runs the measurement; its output goes where ours goes.
pub fn run(root: &Path, arguments: &PolicyArgs) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--locked", "--quiet", "--manifest-path"]);
    command.arg(root.join("benches/policy/Cargo.toml")).arg("--").args(arguments.json.then_some("--json"));
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}
