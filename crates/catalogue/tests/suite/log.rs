//! The log: order, chain, forks, epochs, renewal; and replicas that end up equal whatever the network does.

use catalogue::UnixMillis;
use catalogue::envelope::{Envelope, MAX_LIFETIME_MILLIS};
use catalogue::log::{
    self, Admission, EntryState, FETCH_LIMIT, HeadMark, LogReader as _, LogTable, Missing, fetch, heads,
    missing, state_at,
};
use catalogue::memory::MemoryLog;
use proptest::prelude::*;

use crate::support::{
    DAY, Members, NOW, Publisher, WATER, add, dataset, estuary, harbour, published, refused, small, taken,
};

const RESEARCH: &str = "https://w3id.org/dpv#ScientificResearch";

fn text(name: &str) -> String {
    small(name, &format!("\"{name}\"@en"), RESEARCH, "2026-01-01T00:00:00Z")
}

fn state(log: &MemoryLog, name: &str, now: UnixMillis) -> Option<EntryState> {
    let head = log::head(log, &harbour().participant).unwrap()?;
    log::entry(log, &harbour().participant, &dataset(name)).unwrap().map(|entry| state_at(&head, &entry, now))
}

/// A log of the harbour's with three envelopes, and the envelopes.
fn three() -> (Publisher, MemoryLog, Vec<Envelope>) {
    let publisher = Publisher::new(harbour());
    let mut log = MemoryLog::default();
    let envelopes = ["a", "b", "c"].map(|name| add(&mut log, &publisher, &text(name), NOW).envelope);
    (publisher, log, envelopes.to_vec())
}

#[test]
fn the_states_of_a_dataset() {
    let (publisher, mut log, _) = three();
    let members = Members(vec![publisher.clone()]);
    assert_eq!(state(&log, "a", NOW), Some(EntryState::Active));
    assert_eq!(state(&log, "a", NOW.plus_millis(7 * DAY)), Some(EntryState::Expired));
    assert_eq!(state(&log, "nothing", NOW), None);

    let id = publisher.scope.participant.clone();
    let envelope = log::withdraw(&log, &id, &dataset("b"), NOW, DAY, &publisher).unwrap();
    taken(log::admit(&mut log, envelope, &members, NOW));
    assert_eq!(state(&log, "b", NOW), Some(EntryState::Withdrawn));
    assert_eq!(
        refused(log::withdraw(&log, &id, &dataset("b"), NOW, DAY, &publisher)),
        "catalogue/unknown-dataset"
    );

    let later = NOW.plus_millis(8 * DAY);
    let envelope = log::renew(&log, &id, later, 7 * DAY, &publisher).unwrap();
    taken(log::admit(&mut log, envelope, &members, later));
    for (name, expected) in
        [("a", EntryState::Active), ("b", EntryState::Withdrawn), ("c", EntryState::Active)]
    {
        assert_eq!(state(&log, name, later), Some(expected), "{name}");
    }
    assert_eq!(state(&log, "a", later.plus_millis(7 * DAY)), Some(EntryState::Expired));
    let live = log::live_set(&log, &id, 1).unwrap();
    assert_eq!(
        live,
        [("https://harbour.example/id/a".to_owned(), 1), ("https://harbour.example/id/c".to_owned(), 3)]
    );
    assert_eq!(log::head(&log, &id).unwrap().unwrap().live, 2);
}

#[test]
fn envelopes_are_taken_in_order_and_once() {
    let (publisher, log, envelopes) = three();
    let members = Members(vec![publisher]);
    let mut replica = MemoryLog::default();
    assert_eq!(refused(log::admit(&mut replica, envelopes[1].clone(), &members, NOW)), "catalogue/gap");
    assert_eq!(replica, MemoryLog::default());
    for envelope in &envelopes {
        taken(log::admit(&mut replica, envelope.clone(), &members, NOW));
        let before = replica.clone();
        assert_eq!(log::admit(&mut replica, envelope.clone(), &members, NOW).unwrap(), Admission::Repeat);
        assert_eq!(replica, before);
    }
    assert_eq!(replica, log);
}

#[test]
fn two_histories_freeze_the_publisher_and_are_kept() {
    let (publisher, log, envelopes) = three();
    let id = publisher.scope.participant.clone();
    let members = Members(vec![publisher.clone()]);
    let mut other = MemoryLog::default();
    let _ = taken(log::admit(&mut other, envelopes[0].clone(), &members, NOW));
    let second = add(&mut other, &publisher, &text("elsewhere"), NOW);
    let third = add(&mut other, &publisher, &text("further"), NOW);
    let fourth = add(&mut other, &publisher, &text("beyond"), NOW);
    // The same position with another envelope, and a successor of an envelope that we do not have.
    for (fork, seq, held) in [(&second, 2, 2), (&third, 3, 3), (&fourth, 4, 3)] {
        let mut replica = log.clone();
        let evidence = match log::admit(&mut replica, fork.envelope.clone(), &members, NOW).unwrap() {
            Admission::Fork(evidence) => evidence,
            other => panic!("{other:?}"),
        };
        let ours = log::envelope_at(&log, &id, 1, held).unwrap().unwrap();
        let held = log::check(ours, &members, NOW).unwrap();
        assert_eq!((evidence.seq, evidence.publisher.as_str()), (seq, id.as_str()));
        assert_ne!(evidence.held, evidence.found);
        assert_eq!(held.header().publisher, id);
        let kept = log::evidence(&replica, &id, 10).unwrap();
        assert_eq!(kept, [Envelope { content: Vec::new(), ..fork.envelope.clone() }]);
        assert!(log::head(&replica, &id).unwrap().unwrap().frozen);
        // Nothing more is taken, not even what is right; repeats are still only repeats.
        assert_eq!(
            refused(log::admit(&mut replica, fork.envelope.clone(), &members, NOW)),
            "catalogue/publisher-frozen"
        );
        let next = log::publish(&log, &published(&text("d"), &harbour()), NOW, DAY, &publisher).unwrap();
        assert_eq!(
            refused(log::admit(&mut replica, next.clone(), &members, NOW)),
            "catalogue/publisher-frozen"
        );
        assert_eq!(log::admit(&mut replica, envelopes[0].clone(), &members, NOW).unwrap(), Admission::Repeat);
        assert_eq!(refused(log::renew(&replica, &id, NOW, DAY, &publisher)), "catalogue/publisher-frozen");
        assert!(log::release(&mut replica, &id).unwrap());
        assert!(!log::release(&mut replica, &id).unwrap());
        assert_eq!(
            refused(log::admit(&mut replica, fork.envelope.clone(), &members, NOW)),
            "catalogue/known-fork"
        );
        taken(log::admit(&mut replica, next, &members, NOW));
    }
}

#[test]
fn a_new_epoch_needs_a_newer_certificate_and_begins_with_nothing() {
    let (publisher, mut log, envelopes) = three();
    let id = publisher.scope.participant.clone();
    let begin = log::begin_epoch(&id, 1, NOW, DAY, &publisher).unwrap();
    let members = Members(vec![publisher.clone(), publisher.clone().renewed()]);
    assert_eq!(refused(log::admit(&mut log, begin, &members, NOW)), "catalogue/epoch-not-allowed");

    let renewed = publisher.renewed();
    let begin = log::begin_epoch(&id, 1, NOW, DAY, &renewed).unwrap();
    let admitted = taken(log::admit(&mut log, begin, &members, NOW));
    assert_eq!((admitted.head.epoch, admitted.head.seq, admitted.head.live), (2, 1, 0));
    assert_eq!(state(&log, "a", NOW), Some(EntryState::Superseded));
    let again = add(&mut log, &renewed, &text("a"), NOW);
    assert_eq!((again.head.epoch, again.head.seq, again.head.live), (2, 2, 1));
    assert_eq!(state(&log, "a", NOW), Some(EntryState::Active));
    assert_eq!(log::admit(&mut log, envelopes[2].clone(), &members, NOW).unwrap(), Admission::Repeat);
    // A replica that never saw the first epoch needs only the second.
    let mut fresh = MemoryLog::default();
    for envelope in fetch(&log, &id, 2, 1, 0).unwrap() {
        taken(log::admit(&mut fresh, envelope, &members, NOW));
    }
    assert_eq!(log::head(&fresh, &id).unwrap(), log::head(&log, &id).unwrap());
    assert_eq!(refused(log::admit(&mut fresh, envelopes[0].clone(), &members, NOW)), "catalogue/old-epoch");
}

#[test]
fn what_is_not_the_publishers_is_refused_and_changes_nothing() {
    let (publisher, log, _) = three();
    let members = Members(vec![publisher.clone(), Publisher::new(estuary())]);
    let good = log::publish(&log, &published(&text("d"), &harbour()), NOW, DAY, &publisher).unwrap();
    let check = |envelope: Envelope, now: UnixMillis, code: &str| {
        let mut replica = log.clone();
        assert_eq!(refused(log::admit(&mut replica, envelope, &members, now)), code);
        assert_eq!(replica, log, "{code}");
    };
    let with = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        envelope
    };
    check(with(&|envelope| envelope.content.push(b'\n')), NOW, "catalogue/content-differs");
    check(with(&|envelope| envelope.content.clear()), NOW, "catalogue/content-differs");
    check(with(&|envelope| envelope.certificates.clear()), NOW, "catalogue/wrong-signer");
    check(with(&|envelope| envelope.certificates = vec![Vec::new(); 9]), NOW, "catalogue/envelope-too-large");
    check(with(&|envelope| envelope.header = "x".repeat(9_000)), NOW, "catalogue/envelope-too-large");
    check(with(&|envelope| envelope.content = vec![b' '; 2 << 20]), NOW, "catalogue/envelope-too-large");
    for place in 0..good.header.len() {
        check(
            with(&|envelope| envelope.header.replace_range(place..=place, "~")),
            NOW,
            "catalogue/wrong-signer",
        );
    }
    check(good.clone(), NOW.plus_millis(-6 * 60 * 1000), "catalogue/issued-in-future");

    // A log that is signed by somebody else, a subject of somebody else, a time outside the certificate.
    let thief = Publisher { scope: estuary(), ..publisher.clone() };
    let signed = |header: &catalogue::envelope::Header, content: &[u8], signer: &Publisher| {
        catalogue::envelope::seal(header, content.to_vec(), signer).unwrap()
    };
    let header = log::check(good.clone(), &members, NOW).unwrap().header().clone();
    check(signed(&header, &good.content, &thief), NOW, "catalogue/wrong-signer");
    let water = published(WATER, &estuary());
    let kind = catalogue::envelope::Kind::Publish {
        dataset: water.description.dataset.clone(),
        content: catalogue::hash::Digest::of(&water.content),
    };
    let alien = catalogue::envelope::Header { kind, ..header.clone() };
    check(signed(&alien, &water.content, &publisher), NOW, "catalogue/outside-subject-base");
    let early = NOW.plus_millis(-2 * DAY);
    let early = catalogue::envelope::Header { issued: early, expires: NOW, ..header.clone() };
    check(signed(&early, &good.content, &publisher), NOW, "catalogue/wrong-signer");
    let renewal = catalogue::envelope::Kind::Renew { live: log::live_set_hash(&[]) };
    let renewal = catalogue::envelope::Header { kind: renewal, ..header };
    check(signed(&renewal, b"", &publisher), NOW, "catalogue/live-set-differs");
}

#[test]
fn what_every_replica_would_refuse_is_not_signed() {
    let (publisher, log, _) = three();
    let publication = published(&text("d"), &harbour());
    for lifetime in [0, -1, MAX_LIFETIME_MILLIS + 1] {
        assert_eq!(
            refused(log::publish(&log, &publication, NOW, lifetime, &publisher)),
            "catalogue/lifetime"
        );
    }
    assert!(log::publish(&log, &publication, NOW, MAX_LIFETIME_MILLIS, &publisher).is_ok());
}

#[test]
fn missing_runs_are_named() {
    let publisher = harbour().participant;
    let mark = |epoch: u32, seq: u64, hash: &str| HeadMark {
        publisher: publisher.clone(),
        epoch,
        seq,
        hash: catalogue::hash::Digest::of(hash.as_bytes()),
    };
    let check = |ours: Option<HeadMark>, theirs: HeadMark, expected: Option<(u32, u64, u64)>| {
        let run =
            |(epoch, from_seq, to_seq)| Missing { publisher: publisher.clone(), epoch, from_seq, to_seq };
        let found = missing(ours.as_slice(), std::slice::from_ref(&theirs));
        assert_eq!(found, expected.map(run).into_iter().collect::<Vec<_>>(), "{ours:?} {theirs:?}");
    };
    check(None, mark(1, 5, "x"), Some((1, 1, 5)));
    check(Some(mark(1, 3, "x")), mark(1, 5, "y"), Some((1, 4, 5)));
    check(Some(mark(1, 5, "x")), mark(1, 5, "x"), None);
    check(Some(mark(1, 5, "x")), mark(1, 5, "y"), Some((1, 5, 5)));
    check(Some(mark(1, 6, "x")), mark(1, 5, "y"), None);
    check(Some(mark(1, 6, "x")), mark(2, 2, "y"), Some((2, 1, 2)));
    check(Some(mark(2, 1, "x")), mark(1, 9, "y"), None);
}

#[test]
fn fetching_is_bounded_and_resumes() {
    let publisher = Publisher::new(harbour());
    let id = publisher.scope.participant.clone();
    let mut log = MemoryLog::default();
    let count = FETCH_LIMIT as u64 + 10;
    for n in 0..count {
        add(&mut log, &publisher, &text(&format!("d{n}")), NOW);
    }
    let first = fetch(&log, &id, 1, 1, 1000).unwrap();
    assert_eq!(first.len(), FETCH_LIMIT);
    assert_eq!(fetch(&log, &id, 1, FETCH_LIMIT as u64 + 1, 0).unwrap().len(), 10);
    assert_eq!(fetch(&log, &id, 1, 3, 2).unwrap(), first[2..4]);
    for (epoch, from) in [(1, count + 1), (2, 1), (1, u64::MAX)] {
        assert!(fetch(&log, &id, epoch, from, 0).unwrap().is_empty(), "{epoch} {from}");
    }
    assert_eq!(fetch(&log, &id, 1, 0, 1).unwrap(), first[..1]);
}

/// One step of a replica's life.
#[derive(Clone, Debug)]
enum Event {
    Publish(u8),
    Withdraw(u8),
    Renew,
    /// The network delivers some envelope of the publisher's log, old or new, to a replica.
    Deliver {
        replica: usize,
        seq: u8,
    },
    /// A replica compares heads with another holder of the log and fetches what it lacks.
    Sync {
        from: usize,
        to: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u8..4).prop_map(Event::Publish),
        (0u8..4).prop_map(Event::Withdraw),
        Just(Event::Renew),
        (1usize..3, 0u8..12).prop_map(|(replica, seq)| Event::Deliver { replica, seq }),
        (0usize..3, 0usize..3).prop_map(|(from, to)| Event::Sync { from, to }),
    ]
}

fn sync(logs: &mut [MemoryLog], from: usize, to: usize, members: &Members) {
    let marks =
        |log: &MemoryLog| heads(log, None, 100).unwrap().iter().map(HeadMark::from).collect::<Vec<_>>();
    for run in missing(&marks(&logs[to]), &marks(&logs[from])) {
        for envelope in fetch(&logs[from], &run.publisher, run.epoch, run.from_seq, 0).unwrap() {
            taken(log::admit(&mut logs[to], envelope, members, NOW));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is repeated, reordered or lost, a replica holds a prefix of the publisher's log, and after one
    /// exchange the whole of it.
    #[test]
    fn replicas_hold_a_prefix_and_catch_up(events in proptest::collection::vec(event(), 1..40)) {
        let publisher = Publisher::new(harbour());
        let id = publisher.scope.participant.clone();
        let members = Members(vec![publisher.clone()]);
        let mut logs = vec![MemoryLog::default(); 3];
        for event in events {
            let made = match event {
                Event::Publish(n) => {
                    let publication = published(&text(&format!("d{n}")), &harbour());
                    Some(log::publish(&logs[0], &publication, NOW, DAY, &publisher).unwrap())
                }
                Event::Withdraw(n) => log::withdraw(&logs[0], &id, &dataset(&format!("d{n}")), NOW, DAY, &publisher).ok(),
                Event::Renew => Some(log::renew(&logs[0], &id, NOW, DAY, &publisher).unwrap()),
                Event::Deliver { replica, seq } => {
                    if let Some(envelope) = log::envelope_at(&logs[0], &id, 1, u64::from(seq)).unwrap() {
                        let reached = log::head(&logs[replica], &id).unwrap().map_or(0, |head| head.seq);
                        match log::admit(&mut logs[replica], envelope, &members, NOW) {
                            Ok(Admission::New(admitted)) => prop_assert_eq!(admitted.head.seq, reached + 1),
                            Ok(Admission::Repeat) => prop_assert!(u64::from(seq) <= reached),
                            Ok(Admission::Fork(evidence)) => prop_assert!(false, "{:?}", evidence),
                            refusal => prop_assert_eq!(refused(refusal), "catalogue/gap"),
                        }
                    }
                    None
                }
                Event::Sync { from, to } => {
                    if from != to && to != 0 {
                        sync(&mut logs, from, to, &members);
                    }
                    None
                }
            };
            if let Some(envelope) = made {
                taken(log::admit(&mut logs[0], envelope, &members, NOW));
            }
            let whole = logs[0].scan(LogTable::Envelopes, "", "", 1000).unwrap();
            for replica in &logs[1..] {
                let held = replica.scan(LogTable::Envelopes, "", "", 1000).unwrap();
                prop_assert!(whole.starts_with(&held));
            }
        }
        for replica in 1..3 {
            sync(&mut logs, 0, replica, &members);
            prop_assert_eq!(&logs[replica], &logs[0]);
        }
    }
}
