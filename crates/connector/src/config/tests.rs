//! Settings that load, settings that do not and why, and the examples that people copy.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;

const LEAST: &str = "participant = \"https://hong-kong.example/id\"\ndata = \"state\"\nauthority.address = \"authority.example:7400\"\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("observations")).unwrap();
    fs::create_dir_all(folder.path().join("state/inside")).unwrap();
    fs::write(folder.path().join("empty.pem"), "").unwrap();
    fs::write(
        folder.path().join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(
        folder.path().join("good.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    folder
}

fn read(text: &str, folder: &Path, variables: &[(&str, &str)]) -> Result<Config, ConfigProblems> {
    let file = folder.join("settings.toml");
    fs::write(&file, text).unwrap();
    Config::load_with(&file, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

/// `text` follows the three lines of [`LEAST`]; each expected problem is `line path code: part of the detail`.
fn check(text: &str, expected: &[&str]) {
    let folder = folder();
    let problems = match read(&format!("{LEAST}{text}"), folder.path(), &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(shown).collect(),
    };
    assert_same(text, &problems, expected);
}

fn assert_same(text: &str, problems: &[String], expected: &[&str]) {
    let fits = |(problem, expected): (&String, &&str)| {
        let (head, part) = expected.split_once(": ").unwrap();
        problem.starts_with(&format!("{head}:")) && problem.contains(part)
    };
    let same = problems.len() == expected.len() && problems.iter().zip(expected).all(fits);
    assert!(same, "{text}\nfound {problems:#?}\nexpected {expected:#?}");
}

fn shown(problem: &ConfigProblem) -> String {
    let line = problem.line().unwrap_or_default();
    let code = problem.refusal.code.code.trim_start_matches("config/");
    format!("{line} {} {code}: {}", problem.path, problem.refusal.detail)
}

#[test]
fn three_lines_are_enough_and_the_rest_has_defaults() {
    let folder = folder();
    let config = read(LEAST, folder.path(), &[]).unwrap();
    assert_eq!(config.data, folder.path().join("state"));
    assert_eq!(config.listeners.peers.to_string(), "[::]:7443");
    assert_eq!(config.listeners.health.to_string(), "[::1]:7470");
    let for_programs = [config.listeners.use_endpoint, config.listeners.flight];
    assert_eq!(for_programs.map(|address| address.unwrap().to_string()), ["[::1]:7460", "[::1]:7461"]);
    assert_eq!(config.authority.refresh, Duration::from_secs(3_600));
    assert_eq!(config.authority.revocation_grace, Duration::from_secs(43_200));
    assert_eq!(config.catalogue.subject_base, "https://hong-kong.example/id/");
    assert_eq!(config.logging, Logging { format: LogFormat::Text, level: LogLevel::Info });
    assert_eq!(config.retention.message_ids, Duration::from_secs(30 * 86_400));
    assert!(config.peers.is_empty() && config.sources.roots.is_empty() && config.authority.roots.is_none());
    assert_eq!((config.dsp_http, config.negotiation.steps), (None, Steps::Automatic));
}

#[test]
fn everything_can_be_set() {
    let text = format!(
        r#"{LEAST}
        authority.roots = "good.pem"
        listeners = {{ peers = "[::1]:0", health = "127.0.0.1:0", use = "off", flight = "off" }}
        [[peers]]
        participant = "did:web:macao.example"
        addresses = ["Macao.Example:7443", "[2001:db8::7]:7443", "192.0.2.7:1"]
        replicate = false
        signatures = "if-offered"
        http_identity = "bearer"
        push_roots = "good.pem"
        [dsp_http]
        listen = "[::]:8443"
        base_url = "https://dsp.hong-kong.example/connector"
        name_base = "https://hong-kong.example/data/"
        identity = {{ mode = "mutual-tls" }}
        private_addresses = true
        [negotiation]
        steps = "manual"
        [catalogue]
        subject_base = "https://hong-kong.example/data/"
        pull_interval_seconds = 5
        [[negotiation.rules]]
        dataset = "https://hong-kong.example/data/open-*"
        accept = "automatic"
        altered = "counter"
        [[negotiation.rules]]
        consumer = "did:web:macao.example"
        altered = "terminate"
        [sources.roots]
        observations = "observations"
        [[sources.http]]
        address = "data.example:443"
        roots = "good.pem"
        private_addresses = true
        [limits]
        connections = 2
        connections_per_peer = 1
        [logging]
        format = "json"
        level = "debug"
        [retention]
        ended_processes_days = 7
        "#
    );
    let folder = folder();
    let config = read(&text, folder.path(), &[]).unwrap();
    let peer = config.peer(&ParticipantId::parse("did:web:macao.example").unwrap()).unwrap();
    let addresses: Vec<_> = peer.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["macao.example:7443", "[2001:db8::7]:7443", "192.0.2.7:1"]);
    assert_eq!((peer.replicate, peer.signatures), (false, Signing::IfOffered));
    assert_eq!(config.http_proof(&peer.participant), Some(Proof::Bearer));
    assert_eq!(
        config.http_proof(&ParticipantId::parse("https://new.example/id").unwrap()),
        Some(Proof::MutualTls)
    );
    assert!(config.takes_bearer_tokens());
    let dsp = config.dsp_http.as_ref().unwrap();
    assert_eq!((&dsp.identity, dsp.private_addresses), (&DspIdentity::Members(Proof::MutualTls), true));
    assert_eq!(config.negotiation.steps, Steps::Manual);
    assert_eq!(config.sources.roots["observations"], folder.path().join("observations"));
    assert!(config.sources.http[0].private_addresses);

    let answers = |dataset: &str, consumer: &str| {
        let dataset = DatasetId::parse(dataset).unwrap();
        let answers = config.negotiation.answers(&dataset, &ParticipantId::parse(consumer).unwrap());
        (answers.accept, answers.altered)
    };
    let open = "https://hong-kong.example/data/open-weather";
    let closed = "https://hong-kong.example/data/genomes";
    assert_eq!(answers(open, "https://a.example/id"), (Acceptance::Automatic, AlteredTerms::Counter));
    assert_eq!(answers(open, "did:web:macao.example"), (Acceptance::Automatic, AlteredTerms::Counter));
    assert_eq!(answers(closed, "did:web:macao.example"), (Acceptance::Manual, AlteredTerms::Terminate));
    assert_eq!(answers(closed, "https://a.example/id"), (Acceptance::Manual, AlteredTerms::Manual));
}

#[test]
fn one_problem_each() {
    let cases: &[(&str, &[&str])] = &[
        ("speed = 3", &["4 speed unknown-key: known here are administration, authority"]),
        ("[logging]\nlevle = \"info\"", &["5 logging.levle unknown-key: did you mean `level`?"]),
        ("[authority2]\nx = 1", &["4 authority2 unknown-key: did you mean `authority`?"]),
        ("key_password = \"x\"", &["4 key_password unknown-key: secrets never stand in this file"]),
        ("[logging]\nlevel = \"loud\"", &["5 logging.level bad-value: `loud` is none of error, warn"]),
        (
            "[logging]\nformat = 3",
            &["5 logging.format bad-value: must be a text in quotes, is a whole number"],
        ),
        ("logging = \"json\"", &["4 logging bad-value: must be a table, is a text"]),
        ("peers = { a = 1 }", &["4 peers bad-value: must be a list, is a table"]),
        ("listeners.peers = \"7443\"", &["4 listeners.peers bad-value: as in `[::]:7443`"]),
        ("listeners.health = \"[::]:7470\"", &["4 listeners.health bad-value: reached from outside"]),
        (
            "listeners = { peers = \"[::1]:7470\", use = \"[::1]:7470\" }",
            &["4 listeners.health conflict: port 7470", "4 listeners.use conflict: another listener"],
        ),
        ("listeners.peers = \"[::1]:7470\"", &["4 listeners.health conflict: port 7470"]),
        ("listeners.use = \"[::1]:7461\"", &["4 listeners.flight conflict: another listener"]),
        ("listeners.flight = \"[::1]:7443\"", &["4 listeners.flight conflict: another listener"]),
        ("listeners.flight = \"[::]:7461\"", &["4 listeners.flight bad-value: reached from outside"]),
        ("listeners.flight = \"on\"", &["4 listeners.flight bad-value: as in `[::]:7443`"]),
        ("[limits]\ndrain_seconds = 601", &["5 limits.drain_seconds bad-value: between 0 and 600, is 601"]),
        ("[limits]\ndrain_seconds = -1", &["5 limits.drain_seconds bad-value: between 0 and 600, is -1"]),
        ("[limits]\ndrain_seconds = 1.5", &["5 limits.drain_seconds bad-value: is a fraction"]),
        (
            "[limits]\ndrain_seconds = 99999999999999999999",
            &["5 limits.drain_seconds bad-value: is an oversized"],
        ),
        (
            "[limits]\nconnections = 8",
            &["4 limits.connections_per_peer conflict: exceeds limits.connections, 8"],
        ),
        ("[[peers]]\naddresses = [\"a:1\"]", &["4 peers[0].participant missing: "]),
        (
            "[[peers]]\nparticipant = \"https://a.example/id\"",
            &["4 peers[0].addresses missing: at least one"],
        ),
        (
            "[[peers]]\nparticipant = \"hku\"\naddresses = [\"a:1\"]",
            &["5 peers[0].participant bad-value: `hku`"],
        ),
        (
            "[[peers]]\nparticipant = \"https://hong-kong.example/id\"\naddresses = [\"a:1\"]",
            &["5 peers[0].participant conflict: is that of participant, too"],
        ),
        ("authority.roots = \"none.pem\"", &["4 authority.roots missing-file: none.pem"]),
        ("authority.roots = \"empty.pem\"", &["4 authority.roots missing-file: holds no certificate"]),
        ("authority.roots = \"broken.pem\"", &["4 authority.roots missing-file: no valid PEM"]),
        ("authority.roots = \"observations\"", &["4 authority.roots missing-file: observations"]),
        ("[sources.roots]\na = \"none\"", &["5 sources.roots.a missing-file: is no folder"]),
        ("[sources.roots]\nA = \"observations\"", &["5 sources.roots.A bad-value: a-z"]),
        ("[sources.roots]\na = \"state/inside\"", &["5 sources.roots.a conflict: within each other"]),
        (
            "[sources.roots]\na = \"observations/../state\"",
            &["5 sources.roots.a conflict: within each other"],
        ),
        ("[sources.roots]\na = \".\"", &["5 sources.roots.a conflict: within each other"]),
        (
            "[[sources.http]]\naddress = \"a:1\"\n[[sources.http]]\naddress = \"a:1\"",
            &["7 sources.http[1].address conflict: sources.http[0]"],
        ),
        (
            "[catalogue]\nsubject_base = \"https://a.example/x\"",
            &["5 catalogue.subject_base bad-value: ends in `/`"],
        ),
        (
            "[catalogue]\nsubject_base = \"https://a.example/b/../\"",
            &["5 catalogue.subject_base bad-value: `..`"],
        ),
        (
            "[[negotiation.rules]]\ndataset = \"a*b\"",
            &["5 negotiation.rules[0].dataset bad-value: only at the end"],
        ),
        (
            "[[negotiation.rules]]\ndataset = \"https://macao.example/*\"",
            &["5 negotiation.rules[0].dataset conflict: our subject base"],
        ),
        (
            "[[negotiation.rules]]\nconsumer = \"macao\"",
            &["5 negotiation.rules[0].consumer bad-value: no participant"],
        ),
        (
            "[[negotiation.rules]]\n[[negotiation.rules]]\nconsumer = \"https://a.example/id\"",
            &["5 negotiation.rules[1] conflict: negotiation.rules[0] decides"],
        ),
        (
            "[[negotiation.rules]]\naltered = \"automatic\"",
            &[
                "5 negotiation.rules[0].altered bad-value: none of accept-if-stricter, counter, manual, terminate",
            ],
        ),
        ("[administration]\ngroup = \"0\"", &["4 administration.socket missing: outside the data folder"]),
        (
            "[administration]\nuse_group = \"0\"",
            &["4 administration.use_socket missing: outside the data folder"],
        ),
        (
            "[administration]\nsocket = \"/run/x\"\nuse_socket = \"/run/x\"",
            &["6 administration.use_socket conflict: administration.socket"],
        ),
        (
            "[administration]\nfour_eyes = [\"reading\"]",
            &["5 administration.four_eyes[0] bad-value: `reading` is none of dataset-publish"],
        ),
        (
            "[administration]\nsocket = \"/run/x\"\ngroup = \"nobody-has-this-group\"",
            &["6 administration.group bad-value: is no group of this host"],
        ),
        ("[dsp_http]\nlisten = \"[::1]:0\"", &["4 dsp_http.identity missing: "]),
        ("[dsp_http]\nidentity = { mode = \"mutual-tls\" }", &["4 dsp_http.listen missing: "]),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"none\" }",
            &["6 dsp_http.identity.mode bad-value: none of mutual-tls, bearer, test"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"mutual-tls\" }",
            &["4 dsp_http.base_url missing: https"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"test\" }",
            &["6 dsp_http.identity.participant missing: "],
        ),
        (
            "[dsp_http]\nlisten = \"0.0.0.0:1\"\nidentity = { mode = \"test\", participant = \"https://a.example/id\" }",
            &["5 dsp_http.listen conflict: loopback"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"test\", participant = \"https://hong-kong.example/id\" }",
            &["6 dsp_http.identity.participant conflict: ourselves"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nbase_url = \"http://a.example\"\nidentity = { mode = \"mutual-tls\" }",
            &["6 dsp_http.base_url bad-value: https"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nbase_url = \"https://a.example/\"\nidentity = { mode = \"mutual-tls\" }",
            &["6 dsp_http.base_url bad-value: final slash"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nbase_url = \"https://a.example\"\nidentity = { mode = \"test\", participant = \"https://a.example/id\" }",
            &["6 dsp_http.base_url conflict: no TLS"],
        ),
        ("[[peers]]\nparticipant = \"https://a.example/id\"\nsignatures = \"if-offered\"", &[]),
        (
            "[[peers]]\nparticipant = \"https://a.example/id\"\naddresses = [\"a:1\"]\nsignatures = \"never\"",
            &["7 peers[0].signatures bad-value: none of required, if-offered"],
        ),
        (
            "[[peers]]\nparticipant = \"https://a.example/id\"\naddresses = [\"a:1\"]\nhttp_identity = \"test\"",
            &["7 peers[0].http_identity bad-value: none of mutual-tls, bearer"],
        ),
        (
            "[[peers]]\nparticipant = \"https://a.example/id\"\naddresses = [\"a:1\"]\nhttp_identity = \"bearer\"",
            &["7 peers[0].http_identity conflict: only where [dsp_http] serves members"],
        ),
        (
            "[[peers]]\nparticipant = \"https://a.example/id\"\naddresses = [\"a:1\"]\npush_roots = \"good.pem\"\n\
             [dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"test\", participant = \"https://b.example/id\" }",
            &["7 peers[0].push_roots conflict: only where [dsp_http] serves members"],
        ),
        (
            "[dsp_http]\nlisten = \"[::1]:0\"\nidentity = { mode = \"bearer\" }",
            &["4 dsp_http.base_url missing: https"],
        ),
        ("[negotiation]\nsteps = \"never\"", &["5 negotiation.steps bad-value: none of automatic, manual"]),
        (
            "[[negotiation.rules]]\naltered = \"accept-if-stricter\"",
            &["5 negotiation.rules[0].altered conflict: needs accept = automatic"],
        ),
        ("[negotiation]\nceiling = \"none.json\"", &["5 negotiation.ceiling missing-file: none.json"]),
    ];
    for (text, expected) in cases {
        check(text, expected);
    }
}

#[test]
fn all_problems_come_at_once_by_path_and_line() {
    check(
        r#"
[listeners]
peers = "[::1]:7443"
health = "[::1]:7443"
[[peers]]
participant = "https://a.example/id"
addresses = ["a.example:7443"]
[[peers]]
participant = "https://a.example/id"
addresses = ["a.example:7443", "b.example", "b.example:0", "999.1.1.1:1", "2001:db8::7:7443"]
weight = 3
[[peers]]
addresses = []
[logging]
level = "loud"
"#,
        &[
            "7 listeners.health conflict: port 7443",
            "12 peers[1].participant conflict: `https://a.example/id` is that of peers[0], too",
            "13 peers[1].addresses[0] conflict: `a.example:7443` is that of peers[0], too",
            "13 peers[1].addresses[1] bad-value: host:port",
            "13 peers[1].addresses[2] bad-value: cannot be 0",
            "13 peers[1].addresses[3] bad-value: `999.1.1.1` is no host name",
            "13 peers[1].addresses[4] bad-value: in brackets",
            "14 peers[1].weight unknown-key: known here are addresses, http_identity, participant, push_roots",
            "15 peers[2].participant missing: ",
            "16 peers[2].addresses missing: at least one",
            "18 logging.level bad-value: loud",
        ],
    );
}

#[test]
fn an_empty_file_lacks_three_settings() {
    let folder = folder();
    let problems: Vec<_> = read("", folder.path(), &[]).unwrap_err().iter().map(shown).collect();
    assert_same(
        "",
        &problems,
        &["0 participant missing: ", "0 data missing: ", "0 authority.address missing: "],
    );
}

#[test]
fn broken_lines_are_reported_beside_other_problems_and_hide_nothing() {
    let folder = folder();
    let text = "participant = https://x\ndata = \"state\"\n[logging]\nlevel = \"loud\"\nlevel = \"info\"\n";
    let problems = read(text, folder.path(), &[]).unwrap_err();
    let found: Vec<_> = problems.iter().map(|problem| (problem.line(), problem.refusal.code.code)).collect();
    assert!(found.contains(&(Some(1), "config/syntax")), "{problems}");
    assert!(found.contains(&(Some(5), "config/syntax")), "{problems}");
    assert!(found.contains(&(Some(4), "config/bad-value")), "{problems}");
    assert!(found.iter().all(|(_, code)| *code != "config/missing"), "{problems}");
    for text in ["\u{0}", "[", "a = \"\"\"", "[[peers]]\n[peers]", &"[".repeat(100_000), &"a.".repeat(10_000)]
    {
        assert!(read(text, folder.path(), &[]).is_err());
    }
}

#[test]
fn files_that_are_no_settings() {
    let folder = folder();
    let load = |name: &str| Config::load_with(&folder.path().join(name), []).unwrap_err().first();
    fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).unwrap();
    fs::write(folder.path().join("huge.toml"), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    for name in ["none.toml", "observations", "binary.toml", "huge.toml"] {
        assert_eq!(load(name).code, &problem::UNREADABLE, "{name}");
    }
}

#[test]
fn the_environment_lies_over_the_file() {
    let folder = folder();
    let variables = [
        ("FAIRLEAD__DATA", "/var/lib/fairlead"),
        ("FAIRLEAD__LISTENERS__PEERS", "[::1]:0"),
        ("FAIRLEAD__LOGGING__FORMAT", "json"),
        ("FAIRLEAD_LANGUAGE", "en"),
        ("PATH", "/bin"),
    ];
    let config = read(LEAST, folder.path(), &variables).unwrap();
    assert_eq!(config.data, Path::new("/var/lib/fairlead"));
    assert_eq!(config.listeners.peers.to_string(), "[::1]:0");
    assert_eq!(config.logging.format, LogFormat::Json);

    let bad = [("FAIRLEAD__LOGGING__LEVEL", "loud"), ("FAIRLEAD__LIMITS__DRAIN", "3")];
    let problems = read(LEAST, folder.path(), &bad).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("(environment variable FAIRLEAD__LOGGING__LEVEL): logging.level: "), "{text}");
    assert!(text.contains("`FAIRLEAD__LIMITS__DRAIN`; known are FAIRLEAD__DATA, "), "{text}");
    assert_eq!(problems.iter().count(), 2);
}

#[test]
fn a_reload_tells_what_needs_a_restart() {
    let folder = folder();
    let before = read(LEAST, folder.path(), &[]).unwrap();
    let changed = format!("{LEAST}listeners.peers = \"[::1]:0\"\nlogging.level = \"debug\"\n");
    let after = read(&changed, folder.path(), &[]).unwrap();
    assert_eq!(before.needs_restart(&after), ["listeners"]);
    assert!(before.needs_restart(&before).is_empty());
}

#[test]
fn every_example_loads_and_the_three_campuses_know_each_other() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../connector-config");
    let files = fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path());
    let configs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| Config::load_with(&path, []).unwrap_or_else(|problems| panic!("{problems}")))
        .collect();
    assert!(configs.len() >= 3);
    for config in &configs {
        for other in configs.iter().filter(|other| other.participant != config.participant) {
            let peer = config.peer(&other.participant).unwrap_or_else(|| panic!("{}", other.participant));
            assert_eq!(peer.addresses[0].port, other.listeners.peers.port());
        }
    }
}
