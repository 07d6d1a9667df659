//! What came out, held against what must: the exact set of tests, none failed, none missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// The tests that must pass, one a line.
const EXPECTED: &str = include_str!("../expected.txt");
/// The line with which the runner ends.
const SUMMARY: &str = "kit: 65 passed, 0 failed, 2 skipped, 0 containers failed";

/// The outcome of a run.
pub struct Verdict {
    /// Names with what they are about.
    passed: BTreeMap<String, String>,
    /// Names of failed tests.
    failed: BTreeSet<String>,
    summary: String,
}

impl Verdict {
    /// Reads what the kit printed.
    pub fn of(lines: &[String]) -> Self {
        let mut about = BTreeMap::new();
        let mut verdict = Self { passed: BTreeMap::new(), failed: BTreeSet::new(), summary: String::new() };
        for line in lines {
            if let Some((_, started)) = line.split_once("Started: ") {
                let (name, what) = started.split_once(": ").unwrap_or((started, ""));
                about.insert(name.to_owned(), what.to_owned());
            } else if let Some((_, name)) = line.split_once("SUCCESSFUL: ") {
                verdict.passed.insert(name.to_owned(), about.get(name).cloned().unwrap_or_default());
            } else if let Some((_, name)) = line.split_once("FAILED: ") {
                verdict.failed.insert(name.to_owned());
            } else if line.starts_with("kit: ") && line.contains(" passed, ") {
                verdict.summary.clone_from(line);
            }
        }
        verdict
    }

    /// Whether at least one test passed, and nothing failed: what can be said of a part of the kit.
    pub fn some_and_only_passed(&self) -> bool {
        !self.passed.is_empty()
            && self.failed.is_empty()
            && self.summary.contains(" 0 failed, ")
            && self.summary.ends_with(" 0 containers failed")
    }

    fn holds(&self) -> bool {
        let expected: BTreeSet<&str> = EXPECTED.lines().collect();
        let passed: BTreeSet<&str> = self.passed.keys().map(String::as_str).collect();
        self.failed.is_empty() && passed == expected && self.summary == SUMMARY
    }

    /// Writes the page, or with `check` holds it against what came out; fails unless everything passed.
    pub fn write(&self, page: &Path, check: bool) -> ExitCode {
        if !self.holds() {
            let expected: BTreeSet<&str> = EXPECTED.lines().collect();
            let missing: Vec<&str> =
                expected.into_iter().filter(|name| !self.passed.contains_key(*name)).collect();
            println!("did not pass: {}", missing.join(" "));
            return ExitCode::FAILURE;
        }
        let text = self.page();
        if check {
            if std::fs::read_to_string(page).is_ok_and(|there| there == text) {
                return ExitCode::SUCCESS;
            }
            println!("{} is not what came out: run `cargo xtask conformance`", page.display());
            return ExitCode::FAILURE;
        }
        std::fs::write(page, text).expect("the page is written");
        ExitCode::SUCCESS
    }

    fn page(&self) -> String {
        let mut page = String::from(
            "# Conformance\n\n`cargo xtask conformance` runs the public Dataspace TCK (1.0.0-RC6, Dataspace Protocol 2025-1) against\n\
             the connector as it is built for people, and writes this page. It fails unless exactly these tests pass; the kit\n\
             itself disables two more (TP:02-04 and TP_C:02-04). It needs Java 17 and Maven, which README's two commands do not.\n\n\
             Everything that the kit asks of a connector beyond the protocol (datasets, agreements, a person who decides by a\n\
             script) is played by `tests/conformance` through the command line.\n\n\
             | Test | About | |\n|---|---|---|\n",
        );
        for (name, about) in &self.passed {
            writeln!(page, "| {name} | {about} | passed |").expect("text grows");
        }
        page
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.failed {
            writeln!(out, "failed {name}")?;
        }
        out.write_str(self.summary.trim_start_matches("kit: "))
    }
}
