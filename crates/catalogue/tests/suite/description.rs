//! Descriptions: what is read from good ones, and that bad ones name every problem at once.

use std::collections::{BTreeMap, BTreeSet};

use catalogue::description::{
    AccessRights, MAX_BYTES, MAX_STATEMENTS, ObjectFacts, OfferProblem, OfferReader, read_canonical,
    read_turtle, read_turtle_derived,
};
use catalogue::hash::Digest;
use catalogue::report::{Report, Severity, WRONG_TARGET};
use catalogue::scope::PublisherScope;
use catalogue::text::Language;
use catalogue::{Refusal, UnixMillis};
use oxrdf::{NamedNode, Triple};
use proptest::prelude::*;

use crate::support::{MANY_PROBLEMS, PlainOffers, TIDE, WATER, dataset, estuary, harbour, published, small};

fn read(turtle: &str, scope: &PublisherScope) -> Result<catalogue::description::Publication, Report> {
    read_turtle(turtle, scope, &PlainOffers, &BTreeMap::new())
}

/// `severity code focus path` of every problem, with the harbour's base cut off.
fn lines(report: &Report) -> Vec<String> {
    let line = |problem: &catalogue::report::Problem| {
        let severity = if problem.severity == Severity::Violation { "!" } else { "?" };
        let focus = problem.focus.replace("https://harbour.example/id/", "");
        let code = problem.code.code.trim_start_matches("catalogue/");
        format!("{severity} {code} {focus} {}", problem.path)
    };
    report.problems().iter().map(line).collect()
}

#[test]
fn lineage_is_stated_and_read_back() {
    let stated = "<https://harbour.example/id/tide> <http://www.w3.org/ns/prov#wasDerivedFrom> \"a chart\", \
                  <https://third.example/d> .";
    let origins = BTreeSet::from(["https://other.example/d".to_owned()]);
    for (text, expected) in [
        (TIDE.to_owned(), vec!["https://other.example/d"]),
        (format!("{TIDE}\n{stated}"), vec!["https://other.example/d", "https://third.example/d"]),
    ] {
        let read = read_turtle_derived(&text, &harbour(), &PlainOffers, &BTreeMap::new(), &origins).unwrap();
        assert_eq!(read.description.derived_from.iter().collect::<Vec<_>>(), expected);
        let again = read_canonical(&read.content, &dataset("tide"), &harbour()).unwrap();
        assert_eq!(again, read.description);
    }
    assert!(published(TIDE, &harbour()).description.derived_from.is_empty());
}

#[test]
fn a_good_description_is_read_whole() {
    let publication = published(TIDE, &harbour());
    let description = &publication.description;
    assert_eq!(description.dataset, dataset("tide"));
    assert_eq!(description.identifier, "tide-2010-2025");
    assert_eq!(description.titles.get(&Language::ZhHant), Some("海港潮汐站 2010-2025"));
    assert_eq!(description.descriptions.iter().count(), 3);
    assert_eq!(description.keywords.len(), 5);
    assert_eq!(description.access_rights, AccessRights::Restricted);
    assert_eq!(description.modified, UnixMillis::parse_rfc3339("2026-03-01T08:00:00Z").unwrap());
    let [distribution] = description.distributions.as_slice() else { panic!("one distribution") };
    assert_eq!(distribution.media_type.as_deref(), Some("text/csv"));
    assert_eq!((distribution.byte_size, distribution.sha256), (None, None));
    let [offer] = description.offers.as_slice() else { panic!("one offer") };
    assert_eq!(offer.hash, Digest::of(offer.text.as_bytes()));
    assert!(offer.text.contains(r#""@id":"https://harbour.example/id/tide-offer""#), "{}", offer.text);
    assert_eq!(offer.purposes.iter().collect::<Vec<_>>(), ["https://w3id.org/dpv#ScientificResearch"]);
    assert!(!offer.any_purpose);
    assert_eq!(publication.warnings, []);

    let water = published(WATER, &estuary()).description;
    assert_eq!(
        (water.distributions[0].byte_size, water.distributions[0].sha256),
        (Some(3), Some(Digest::of(b"abc")))
    );
    assert!(water.offers[0].any_purpose && water.offers[0].purposes.is_empty());
}

#[test]
fn a_replica_reads_the_same_from_the_signed_content() {
    for (turtle, scope) in [(TIDE, harbour()), (WATER, estuary())] {
        let publication = published(turtle, &scope);
        let again = read_canonical(&publication.content, &publication.description.dataset, &scope).unwrap();
        assert_eq!(again, publication.description);
    }
}

#[test]
fn publication_adds_what_is_known_about_the_objects() {
    let distribution = "https://harbour.example/id/tide-csv".to_owned();
    let facts = ObjectFacts {
        byte_size: Some(734_003_200),
        sha256: Some(Digest::of(b"all gauges")),
        manifest_digest: Some(Digest::of(b"manifest")),
        transform: Some("ward@1 sha-256:x".to_owned()),
    };
    let facts = BTreeMap::from([(distribution, facts)]);
    let publication = read_turtle(TIDE, &harbour(), &PlainOffers, &facts).unwrap();
    let read = &publication.description.distributions[0];
    let known = (Some(734_003_200), Some(Digest::of(b"all gauges")), Some(Digest::of(b"manifest")));
    assert_eq!((read.byte_size, read.sha256, read.manifest_digest), known);
    assert_eq!(read.transform.as_deref(), Some("ward@1 sha-256:x"));
    let again = read_canonical(&publication.content, &publication.description.dataset, &harbour()).unwrap();
    assert_eq!(again, publication.description);
}

#[test]
fn classes_that_a_publisher_enforces_are_numbers_and_may_be_unknown() {
    let enforces = "https://harbour.example/id/connector> <https://w3id.org/fairlead/ns#enforces";
    let say = |values: &str| {
        let text = format!("{TIDE}\n<{enforces}> {values} .\n");
        read_turtle(&text, &harbour(), &PlainOffers, &BTreeMap::new())
    };
    let publication = say("11, 1, 250").unwrap();
    assert_eq!(Vec::from_iter(&publication.description.enforces), [&1, &11, &250]);
    let again = read_canonical(&publication.content, &publication.description.dataset, &harbour()).unwrap();
    assert_eq!(again, publication.description);
    for bad in ["\"count\"", "-1", "1.0", "70000", "<https://w3id.org/fairlead/ns#count>"] {
        let report = say(bad).unwrap_err();
        assert!(report.problems().iter().any(|problem| problem.path == "fl:enforces"), "{bad}: {report}");
    }
}

#[test]
fn size_and_checksum_as_written_must_be_those_of_the_object() {
    let facts =
        ObjectFacts { byte_size: Some(4), sha256: Some(Digest::of(b"abcd")), ..ObjectFacts::default() };
    let facts = BTreeMap::from([("https://estuary.example/data/water-parquet".to_owned(), facts)]);
    let report = read_turtle(WATER, &estuary(), &PlainOffers, &facts).unwrap_err();
    let paths: Vec<&str> = report.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["dcat:byteSize", "spdx:checksum"]);
    assert!(report.problems().iter().all(|problem| problem.code.code == "catalogue/object-differs"));
}

#[test]
fn every_problem_is_reported_at_once() {
    let report = read(MANY_PROBLEMS, &harbour()).unwrap_err();
    let expected = [
        "! alien-subject https://somebody.example/id/theirs ",
        "! missing-value bad dct:identifier",
        "! repeated-language bad dct:title",
        "! no-language-tag bad dct:title",
        "! bad-value bad dct:description",
        "! bad-value bad dcat:theme",
        "! wrong-publisher bad dct:publisher",
        "! bad-value bad dct:accessRights",
        "! bad-value bad dct:modified",
        "! bad-value bad-csv dcat:mediaType",
        "! bad-value bad-csv dcat:byteSize",
        "! missing-value bad odrl:hasPolicy",
        "? no-licence bad-csv dct:license",
        "? no-keyword bad dcat:keyword",
        "? no-contact bad dcat:contactPoint",
        "? missing-script bad dct:title",
        "? missing-script bad dct:title",
    ];
    assert_eq!(lines(&report), expected, "{report}");
    for problem in report.problems() {
        let texts = [problem.code.en, problem.code.zh_hant, problem.code.zh_hans];
        assert!(texts.iter().all(|text| !text.is_empty()), "{problem}");
    }
}

#[test]
fn one_change_to_a_good_description_is_one_problem() {
    let check = |from: &str, to: &str, code: &str| {
        assert!(TIDE.contains(from), "{from}");
        let report = read(&TIDE.replacen(from, to, 1), &harbour()).unwrap_err();
        let mut violations: Vec<&str> = report
            .problems()
            .iter()
            .filter(|problem| problem.severity == Severity::Violation)
            .map(|problem| problem.code.code)
            .collect();
        // A parser goes on after an error and may find its consequences.
        violations.dedup();
        assert_eq!(violations, [format!("catalogue/{code}")], "{to}: {report}");
    };
    check(r#""tide-2010-2025""#, r#""tide", "tide-2""#, "too-many-values");
    check(r#""tide-2010-2025""#, r#"" ""#, "bad-value");
    check(r#""Harbour tide gauges 2010-2025"@en"#, r#""Harbour""#, "no-language-tag");
    check(r#""潮汐"@zh-Hans"#, &format!("\"{}\"@zh-Hans", "潮".repeat(501)), "text-too-long");
    check("access:RESTRICTED", "access:SOMEWHAT", "bad-value");
    check("T08:00:00Z", "T08:00:00", "bad-value");
    check("dcat:contactPoint :desk", "dcat:contactPoint [ vcard:fn \"desk\" ]", "blank-node");
    check("dcat:distribution :tide-csv ;", "", "missing-value");
    check(":tide-csv a dcat:Distribution ;", ":tide-csv", "missing-value");
    check("odrl:assigner :connector", "odrl:assigner :desk", "wrong-publisher");
    check("odrl:target :tide ;\n  odrl:permission", "odrl:target :desk ;\n  odrl:permission", "wrong-target");
    check(":tide a dcat:Dataset ;", ":tide a dcat:Dataset . :other a dcat:Dataset . :tide", "one-dataset");
    check(":tide a dcat:Dataset ;", ":tide", "one-dataset");
    check("@prefix dct:", "@prefix dcx:", "syntax");
    check("dcat:theme theme:ENVI ;", "dcat:theme theme:ENVI", "syntax");
    check(
        ":tide-period a",
        "<https://harbour.example/id/../x> dct:title \"x\"@en . <https://harbour.example/identity/x> a",
        "alien-subject",
    );
    check("media:text\\/csv", "media:csv", "bad-value");
}

#[test]
fn problems_of_the_policy_reader_are_reported_with_their_own_codes() {
    struct Refuses;
    impl OfferReader for Refuses {
        fn canonical_text(
            &self,
            _: &NamedNode,
            _: &NamedNode,
            _: &[Triple],
        ) -> Result<String, Vec<OfferProblem>> {
            let problem = |path: &str| OfferProblem {
                path: path.into(),
                refusal: Refusal::new(&WRONG_TARGET, "only a stand-in"),
            };
            Err(vec![problem("permission/0"), problem("permission/1")])
        }
    }
    let report = read_turtle(TIDE, &harbour(), &Refuses, &BTreeMap::new()).unwrap_err();
    assert_eq!(
        lines(&report),
        ["! wrong-target tide-offer permission/0", "! wrong-target tide-offer permission/1"]
    );
}

#[test]
fn a_replica_refuses_content_that_is_not_what_a_publisher_would_sign() {
    let publication = published(TIDE, &harbour());
    let text = String::from_utf8(publication.content.clone()).unwrap();
    let check = |content: String, code: &str| {
        assert_ne!(content, text, "{code}");
        let report =
            read_canonical(content.as_bytes(), &publication.description.dataset, &harbour()).unwrap_err();
        assert_eq!(report.first().code.code, format!("catalogue/{code}"), "{report}");
    };
    let mut lines: Vec<&str> = text.lines().collect();
    lines.reverse();
    check(lines.join("\n") + "\n", "not-canonical");
    check(format!("{text}{}\n", text.lines().last().unwrap()), "not-canonical");
    check(text.trim_end().to_owned(), "not-canonical");
    check(text.replacen(" <https://harbour.example/id/tide> .\n", " .\n", 1), "not-canonical");
    check(
        text.replacen("<https://harbour.example/id/tide> .\n", "<https://harbour.example/id/x> .\n", 1),
        "not-canonical",
    );
    check(text.replacen("Ten-minute", "\\u0054en-minute", 1), "not-canonical");
    check(
        format!("_:b <http://a.example/p> \"x\" <https://harbour.example/id/tide> .\n{text}"),
        "blank-node",
    );
    let other = published(&TIDE.replace(":tide ", ":other "), &harbour());
    let report = read_canonical(&other.content, &dataset("tide"), &harbour()).unwrap_err();
    assert_eq!(report.first().code.code, "catalogue/not-canonical");
    let estuary =
        read_canonical(&publication.content, &publication.description.dataset, &estuary()).unwrap_err();
    assert_eq!(estuary.first().code.code, "catalogue/alien-subject");
}

#[test]
fn the_offer_text_must_be_of_this_offer_and_its_hash_must_fit() {
    let publication = published(TIDE, &harbour());
    let content = String::from_utf8(publication.content.clone()).unwrap();
    let offer = &publication.description.offers[0];
    let literal = |text: &str| format!("{}", oxrdf::Literal::new_simple_literal(text));
    let check = |text: &str, hash: &str| {
        let changed = content.replace(&literal(&offer.text), &literal(text));
        let changed = changed.replace(&literal(&offer.hash.to_string()), &literal(hash));
        assert_ne!(changed, content);
        let report =
            read_canonical(changed.as_bytes(), &publication.description.dataset, &harbour()).unwrap_err();
        assert_eq!(report.first().code.code, "catalogue/offer-text-differs", "{text}: {report}");
    };
    check(&offer.text, &Digest::of(b"another").to_string());
    check(&offer.text, "");
    for (from, to) in [
        ("ScientificResearch", "Marketing"),
        ("tide-offer\"", "other-offer\""),
        ("{", "{ "),
        ("\"Offer\"", "\"Agreement\""),
        ("/id/tide\"", "/id/other\""),
        ("/id/connector", "/id/else"),
    ] {
        let text = offer.text.replacen(from, to, 1);
        assert_ne!(text, offer.text, "{from}");
        let hash = if from == "ScientificResearch" { offer.hash } else { Digest::of(text.as_bytes()) };
        check(&text, &hash.to_string());
    }
    let without = content
        .lines()
        .filter(|line| !line.contains("ns#offerText>"))
        .fold(String::new(), |all, line| all + line + "\n");
    let report =
        read_canonical(without.as_bytes(), &publication.description.dataset, &harbour()).unwrap_err();
    assert_eq!(report.first().code.code, "catalogue/missing-value");
}

#[test]
fn size_is_bounded() {
    let long = format!("{TIDE}#{}", "x".repeat(MAX_BYTES));
    let mut many = TIDE.to_owned();
    for n in 0..=MAX_STATEMENTS {
        many.push_str(&format!(":tide dct:subject :subject-{n} .\n"));
    }
    for text in [long, many] {
        assert_eq!(read(&text, &harbour()).unwrap_err().first().code.code, "catalogue/too-large");
    }
}

#[test]
fn texts_for_people_lose_what_could_deceive() {
    let turtle = small(
        "x",
        "\"a\\u202Eb\\u0007c\"@en",
        "https://w3id.org/dpv#ScientificResearch",
        "2026-01-01T00:00:00Z",
    );
    assert_eq!(published(&turtle, &harbour()).description.titles.get(&Language::En), Some("abc"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever order the statements come in and however they are written, the content is the same.
    #[test]
    fn the_canonical_form_does_not_depend_on_the_order(seed in proptest::collection::vec(any::<u16>(), 64)) {
        let publication = published(TIDE, &harbour());
        let text = String::from_utf8(publication.content.clone()).unwrap();
        let mut statements: Vec<String> = text.lines().map(|line| {
            let cut = line.rfind(" <").unwrap();
            format!("{} .\n", &line[..cut])
        }).collect();
        for (n, other) in seed.iter().enumerate() {
            let length = statements.len();
            statements.swap(n % length, *other as usize % length);
        }
        let repeated = statements.first().cloned().unwrap_or_default();
        let again = published(&(statements.concat() + &repeated), &harbour());
        prop_assert_eq!(again.content, publication.content);
    }

    /// No bytes make the parsers do anything but answer.
    #[test]
    fn hostile_texts_are_answered(cut in 0usize..4000, noise in "\\PC{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let cut = TIDE.char_indices().map(|(place, _)| place).take_while(|place| *place <= cut).last().unwrap_or(0);
        let text = format!("{}{noise}{}", &TIDE[..cut], &TIDE[cut..]);
        if let Ok(publication) = read(&text, &harbour()) {
            prop_assert!(read_canonical(&publication.content, &publication.description.dataset, &harbour()).is_ok());
        }
        prop_assert!(read_canonical(&bytes, &dataset("tide"), &harbour()).is_err());
        let mut content = published(TIDE, &harbour()).content;
        let place = cut % content.len();
        content.splice(place..place, bytes.iter().copied());
        if !bytes.is_empty() && let Ok(read) = read_canonical(&content, &dataset("tide"), &harbour()) {
            prop_assert_eq!(read.dataset, dataset("tide"));
        }
    }
}
