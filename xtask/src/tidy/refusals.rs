//! Refusal codes: each stands once in the sources, in the right form, and in docs/refusals.md.
//!
//! The page is written by a test of the connector from the typed lists; this rule reads the sources themselves, and so
//! notices a list that was forgotten there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::Findings;
use super::sources::{SourceFile, test_modules};

const PAGE: &str = "docs/refusals.md";

/// The last words of a declaration's head: `NAME = "area/what", Fault,`.
const FAULTS: &[&str] = &["Input", "Policy", "Identity", "State", "NotFound", "Limit", "Unavailable", "Ours"];

pub fn check(root: &Path, files: &[SourceFile], findings: &mut Findings) {
    let codes = codes(files, findings);
    let page = match fs::read_to_string(root.join(PAGE)) {
        Ok(page) => page,
        Err(error) => return findings.problem(format!("{PAGE}: {error}")),
    };
    for (code, place) in codes {
        if !page.contains(&format!("`{code}`")) {
            findings.problem(format!("{place}: {PAGE} does not list `{code}`"));
        }
    }
}

/// Every code with the first place that declares it.
fn codes(files: &[SourceFile], findings: &mut Findings) -> BTreeMap<String, String> {
    let mut codes = BTreeMap::new();
    let of_tests = test_modules(files);
    for file in
        files.iter().filter(|file| file.path.starts_with("crates/") && !of_tests.contains(&file.module()))
    {
        for (index, line) in file.without_tests().lines().enumerate() {
            let Some(code) = declared(line) else { continue };
            let place = format!("{}:{}", file.path, index.saturating_add(1));
            if !is_code(code) {
                findings.problem(format!("{place}: `{code}` is not area/kebab-case"));
            }
            if let Some(earlier) = codes.get(code) {
                findings.problem(format!("{place}: `{code}` stands in {earlier}, too"));
            } else {
                codes.insert(code.to_owned(), place);
            }
        }
    }
    codes
}

/// The code that a line of a `refusal_codes!` list declares.
fn declared(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().split_once(" = \"")?;
    let (code, rest) = rest.split_once("\", ")?;
    let fault = rest.split(',').next()?.trim();
    let named = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (named && FAULTS.contains(&fault)).then_some(code)
}

fn is_code(code: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    code.split_once('/').is_some_and(|(area, rest)| word(area) && word(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn found(page: Option<&str>, files: &[SourceFile]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        if let Some(page) = page {
            fs::create_dir(root.path().join("docs")).unwrap();
            fs::write(root.path().join(PAGE), page).unwrap();
        }
        let mut findings = Findings::default();
        check(root.path(), files, &mut findings);
        findings.problems
    }

    #[test]
    fn doubles_odd_codes_and_unlisted_ones_are_found() {
        let list = "policy::refusal_codes! {\n    GONE = \"use/gone\", State,\n        \"it, is = gone\", \"b\", \"c\",\n}\n";
        let one = file("crates/a/src/lib.rs", list);
        assert_eq!(found(Some("| `use/gone` |"), std::slice::from_ref(&one)), Vec::<String>::new());
        assert_eq!(
            found(Some("`use/other`"), std::slice::from_ref(&one)),
            ["crates/a/src/lib.rs:2: docs/refusals.md does not list `use/gone`",]
        );
        let odd = file(
            "crates/b/src/lib.rs",
            "A = \"use/gone\", Ours, \"a\",\nB = \"useGone\", Ours,\n#[cfg(test)]\nmod tests {\nC = \"test\", Ours,\n}",
        );
        assert_eq!(
            found(Some("`use/gone` `useGone`"), &[one, odd]),
            [
                "crates/b/src/lib.rs:1: `use/gone` stands in crates/a/src/lib.rs:2, too",
                "crates/b/src/lib.rs:2: `useGone` is not area/kebab-case",
            ]
        );
        let tested = file("crates/c/src/lib.rs", "#[cfg(test)]\nmod trial;");
        let trial = file("crates/c/src/trial.rs", list);
        assert_eq!(found(Some(""), &[tested, trial]), Vec::<String>::new());
        assert!(found(None, &[]).iter().any(|problem| problem.starts_with("docs/refusals.md: ")));
    }
}
