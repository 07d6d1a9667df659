//! `cargo xtask refusals`: `docs/refusals.md` from the codes that stand beside the checks in the sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::tidy::{SourceFile, rust_files};

const PAGE: &str = "docs/refusals.md";
const MACRO: &str = "refusal_codes! {";

/// Whose move it is, as the codes name it, with the sentence for people.
const FAULTS: &[(&str, &str)] = &[
    ("Input", "the sender must change the message, file or argument"),
    ("Policy", "a policy, agreement or rule says no"),
    ("Identity", "the caller is not who it must be"),
    ("State", "the process is not in a state that allows it"),
    ("NotFound", "it does not exist, or the caller may not know"),
    ("Limit", "a bound was hit"),
    ("Unavailable", "something is down or busy; try again later"),
    ("Ours", "our own failure"),
];

/// Writes the page, or with `check` only compares it.
pub fn run(root: &Path, check: bool) -> anyhow::Result<String> {
    let codes = all_codes(&rust_files(root)?)?;
    let page = page(&codes);
    let path = root.join(PAGE);
    if fs::read_to_string(&path).is_ok_and(|present| present == page) {
        return Ok(format!("refusals: {PAGE} is up to date with {} codes", codes.len()));
    }
    if check {
        bail!("{PAGE} is not what the sources say; run `cargo xtask refusals`");
    }
    fs::create_dir_all(path.parent().context("docs/ is below the root")?)?;
    fs::write(&path, page).with_context(|| format!("write {PAGE}"))?;
    Ok(format!("refusals: wrote {} codes to {PAGE}", codes.len()))
}

/// One code with its texts.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    fault: String,
    en: String,
    zh_hant: String,
    zh_hans: String,
    clause: String,
    next: String,
    source: String,
}

fn all_codes(files: &[SourceFile]) -> anyhow::Result<BTreeMap<String, Entry>> {
    let mut codes: BTreeMap<String, Entry> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.path.starts_with("xtask/")) {
        let sources = file.without_tests();
        for block in sources.split(MACRO).skip(1) {
            for (code, entry) in block_codes(block, &file.path)? {
                ensure!(is_code(&code), "{}: `{code}` is not area/kebab-case", file.path);
                let source = entry.source.clone();
                if let Some(other) = codes.insert(code.clone(), entry) {
                    bail!("`{code}` stands in {} and in {source}", other.source);
                }
            }
        }
    }
    Ok(codes)
}

fn is_code(code: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    code.split_once('/').is_some_and(|(area, rest)| word(area) && word(rest))
}

/// A token of the little language in the macro.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

/// The codes of one macro call; `block` starts behind its opening brace.
fn block_codes(block: &str, source: &str) -> anyhow::Result<Vec<(String, Entry)>> {
    let mut tokens = tokens(block)?.into_iter();
    let mut codes = Vec::new();
    while let Some(Token::Word(name)) = tokens.next() {
        let mut expect = |wanted: &str| -> anyhow::Result<String> {
            match (wanted, tokens.next()) {
                ("text", Some(Token::Text(text))) | ("fault", Some(Token::Word(text))) => Ok(text),
                (mark, Some(Token::Mark(found))) if mark.starts_with(found) => Ok(String::new()),
                (word, Some(Token::Word(found))) if word == found => Ok(String::new()),
                (wanted, found) => bail!("{source}: {name}: expected {wanted}, found {found:?}"),
            }
        };
        let mut fields = Vec::new();
        for wanted in [
            "=", "text", ",", "fault", ",", "text", ",", "text", ",", "text", ",", "clause", "text", ",",
            "next", "text", ";",
        ] {
            let field = expect(wanted)?;
            if ["text", "fault"].contains(&wanted) {
                fields.push(field);
            }
        }
        let [code, fault, en, zh_hant, zh_hans, clause, next] =
            <[String; 7]>::try_from(fields).ok().context("a code has seven fields")?;
        codes.push((code, Entry { fault, en, zh_hant, zh_hans, clause, next, source: source.to_owned() }));
    }
    Ok(codes)
}

/// Tokens up to the brace that closes the macro call.
fn tokens(block: &str) -> anyhow::Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = block.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '}' {
            return Ok(tokens);
        }
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            let end = text_end(rest).context("a text does not end")?;
            // The escapes of Rust that the texts use are those of JSON.
            tokens.push(Token::Text(
                serde_json::from_str(rest.get(..end).unwrap_or_default()).context("read a text")?,
            ));
            end
        } else if first.is_ascii_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest.get(..end).unwrap_or_default().to_owned()));
            end
        } else {
            tokens.push(Token::Mark(first));
            first.len_utf8()
        };
        rest = rest.get(end..).unwrap_or_default().trim_start();
    }
    bail!("a list of refusal codes does not end")
}

/// The length of the quoted text at the start of `rest`, quotes included.
fn text_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index.checked_add(1),
            _ => {}
        }
    }
    None
}

fn page(codes: &BTreeMap<String, Entry>) -> String {
    let mut page = String::from(
        "# Refusals\n\n\
         Written by `cargo xtask refusals` from the codes beside the checks; do not edit. A code never changes its meaning.\n\
         The same code appears in logs, on the command line (`--json`: `code`), in gRPC status details and in DSP's `code`.\n\
         A stranger only hears `refused`; an authenticated peer hears code and clause; facts of our side stay in our log.\n",
    );
    let mut area = "";
    for (code, entry) in codes {
        let here = code.split_once('/').map_or(code.as_str(), |(area, _)| area);
        if here != area {
            area = here;
            let _ = write!(page, "\n## {area}\n");
        }
        let fault = FAULTS
            .iter()
            .find(|(name, _)| *name == entry.fault)
            .map_or(entry.fault.as_str(), |(_, text)| text);
        let _ = write!(
            page,
            "\n### `{code}`\n\n{}\n\n繁：{}  \n简：{}\n\n- Rests on: {}\n- Whose move: {fault}\n- Next: {}\n",
            sentence(&entry.en),
            entry.zh_hant,
            entry.zh_hans,
            entry.clause,
            entry.next
        );
    }
    page
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), characters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn example(code: &str) -> String {
        format!(
            "policy::{MACRO}\n    // why\n    NAME = \"{code}\", Input,\n \"says \\\"no\\\"; really\", \"繁\",\n \"简\",\n clause \"DSP, 1\", next \"ask\";\n}}\n"
        )
    }

    #[test]
    fn codes_become_entries() {
        let test_codes = format!("#[cfg(test)]\nmod tests {{\n{}\n}}", example("test/only"));
        let codes =
            all_codes(&[file("crates/a/src/lib.rs", &(example("area/some-thing") + &test_codes))]).unwrap();
        assert_eq!(codes.keys().collect::<Vec<_>>(), ["area/some-thing"]);
        let page = page(&codes);
        for part in [
            "\n## area\n",
            "### `area/some-thing`",
            "Says \"no\"; really.",
            "繁：繁  \n简：简",
            "- Rests on: DSP, 1\n",
            "- Next: ask\n",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }

    #[test]
    fn doubles_odd_codes_and_broken_lists_are_refused() {
        let doubles =
            [file("crates/a/src/lib.rs", &example("a/b")), file("crates/b/src/lib.rs", &example("a/b"))];
        let cases: [(&[SourceFile], &str); 4] = [
            (&doubles, "`a/b` stands in crates/a/src/lib.rs and in crates/b/src/lib.rs"),
            (&[file("crates/a/src/lib.rs", &example("a/B"))], "`a/B` is not area/kebab-case"),
            (&[file("crates/a/src/lib.rs", &example("ab"))], "`ab` is not area/kebab-case"),
            (
                &[file("crates/a/src/lib.rs", &format!("{MACRO} NAME = 3;}}"))],
                "expected text, found Some(Word(\"3\"))",
            ),
        ];
        for (files, expected) in cases {
            let error = all_codes(files).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
