//! Every refusal code is documented, once, in three languages.

use std::collections::BTreeSet;
use std::path::Path;

use connector::refusals;

#[test]
fn codes_are_distinct_and_well_formed() {
    let mut seen = BTreeSet::new();
    for code in refusals::all() {
        assert!(seen.insert(code.code), "`{}` is declared twice", code.code);
        let (area, name) = code.code.split_once('/').expect("area/kebab-case");
        let kebab = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        assert!(kebab(area) && kebab(name), "`{}` is not area/kebab-case", code.code);
        for text in [code.en, code.zh_hant, code.zh_hans, code.clause, code.next] {
            assert!(!text.trim().is_empty() && !text.contains('|'), "`{}` lacks a text", code.code);
        }
    }
}

#[test]
fn the_page_lists_them_all() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals.md");
    let document = refusals::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &document).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == document,
        "docs/refusals.md is stale: UPDATE_DOCS=1 cargo test -p connector --test refusals"
    );
}
