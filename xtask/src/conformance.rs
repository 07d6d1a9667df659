//! `cargo xtask conformance`: fetches the public conformance kit of the Dataspace Protocol and runs it against the
//! connector as it is built for people.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

/// How the kit is run.
#[derive(Args)]
pub struct Conformance {
    /// Run only tests whose name begins so, e.g. CN:01-0; writes no page
    #[arg(long, value_name = "PREFIX")]
    only: Option<String>,
    /// Hold docs/conformance.md against what comes out instead of writing it
    #[arg(long)]
    check: bool,
    /// Where the kit's libraries are kept (19 MB); below cargo's target folder if left out
    #[arg(long, value_name = "DIR", env = "FAIRLEAD_KIT")]
    kit: Option<PathBuf>,
}

/// Fetches, builds, runs; what the kit says goes where ours goes.
pub fn run(root: &Path, arguments: &Conformance) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let home = root.join("tests/conformance");
    let libraries = arguments.kit.clone().unwrap_or_else(|| target.join("conformance-kit"));
    // Maven and the harness work in other folders.
    let libraries = std::path::absolute(&libraries).with_context(|| libraries.display().to_string())?;
    fetch(&home, &libraries)?;
    let built = Command::new(&cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--bin", "fairlead", "--bin", "conformance"])
        .status()
        .context("start cargo")?;
    ensure!(built.success(), "the build ended with {built}");
    let programs = target.join("debug");
    let mut harness = Command::new(programs.join("conformance"));
    harness
        .env("FAIRLEAD_UNDER_TEST", programs.join("fairlead"))
        .arg(&libraries)
        .arg(home.join("kit/RunKit.java"))
        .arg(root.join("docs/conformance.md"))
        .args(arguments.check.then_some("--check"));
    if let Some(prefix) = &arguments.only {
        harness.args(["--only", prefix]);
    }
    let outcome = harness.status().context("start the harness")?;
    ensure!(outcome.success(), "the connector does not conform");
    Ok(match &arguments.only {
        Some(prefix) => format!("conformance: the tests that begin with `{prefix}` have passed"),
        None => "conformance: every test of the kit that is not disabled by itself has passed".to_owned(),
    })
}

/// The kit's libraries by Maven, unless they are there.
fn fetch(home: &Path, libraries: &Path) -> anyhow::Result<()> {
    let pom = home.join("kit/pom.xml");
    let mark = libraries.join("pom.xml");
    let wanted = std::fs::read(&pom).with_context(|| pom.display().to_string())?;
    if std::fs::read(&mark).is_ok_and(|fetched| fetched == wanted) {
        return Ok(());
    }
    clear(libraries)?;
    let fetched = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg("--file")
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", libraries.display()))
        .status();
    match fetched {
        Ok(status) => ensure!(status.success(), "Maven could not fetch the kit: {status}"),
        Err(error) => {
            bail!("start mvn: {error}; the kit needs Java 17 and Maven (Debian: default-jdk-headless maven)")
        }
    }
    // Last, so that an interrupted fetch is repeated.
    std::fs::write(&mark, wanted).with_context(|| mark.display().to_string())
}

/// Removes the libraries of an earlier kit: what lies beside the new ones would be loaded as well. Everything else in the
/// folder stays.
fn clear(libraries: &Path) -> anyhow::Result<()> {
    let listed = match std::fs::read_dir(libraries) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| libraries.display().to_string()),
    };
    for file in listed {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
