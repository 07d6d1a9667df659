//! Pages that must stay true: every crate has its row in ARCHITECTURE.md.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::Findings;

pub fn check(root: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    match fs::read_to_string(root.join("ARCHITECTURE.md")) {
        Ok(map) => crates_on_the_map(root, &map, findings)?,
        Err(error) => findings.problem(format!("ARCHITECTURE.md: {error}")),
    }
    Ok(())
}

fn crates_on_the_map(root: &Path, map: &str, findings: &mut Findings) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join("crates")).context("read crates/")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !map.contains(&format!("`{name}`")) {
            findings.problem(format!("ARCHITECTURE.md does not say what `{name}` is for"));
        }
    }
    Ok(())
}
