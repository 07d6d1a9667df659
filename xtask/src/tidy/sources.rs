//! Rules for source files: their size, what tests may not do, and what pure crates may not call.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Findings;

/// Longer files hold more than one thing.
const MAX_LINES: usize = 1_000;

/// A file that grows beyond this will soon be too long.
const WARN_LINES: usize = 800;

/// Folders with our sources.
const FOLDERS: &[&str] = &["crates", "tests", "xtask"];

/// Written by `cargo xtask codegen`, hence of any length.
const GENERATED: &str = "crates/proto/src/gen/";

/// Never, anywhere. The texts are cut in two so that this file does not find itself.
const NEVER: &[(&str, &str)] = &[
    (concat!("to", "do!("), "nothing is left for later"),
    (concat!("unimple", "mented!("), "nothing is left for later"),
    (concat!("#[ig", "nore"), "a test runs or does not exist"),
];

/// Never in tests: they wait for the condition, not for the clock.
const NEVER_IN_TESTS: &[(&str, &str)] =
    &[(concat!("sle", "ep("), "a test waits for a condition, not for the clock")];

/// Where the tests of running processes wait for a condition by asking again and again; the one place with a pause.
const POLLING: &[&str] = &["tests/src/wait.rs"];

/// Sources of the pure crates, and what they may not call: they get time, chance and bytes as arguments.
const PURE_FOLDERS: &[&str] =
    &["crates/policy/src/", "crates/control-plane/src/", "crates/ledger/src/", "crates/compliance/src/"];
const NEVER_IN_PURE: &[(&str, &str)] = &[
    ("SystemTime", "a pure crate has no clock"),
    ("Instant::now", "a pure crate has no clock"),
    ("Timestamp::now", "a pure crate has no clock"),
    ("Zoned::now", "a pure crate has no clock"),
    ("std::fs", "a pure crate reads and writes nothing"),
    ("std::net", "a pure crate has no sockets"),
    ("std::env", "a pure crate sees no environment"),
    ("std::process", "a pure crate starts nothing"),
    ("std::thread", "a pure crate has no threads"),
    ("BlankNode::default", "a pure crate has no randomness"),
    ("RandomState", "a pure crate has no randomness"),
    ("async fn", "a pure crate waits for nothing"),
];

pub fn check(files: &[SourceFile], findings: &mut Findings) {
    let test_modules = test_modules(files);
    for file in files {
        check_file(file, test_modules.contains(&file.module()), findings);
    }
}

/// A source file by its path from the root, with `/`.
pub struct SourceFile {
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// The path without extension, as a `mod` declaration means it.
    pub fn module(&self) -> String {
        let path = self.path.trim_end_matches(".rs");
        path.strip_suffix("/mod").unwrap_or(path).to_owned()
    }

    /// The text up to the test module at its end.
    pub fn without_tests(&self) -> &str {
        self.text.find("#[cfg(test)]\nmod tests {").and_then(|end| self.text.get(..end)).unwrap_or(&self.text)
    }

    /// The folder in which the modules that this file declares lie.
    fn below(&self) -> String {
        match self.path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder.to_owned(),
            _ => self.module(),
        }
    }
}

/// Every Rust file of ours that people write.
pub fn rust_files(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut paths)?;
    }
    let mut files = Vec::new();
    for path in paths {
        let name = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
        if !name.starts_with(GENERATED) {
            let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
            files.push(SourceFile { path: name, text });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let built = path.file_name().is_some_and(|name| name == "target");
        if path.is_dir() && !built {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The modules that exist only in tests because their declaration says so.
pub fn test_modules(files: &[SourceFile]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for file in files {
        let lines: Vec<_> = file.text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            if let [attribute, declaration] = pair
                && attribute.starts_with("#[cfg(test)]")
                && let Some(name) = declaration.strip_suffix(';').and_then(|line| line.rsplit_once("mod "))
            {
                modules.insert(format!("{}/{}", file.below(), name.1));
            }
        }
    }
    modules
}

fn check_file(file: &SourceFile, test_module: bool, findings: &mut Findings) {
    let path = &file.path;
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        findings.problem(format!("{path}: {lines} lines, at most {MAX_LINES}"));
    } else if lines > WARN_LINES {
        findings.warnings.push(format!("{path}: {lines} lines, soon too long"));
    }
    let pure = PURE_FOLDERS.iter().any(|folder| path.starts_with(folder));
    let polling = POLLING.contains(&path.as_str());
    let mut in_tests = test_module || path.starts_with("tests/") || path.contains("/tests/");
    let mut previous = "";
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        // A test module at the end of a file; what follows is test.
        in_tests |= previous.starts_with("#[cfg(test)]") && line.starts_with("mod ") && line.ends_with('{');
        previous = line;
        if line.starts_with("//") {
            continue;
        }
        let mut forbid = |rules: &[(&str, &str)]| {
            for (text, reason) in rules.iter().filter(|(text, _)| line.contains(text)) {
                findings.problem(format!("{path}:{}: `{text}`: {reason}", index.saturating_add(1)));
            }
        };
        forbid(NEVER);
        if in_tests && !polling {
            forbid(NEVER_IN_TESTS);
        }
        if pure && !in_tests {
            forbid(NEVER_IN_PURE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let files = [
            SourceFile {
                path: "crates/policy/src/lib.rs".to_owned(),
                text: "#[cfg(test)]\nmod naive;\n".to_owned(),
            },
            SourceFile { path: path.to_owned(), text: text.to_owned() },
        ];
        let test_modules = test_modules(&files);
        let mut findings = Findings::default();
        for file in &files {
            check_file(file, test_modules.contains(&file.module()), &mut findings);
        }
        assert_eq!(findings.problems, expected, "{path}\n{text}");
    }

    #[test]
    fn rules() {
        let pause = concat!("    tokio::time::sle", "ep(d).await;");
        let inline = format!("fn f() {{\n{pause}\n}}\n#[cfg(test)]\nmod tests {{\n{pause}\n}}\n");
        let found = concat!("`sle", "ep(`: a test waits for a condition, not for the clock");
        check("crates/store/src/a.rs", &inline, &[&format!("crates/store/src/a.rs:6: {found}")]);
        check("crates/store/tests/a.rs", pause, &[&format!("crates/store/tests/a.rs:1: {found}")]);
        check("crates/policy/src/naive.rs", pause, &[&format!("crates/policy/src/naive.rs:1: {found}")]);
        check("tests/src/wait.rs", pause, &[]);
        check("tests/src/lib.rs", &format!("// {pause}"), &[]);

        check(
            "crates/policy/src/a.rs",
            "use std::fs;",
            &["crates/policy/src/a.rs:1: `std::fs`: a pure crate reads and writes nothing"],
        );
        check("crates/policy/src/naive.rs", "use std::env;", &[]);
        check("crates/store/src/a.rs", "use std::fs;", &[]);

        let later = concat!("fn f() { to", "do!() }");
        check(
            "xtask/src/a.rs",
            later,
            &[concat!("xtask/src/a.rs:1: `to", "do!(`: nothing is left for later")],
        );
        let skipped = concat!("#[ig", "nore = \"slow\"]");
        check(
            "tests/src/a.rs",
            skipped,
            &[concat!("tests/src/a.rs:1: `#[ig", "nore`: a test runs or does not exist")],
        );
    }

    #[test]
    fn long_files() {
        check("crates/store/src/a.rs", &"\n".repeat(MAX_LINES), &[]);
        check(
            "crates/store/src/a.rs",
            &"\n".repeat(MAX_LINES + 1),
            &["crates/store/src/a.rs: 1001 lines, at most 1000"],
        );
    }
}
