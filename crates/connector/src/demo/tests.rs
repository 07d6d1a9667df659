//! What the demo ships is what it needs: settings, descriptions and policies are valid as they stand.

use std::collections::BTreeMap;
use std::path::Path;

use catalogue::description::{SelfDescription, read_turtle};
use catalogue::offers::PolicyOffers;
use catalogue::scope::{PublisherScope, SubjectBase};
use control_plane::ids::ParticipantId;
use policy::{Lang, Policy, Profiles};

use super::data_space::{GUANGZHOU, HONG_KONG, MACAO, Place};
use super::evidence::{flip_one_bit, more_uses};
use super::narrator::{Narrator, Step};
use super::processes::{Folder, Refused, Told, Trouble, shell};
use super::shipped::{DAILY_TURTLE, HOURLY_TURTLE, SNOW_TURTLE, UNTIL};
use crate::cli::{Language, Output};
use crate::config::Config;

fn described(place: &Place, turtle: &str) -> Result<(SelfDescription, usize), String> {
    let participant = ParticipantId::parse(&place.uri()).unwrap();
    let subject_base = SubjectBase::parse(&format!("{}/", place.uri())).unwrap();
    let scope = PublisherScope { participant, subject_base };
    let offers = PolicyOffers::new(Profiles::shipped());
    let read = read_turtle(turtle, &scope, &offers, &BTreeMap::new());
    read.map(|read| (read.description, read.warnings.len()))
        .map_err(|report| report.first().code.code.to_owned())
}

#[test]
fn settings_load() {
    let folder = tempfile::tempdir().unwrap();
    let peers = [(&HONG_KONG, "[::1]:20001"), (&MACAO, "[::1]:20002")];
    std::fs::create_dir_all(folder.path().join(GUANGZHOU.observations())).unwrap();
    let file = folder.path().join(GUANGZHOU.settings());
    std::fs::write(&file, GUANGZHOU.settings_text("[::1]:20000", "[::1]:20003", &peers)).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.participant.as_str(), GUANGZHOU.uri());
    assert_eq!(config.peers.len(), 2);
}

#[test]
fn descriptions_are_complete_and_their_clauses_readable() {
    let snow = SNOW_TURTLE.replace(UNTIL, "2026-11-25T00:00:00Z");
    let check = |place: &Place, turtle: &str| {
        let (description, warnings) = described(place, turtle).unwrap();
        assert_eq!(warnings, 0, "{}", place.name);
        let [offer] = description.offers.as_slice() else { panic!("{}: one offer", place.name) };
        let policy = Policy::from_json(&offer.text, &Profiles::shipped()).unwrap();
        crate::enforceable::require(&policy).unwrap();
        for language in [Lang::En, Lang::ZhHant, Lang::ZhHans] {
            let clauses = policy.render(language);
            assert!(clauses.len() > 1 && clauses.iter().all(|clause| !clause.text.is_empty()), "{clauses:?}");
        }
        offer.text.clone()
    };
    let hourly = check(&HONG_KONG, HOURLY_TURTLE);
    check(&GUANGZHOU, DAILY_TURTLE);
    check(&MACAO, &snow);

    let altered = more_uses(&hourly).unwrap();
    let profiles = Profiles::shipped();
    let (ours, theirs) =
        (Policy::from_json(&hourly, &profiles).unwrap(), Policy::from_json(&altered, &profiles).unwrap());
    assert!(!ours.terms_equal(&theirs));
}

#[test]
fn an_unfilled_date_or_an_unknown_operand_is_refused() {
    assert_eq!(described(&MACAO, SNOW_TURTLE), Err("policy/bad-value".to_owned()));
    let strange = HOURLY_TURTLE.replace("odrl:leftOperand odrl:count", "odrl:leftOperand fl:phaseOfTheMoon");
    assert_ne!(strange, HOURLY_TURTLE);
    assert_eq!(described(&HONG_KONG, &strange), Err("policy/unknown-operand".to_owned()));
}

#[test]
fn the_temporary_folder_goes_and_a_kept_one_stays() {
    let path = {
        let folder = Folder::make(None).unwrap();
        std::fs::write(folder.path().join("a"), "b").unwrap();
        folder.path().to_owned()
    };
    assert!(!path.exists());

    let parent = tempfile::tempdir().unwrap();
    let keep = parent.path().join("kept");
    drop(Folder::make(Some(&keep)).unwrap());
    assert!(keep.exists());
    std::fs::write(keep.join("a"), "b").unwrap();
    assert!(Folder::make(Some(&keep)).is_err(), "not empty");
    assert!(Folder::make(Some(Path::new("/proc/no/such"))).is_err());
}

#[test]
fn a_step_that_is_not_as_told_fails_the_demo() {
    let refused = |code: &str| Refused { code: code.into(), text: "no".into(), detail: String::new() };
    let step = || Step { id: "step", title: "a step", concerned: &[] };
    let check = |permitted: Told<()>, answer: Told<Refused>, passes: bool| {
        let narrator = Narrator::new(Output { json: true, language: Language::En }, false);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stopped = runtime.block_on(async {
            let body = async { permitted.map(|()| ((), "fine".to_owned())) };
            let stopped = narrator.permit(step(), body).await.is_err();
            narrator.refuse(step(), &["a/expected"], async { answer }).await;
            stopped
        });
        assert_eq!(narrator.conclude(stopped).is_ok(), passes);
    };
    check(Ok(()), Ok(refused("a/expected")), true);
    check(Ok(()), Ok(refused("a/other")), false);
    check(Ok(()), Err(Trouble::failed("it was permitted")), false);
    check(Err(Trouble::Refused(refused("a/expected"))), Ok(refused("a/expected")), false);
    check(Err(Trouble::failed("broken")), Ok(refused("a/expected")), false);
}

#[test]
fn one_bit_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sealed");
    std::fs::write(&file, b"abc").unwrap();
    flip_one_bit(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"acc");
    flip_one_bit(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"abc");
    std::fs::write(&file, b"").unwrap();
    assert!(flip_one_bit(&file).is_err());
}

#[test]
fn commands_are_shown_as_typed() {
    let check = |arguments: &[&str], expected: &str| assert_eq!(shell(arguments), expected);
    check(&["catalogue", "search", "天氣"], "fairlead catalogue search 天氣");
    check(&["doctor", "peer", "[::1]:7443"], "fairlead doctor peer '[::1]:7443'");
    check(&["negotiate", ""], "fairlead negotiate ''");
}
