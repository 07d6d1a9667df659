//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy can hold, all problems at once.

mod crates;
mod documents;
mod refusals;
mod sources;

use std::path::Path;

use anyhow::bail;

/// What the rules found.
#[derive(Default)]
struct Findings {
    /// These fail the task.
    problems: Vec<String>,
    /// These are told.
    warnings: Vec<String>,
}

impl Findings {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

/// Applies every rule to the workspace at `root`.
pub fn run(root: &Path) -> anyhow::Result<String> {
    let mut findings = Findings::default();
    crates::check(root, &mut findings)?;
    let files = sources::rust_files(root)?;
    sources::check(&files, &mut findings);
    refusals::check(root, &files, &mut findings);
    documents::check(root, &mut findings)?;
    let warnings: String = findings.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    if findings.problems.is_empty() {
        return Ok(format!("{warnings}tidy: the house is in order"));
    }
    let count = findings.problems.len();
    bail!("{warnings}{}\ntidy: {count} problems", findings.problems.join("\n"));
}
