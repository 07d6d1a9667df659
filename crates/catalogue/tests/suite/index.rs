//! Search: both scripts, filters, pages, expiry; and that following the log equals rebuilding from it.

use catalogue::index::{Hit, Index, Query};
use catalogue::log;
use catalogue::memory::MemoryLog;
use catalogue::text::Language;
use control_plane::ids::DatasetId;
use proptest::prelude::*;

use crate::support::{
    DAY, Members, NOW, Publisher, TIDE, WATER, add, dataset, estuary, harbour, small, taken,
};

const RESEARCH: &str = "https://w3id.org/dpv#ScientificResearch";

/// Harbour's tide gauges and two small sets, estuary's water quality.
fn example() -> (MemoryLog, Index) {
    let mut log = MemoryLog::default();
    let mut index = Index::new().unwrap();
    let (harbour, estuary) = (Publisher::new(harbour()), Publisher::new(estuary()));
    let ferry = small(
        "ferry",
        "\"Ferry timetable\"@en, \"渡輪時間表\"@zh-Hant",
        "https://w3id.org/dpv#Marketing",
        "2026-02-01T00:00:00Z",
    );
    let pier = small("pier", "\"Pier heights above the tide\"@en", RESEARCH, "2026-02-01T00:00:00Z");
    for (publisher, turtle) in
        [(&harbour, TIDE), (&harbour, ferry.as_str()), (&harbour, pier.as_str()), (&estuary, WATER)]
    {
        index.apply(&add(&mut log, publisher, turtle, NOW)).unwrap();
    }
    (log, index)
}

fn names(hits: &[Hit]) -> Vec<String> {
    let name = |hit: &Hit| hit.listed.description.dataset.as_str().rsplit('/').next().unwrap().to_owned();
    hits.iter().map(name).collect()
}

fn text(text: &str) -> Query {
    Query { text: text.into(), ..Query::default() }
}

#[test]
fn searches() {
    let (_, index) = example();
    let check = |query: Query, expected: &[&str]| {
        let page = index.search(&query, NOW).unwrap();
        assert_eq!(names(&page.hits), expected, "{query:?}");
        assert_eq!((page.total, page.next), (expected.len(), None));
    };
    check(Query::default(), &["water", "tide", "ferry", "pier"]);
    check(text("tide"), &["tide", "pier"]);
    check(text("TIDE gauges"), &["tide"]);
    check(text("gaug"), &["tide"]);
    check(text("ti"), &[]);
    check(text("潮汐站"), &["tide"]);
    check(text("渡轮"), &["ferry"]);
    check(text("渡輪"), &["ferry"]);
    check(text("水質"), &["water"]);
    check(text("水质 salinity"), &["water"]);
    check(text("水"), &["water", "tide"]);
    check(text("nothing"), &[]);
    check(text("tide nothing"), &[]);
    check(Query { keyword: Some("Sea Level".into()), ..Query::default() }, &["tide"]);
    check(Query { keyword: Some("水质".into()), ..Query::default() }, &["water"]);
    check(Query { keyword: Some("sea".into()), ..Query::default() }, &[]);
    let theme =
        |name: &str| Some(format!("http://publications.europa.eu/resource/authority/data-theme/{name}"));
    check(Query { theme: theme("HEAL"), ..Query::default() }, &["water"]);
    check(Query { theme: theme("ENVI"), ..text("tide") }, &["tide", "pier"]);
    check(Query { publisher: Some(estuary().participant), ..Query::default() }, &["water"]);
    check(Query { publisher: Some(estuary().participant), ..text("tide") }, &[]);
    let purposes = |purposes: &[&str]| Query {
        purposes: purposes.iter().map(|iri| (*iri).into()).collect(),
        ..Query::default()
    };
    check(purposes(&[RESEARCH]), &["water", "tide", "pier"]);
    check(purposes(&["https://w3id.org/dpv#Marketing", "https://w3id.org/dpv#Purpose"]), &["water", "ferry"]);
    let licence =
        ("http://purl.org/dc/terms/license", "http://publications.europa.eu/resource/authority/licence/CC0");
    check(Query { statements: vec![(licence.0.into(), licence.1.into())], ..Query::default() }, &["water"]);
    check(Query { statements: vec![(licence.0.into(), licence.1.into())], ..text("tide") }, &[]);
}

#[test]
fn texts_shown_are_in_the_readers_language() {
    let (_, index) = example();
    for (language, title) in [
        (Language::En, "Harbour tide gauges 2010-2025"),
        (Language::ZhHans, "海港潮汐站 2010-2025"),
        (Language::Other("pt".into()), "Harbour tide gauges 2010-2025"),
    ] {
        let page = index.search(&Query { language: Some(language), ..text("潮汐") }, NOW).unwrap();
        assert_eq!(page.hits[0].title.1, title);
    }
    let page = index.search(&Query { language: Some(Language::ZhHans), ..text("ferry") }, NOW).unwrap();
    assert_eq!(page.hits[0].title, (Language::ZhHant, "渡輪時間表".to_owned()));
    assert_eq!(page.hits[0].summary, (Language::En, "About it.".to_owned()));
}

#[test]
fn pages_join_to_the_whole_and_tokens_belong_to_their_search() {
    let (_, index) = example();
    let all = names(&index.search(&Query::default(), NOW).unwrap().hits);
    for page_size in 1..=4 {
        let mut query = Query { page_size, ..Query::default() };
        let mut joined = Vec::new();
        loop {
            let page = index.search(&query, NOW).unwrap();
            assert_eq!(page.total, all.len());
            joined.extend(names(&page.hits));
            match page.next {
                Some(next) => query.page_token = next,
                None => break,
            }
        }
        assert_eq!(joined, all, "{page_size}");
    }
    let first = index.search(&Query { page_size: 1, ..Query::default() }, NOW).unwrap().next.unwrap();
    let refused = |query: Query| index.search(&query, NOW).unwrap_err().code.code;
    assert_eq!(refused(Query { page_token: first.clone(), ..text("tide") }), "catalogue/bad-page-token");
    for token in ["x", "!", "e30", &"A".repeat(2000)] {
        assert_eq!(
            refused(Query { page_token: token.into(), ..Query::default() }),
            "catalogue/bad-page-token"
        );
    }
    let other =
        Query { page_token: first, language: Some(Language::ZhHant), page_size: 100, ..Query::default() };
    assert_eq!(index.search(&other, NOW).unwrap().hits.len(), 3);
}

#[test]
fn hostile_searches_are_refused() {
    let (_, index) = example();
    let check = |query: Query| {
        assert_eq!(index.search(&query, NOW).unwrap_err().code.code, "catalogue/bad-query", "{query:?}")
    };
    check(text(&"x".repeat(257)));
    check(text("?! ,"));
    check(Query { keyword: Some("x".repeat(257)), ..Query::default() });
    check(Query { page_size: 101, ..Query::default() });
    check(Query { theme: Some("not an iri".into()), ..Query::default() });
    check(Query { statements: vec![("a:b".into(), "c:d".into()); 33], ..Query::default() });
    check(Query { purposes: vec![RESEARCH.into(); 33], ..Query::default() });
}

#[test]
fn what_has_expired_or_was_withdrawn_is_not_found() {
    let (mut log, mut index) = example();
    let publisher = Publisher::new(harbour());
    let members = Members(vec![publisher.clone()]);
    assert_eq!(index.get(&dataset("tide"), NOW).unwrap().seq, 1);
    assert!(!index.statements(&dataset("tide")).unwrap().is_empty());
    let later = NOW.plus_millis(7 * DAY);
    assert_eq!(index.search(&Query::default(), later).unwrap().total, 0);
    assert_eq!(index.get(&dataset("tide"), later).unwrap_err().code.code, "catalogue/unknown-dataset");

    let id = publisher.scope.participant.clone();
    let envelope = log::renew(&log, &id, NOW.plus_millis(DAY), 10 * DAY, &publisher).unwrap();
    index.apply(&taken(log::admit(&mut log, envelope, &members, NOW.plus_millis(DAY)))).unwrap();
    assert_eq!(names(&index.search(&Query::default(), later).unwrap().hits), ["tide", "ferry", "pier"]);
    assert_eq!(index.get(&dataset("tide"), later).unwrap().expires, NOW.plus_millis(11 * DAY));

    let envelope = log::withdraw(&log, &id, &dataset("tide"), later, DAY, &publisher).unwrap();
    index.apply(&taken(log::admit(&mut log, envelope, &members, later))).unwrap();
    assert_eq!(names(&index.search(&Query::default(), later).unwrap().hits), ["ferry", "pier"]);
    assert!(index.statements(&dataset("tide")).unwrap().is_empty());
    assert_eq!(index.search(&text("潮汐"), later).unwrap().total, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Publish { name: u8, title: u8, purpose: bool },
    Withdraw(u8),
    Renew,
    NewEpoch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..5, 0u8..6, any::<bool>()).prop_map(|(name, title, purpose)| Step::Publish { name, title, purpose }),
        2 => (0u8..5).prop_map(Step::Withdraw),
        1 => Just(Step::Renew),
        1 => Just(Step::NewEpoch),
    ]
}

const TITLES: [&str; 6] = [
    "\"tide\"@en",
    "\"tide gauges\"@en, \"潮汐站\"@zh-Hant",
    "\"潮汐\"@zh-Hans",
    "\"ferry\"@en",
    "\"渡輪\"@zh-Hant",
    "\"渡轮 tide\"@zh-Hans",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// An index that followed the log answers as one rebuilt from it, and both as a naive reading of the log.
    #[test]
    fn following_equals_rebuilding(steps in proptest::collection::vec(step(), 1..25)) {
        let mut publisher = Publisher::new(harbour());
        let members = Members(vec![publisher.clone(), publisher.clone().renewed()]);
        let id = publisher.scope.participant.clone();
        let mut log = MemoryLog::default();
        let mut followed = Index::new().unwrap();
        let mut model = std::collections::BTreeMap::new();
        let mut epoch = 1;
        for step in steps {
            let envelope = match step {
                Step::Publish { name, title, purpose } => {
                    let purpose = if purpose { RESEARCH } else { "https://w3id.org/dpv#Marketing" };
                    let name = format!("d{name}");
                    let turtle = small(&name, TITLES[title as usize], purpose, "2026-02-01T00:00:00Z");
                    model.insert(name, title);
                    let publication = crate::support::published(&turtle, &publisher.scope);
                    log::publish(&log, &publication, NOW, DAY, &publisher).unwrap()
                }
                Step::Withdraw(name) => {
                    let name = format!("d{name}");
                    if model.remove(&name).is_none() {
                        continue;
                    }
                    log::withdraw(&log, &id, &dataset(&name), NOW, DAY, &publisher).unwrap()
                }
                Step::Renew => log::renew(&log, &id, NOW, DAY, &publisher).unwrap(),
                // Only one newer certificate is at hand, and an epoch needs something to follow.
                Step::NewEpoch if epoch == 1 && log != MemoryLog::default() => {
                    epoch = 2;
                    model.clear();
                    publisher = publisher.renewed();
                    log::begin_epoch(&id, 1, NOW, DAY, &publisher).unwrap()
                }
                Step::NewEpoch => continue,
            };
            followed.apply(&taken(log::admit(&mut log, envelope, &members, NOW))).unwrap();
        }
        let rebuilt = Index::rebuild(&log).unwrap();
        prop_assert_eq!(rebuilt.len(), model.len());
        for (word, titles) in [("", &[0u8, 1, 2, 3, 4, 5][..]), ("tide", &[0, 1, 5]), ("潮汐", &[1, 2]), ("渡轮", &[4, 5])] {
            let expected: Vec<&str> =
                model.iter().filter(|(_, title)| titles.contains(title)).map(|(name, _)| name.as_str()).collect();
            for index in [&followed, &rebuilt] {
                let mut found = names(&index.search(&text(word), NOW).unwrap().hits);
                found.sort();
                prop_assert_eq!(&found, &expected, "{}", word);
            }
            let query = Query { purposes: vec![RESEARCH.into()], ..text(word) };
            let pages = [&followed, &rebuilt].map(|index| names(&index.search(&query, NOW).unwrap().hits));
            prop_assert_eq!(&pages[0], &pages[1]);
        }
        for n in 0..5 {
            let id: DatasetId = dataset(&format!("d{n}"));
            let sorted = |index: &Index| {
                let mut lines: Vec<String> = index.statements(&id).unwrap().iter().map(ToString::to_string).collect();
                lines.sort();
                lines
            };
            prop_assert_eq!(sorted(&followed), sorted(&rebuilt));
        }
    }
}
