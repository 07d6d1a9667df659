//! Section by section from the file to [`Config`], with every default and every rule between settings.
//!
//! Each function asks for all its keys before it gives up, so that all problems come out together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_plane::agreement::Signing;
use control_plane::ids::{ParticipantId, printable};
use policy::refusal::Refusal;

use super::problem::{BAD_VALUE, CONFLICT, MISSING};
use super::reader::{Parsed, Reader, bad};
use super::tree::{SettingPath, Value};
use super::values;
use crate::approval::Act;

use super::{
    Acceptance, Address, Administration, AlteredTerms, Answers, Authority, Catalogue, Config, DspHttp,
    DspIdentity, HttpSource, Limits, Listeners, LogFormat, LogLevel, Logging, Negotiation, NegotiationRule,
    Pattern, Peer, Proof, Retention, Sources, Steps, TestIdentity, User,
};

const PEERS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 7443);
const HEALTH_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 7470);

const USE_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 7460);
const FLIGHT_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 7461);

const HOUR: u32 = 3_600;
const DAY: u32 = 24 * HOUR;

/// The whole file; `base` is where relative paths start.
pub(super) fn config(top: &Reader<'_>, base: &Path) -> Option<Config> {
    let participant = top.required("participant", values::participant);
    let data = top.required("data", values::folder_to_be(base));
    let listeners = top.section("listeners", listeners);
    let administration = top.section("administration", |section| administration(section, base));
    let authority = top.section("authority", |section| authority(section, base));
    let (participants, dialled) = (Taken::none(), Taken::none());
    if let Some(participant) = &participant {
        drop(participants.claim(participant.clone(), &top.path().key("participant")));
    }
    let peers = top.tables("peers", |section| peer(section, base, &participants, &dialled));
    let catalogue = top.section("catalogue", |section| catalogue(section, participant.as_ref()));
    let negotiation = top.section("negotiation", |section| negotiation(section, base));
    let dsp_http = top.optional_section("dsp_http", |section| dsp_http(section, participant.as_ref()));
    let sources = top.section("sources", |section| sources(section, base, data.as_deref()));
    let limits = top.section("limits", limits);
    let logging = top.section("logging", logging);
    let retention = top.section("retention", retention);
    let uids = RefCell::new(Vec::new());
    let users = top.tables("users", |section| user(section, &uids));

    if let (Some(dsp_http), Some(peers)) = (&dsp_http, &peers) {
        http_of_peers_applies(top, dsp_http.as_ref(), peers);
    }
    if let (Some(negotiation), Some(catalogue)) = (&negotiation, &catalogue) {
        rules_apply(top, negotiation, &catalogue.subject_base);
    }
    Some(Config {
        participant: participant?,
        data: data?,
        listeners: listeners?,
        administration: administration?,
        dsp_http: dsp_http?,
        authority: authority?,
        peers: peers?,
        catalogue: catalogue?,
        negotiation: negotiation?,
        sources: sources?,
        limits: limits?,
        logging: logging?,
        retention: retention?,
        users: users?,
    })
}

fn listeners(section: &Reader<'_>) -> Option<Listeners> {
    let peers = section.or("peers", PEERS_DEFAULT, values::listening);
    let health = section.or("health", HEALTH_DEFAULT, values::loopback);
    let use_endpoint = section.or("use", Some(USE_DEFAULT), values::loopback_or_off);
    let flight = section.or("flight", Some(FLIGHT_DEFAULT), values::loopback_or_off);
    let (peers, health, use_endpoint, flight) = (peers?, health?, use_endpoint?, flight?);
    let mut fits = true;
    if peers.port() != 0 && peers.port() == health.port() {
        section.refuse(
            "health",
            &CONFLICT,
            format!("port {} is that of listeners.peers, too", health.port()),
        );
        fits = false;
    }
    let mut taken = vec![peers.port(), health.port()];
    for (key, address) in [("use", use_endpoint), ("flight", flight)] {
        let Some(port) = address.map(|address| address.port()).filter(|port| *port != 0) else { continue };
        if taken.contains(&port) {
            section.refuse(key, &CONFLICT, "the port is that of another listener, too");
            fits = false;
        }
        taken.push(port);
    }
    fits.then_some(Listeners { peers, health, use_endpoint, flight })
}

fn administration(section: &Reader<'_>, base: &Path) -> Option<Administration> {
    let socket = section.optional("socket", values::path(base));
    let group = section.optional("group", values::group);
    let use_socket = section.optional("use_socket", values::path(base));
    let use_group = section.optional("use_group", values::group);
    let four_eyes = section.list("four_eyes", values::choice(Act::NAMES));
    let (socket, use_socket, use_group) = (socket?, use_socket?, use_group?);
    if use_group.is_some() && use_socket.is_none() {
        section.refuse("use_socket", &MISSING, "a path outside the data folder, which only its owner enters");
        return None;
    }
    let group = group?;
    if group.is_some() && socket.is_none() {
        section.refuse("socket", &MISSING, "a path outside the data folder, which only its owner enters");
        return None;
    }
    if use_socket.is_some() && use_socket == socket {
        section.refuse("use_socket", &CONFLICT, "is administration.socket, too");
        return None;
    }
    let four_eyes = four_eyes?.into_iter().collect();
    Some(Administration { socket, group, use_socket, use_group, four_eyes })
}

fn dsp_http(section: &Reader<'_>, participant: Option<&ParticipantId>) -> Option<DspHttp> {
    let listen = section.required("listen", values::listening);
    let base_url = section.optional("base_url", values::root_url);
    let name_base = section.optional("name_base", values::subject_base);
    let identity = section.required_section("identity", |identity| dsp_identity(identity, participant));
    let private_addresses = section.or("private_addresses", false, values::boolean);
    let (listen, base_url, identity) = (listen?, base_url?, identity?);
    let secure = base_url.as_ref().is_some_and(|url| url.starts_with("https:"));
    match &identity {
        DspIdentity::Test(_) if !listen.ip().is_loopback() => {
            let detail = "the test identity lets everybody in, so that it listens on a loopback address only";
            section.refuse("listen", &CONFLICT, detail);
            return None;
        }
        DspIdentity::Test(_) if secure => {
            section.refuse("base_url", &CONFLICT, "the test listener has no TLS");
            return None;
        }
        DspIdentity::Members(_) if !secure => {
            section.refuse("base_url", &MISSING, "an https address under which others reach the listener");
            return None;
        }
        DspIdentity::Test(_) | DspIdentity::Members(_) => {}
    }
    Some(DspHttp { listen, base_url, name_base: name_base?, identity, private_addresses: private_addresses? })
}

/// What is said about a peer over HTTP must not be without effect.
fn http_of_peers_applies(top: &Reader<'_>, dsp_http: Option<&DspHttp>, peers: &[Peer]) {
    if matches!(dsp_http.map(|settings| &settings.identity), Some(DspIdentity::Members(_))) {
        return;
    }
    let path = top.path().key("peers");
    for (index, peer) in peers.iter().enumerate() {
        let said =
            [("http_identity", peer.http_identity.is_some()), ("push_roots", peer.push_roots.is_some())];
        for (name, _) in said.into_iter().filter(|(_, said)| *said) {
            let detail = "has an effect only where [dsp_http] serves members";
            top.refuse_at(&path.index(index).key(name), &CONFLICT, detail);
        }
    }
}

fn dsp_identity(section: &Reader<'_>, us: Option<&ParticipantId>) -> Option<DspIdentity> {
    #[derive(Clone, Copy)]
    enum Mode {
        Members(Proof),
        Test,
    }
    const MODES: &[(&str, Mode)] = &[
        ("mutual-tls", Mode::Members(Proof::MutualTls)),
        ("bearer", Mode::Members(Proof::Bearer)),
        ("test", Mode::Test),
    ];
    match section.required("mode", values::choice(MODES))? {
        Mode::Members(proof) => Some(DspIdentity::Members(proof)),
        Mode::Test => {
            let participant = section.required("participant", values::participant);
            let name = section.optional("name", |value| values::text(value).map(str::to_owned));
            let participant = participant?;
            if us == Some(&participant) {
                section.refuse("participant", &CONFLICT, "callers cannot be ourselves");
                return None;
            }
            Some(DspIdentity::Test(TestIdentity { participant, name: name? }))
        }
    }
}

fn authority(section: &Reader<'_>, base: &Path) -> Option<Authority> {
    let address = section.required("address", values::address);
    let roots = section.optional("roots", values::certificates(base));
    let refresh = section.or("refresh_seconds", seconds(HOUR), values::seconds(1..=DAY));
    let revocation_grace =
        section.or("revocation_grace_seconds", seconds(12 * HOUR), values::seconds(0..=7 * DAY));
    Some(Authority {
        address: address?,
        roots: roots?,
        refresh: refresh?,
        revocation_grace: revocation_grace?,
    })
}

fn peer(
    section: &Reader<'_>,
    base: &Path,
    participants: &Taken<ParticipantId>,
    dialled: &Taken<Address>,
) -> Option<Peer> {
    /// A host with several addresses and a second site; each failing one costs a connection attempt.
    const MAX_ADDRESSES: usize = 16;
    let participant = section
        .required("participant", |value| participants.claim(values::participant(value)?, section.path()));
    let addresses = section.list("addresses", |value| dialled.claim(values::address(value)?, section.path()));
    const SIGNATURES: &[(&str, Signing)] =
        &[("required", Signing::Required), ("if-offered", Signing::IfOffered)];
    let signatures = section.or("signatures", Signing::Required, values::choice(SIGNATURES))?;
    const PROOFS: &[(&str, Proof)] = &[("mutual-tls", Proof::MutualTls), ("bearer", Proof::Bearer)];
    let http_identity = section.or("http_identity", None, |value| values::choice(PROOFS)(value).map(Some));
    let push_roots = section.optional("push_roots", values::certificates(base));
    // Who cannot sign speaks the Dataspace Protocol over HTTP and nothing else.
    let ours = signatures == Signing::Required;
    let replicate = section.or("replicate", ours, values::boolean);
    let addresses = addresses?;
    if addresses.is_empty() && ours {
        section.refuse("addresses", &MISSING, "a peer needs at least one `host:port`");
        return None;
    }
    if addresses.len() > MAX_ADDRESSES {
        section.refuse("addresses", &BAD_VALUE, format!("has more than {MAX_ADDRESSES} entries"));
        return None;
    }
    Some(Peer {
        participant: participant?,
        addresses,
        replicate: replicate?,
        signatures,
        http_identity: http_identity?,
        push_roots: push_roots?,
    })
}

/// Values that may stand only once in a file, with the place that has them.
struct Taken<T>(RefCell<BTreeMap<T, String>>);

impl<T: Ord + Clone + Display> Taken<T> {
    const fn none() -> Self {
        Self(RefCell::new(BTreeMap::new()))
    }

    /// Gives `value` to the setting at `path`, unless another has it.
    fn claim(&self, value: T, path: &SettingPath) -> Parsed<T> {
        let earlier = self.0.borrow_mut().entry(value.clone()).or_insert_with(|| path.to_string()).clone();
        if earlier == path.to_string() {
            return Ok(value);
        }
        Err(Refusal::new(&CONFLICT, format!("`{value}` is that of {earlier}, too")))
    }
}

fn catalogue(section: &Reader<'_>, participant: Option<&ParticipantId>) -> Option<Catalogue> {
    let subject_base = section.optional("subject_base", values::subject_base);
    let pull_interval = section.or("pull_interval_seconds", seconds(30), values::seconds(1..=DAY));
    let subject_base = match subject_base? {
        Some(subject_base) => subject_base,
        None => match participant?.as_str() {
            uri if uri.starts_with("https://") => format!("{}/", uri.trim_end_matches('/')),
            _ => {
                section.refuse("subject_base", &MISSING, "only an https participant has a default");
                return None;
            }
        },
    };
    Some(Catalogue { subject_base, pull_interval: pull_interval? })
}

fn negotiation(section: &Reader<'_>, base: &Path) -> Option<Negotiation> {
    const STEPS: &[(&str, Steps)] = &[("automatic", Steps::Automatic), ("manual", Steps::Manual)];
    let steps = section.or("steps", Steps::Automatic, values::choice(STEPS));
    let ceiling = section.optional("ceiling", values::file(base));
    let rules = section.tables("rules", rule);
    Some(Negotiation { steps: steps?, ceiling: ceiling?, rules: rules? })
}

fn rule(section: &Reader<'_>) -> Option<NegotiationRule> {
    const ACCEPT: &[(&str, Acceptance)] =
        &[("automatic", Acceptance::Automatic), ("manual", Acceptance::Manual)];
    const ALTERED: &[(&str, AlteredTerms)] = &[
        ("accept-if-stricter", AlteredTerms::AcceptIfStricter),
        ("counter", AlteredTerms::Counter),
        ("manual", AlteredTerms::Manual),
        ("terminate", AlteredTerms::Terminate),
    ];
    let dataset = section.or("dataset", Pattern::any(), values::pattern);
    let consumer = section.or("consumer", Pattern::any(), values::pattern);
    let accept = section.or("accept", Acceptance::Manual, values::choice(ACCEPT));
    let altered = section.or("altered", AlteredTerms::Manual, values::choice(ALTERED));
    let consumer = consumer?;
    if let Some(uri) = consumer.exact()
        && ParticipantId::parse(uri).is_err()
    {
        section.refuse("consumer", &BAD_VALUE, format!("`{}` is no participant", printable(uri)));
        return None;
    }
    let (accept, altered) = (accept?, altered?);
    if altered == AlteredTerms::AcceptIfStricter && accept == Acceptance::Manual {
        let detail = "accept-if-stricter needs accept = automatic: a rule that may not accept what was published may \
                      not accept less";
        section.refuse("altered", &CONFLICT, detail);
        return None;
    }
    Some(NegotiationRule { dataset: dataset?, consumer, answers: Answers { accept, altered } })
}

/// A rule that can never decide is a mistake of its writer, who believes in it.
fn rules_apply(top: &Reader<'_>, negotiation: &Negotiation, subject_base: &str) {
    let path = top.path().key("negotiation").key("rules");
    for (index, rule) in negotiation.rules.iter().enumerate() {
        let path = path.index(index);
        if !rule.dataset.meets(subject_base) {
            let detail = format!("`{}` matches nothing below our subject base {subject_base}", rule.dataset);
            top.refuse_at(&path.key("dataset"), &CONFLICT, detail);
        }
        let covers = |earlier: &NegotiationRule| {
            earlier.dataset.covers(&rule.dataset) && earlier.consumer.covers(&rule.consumer)
        };
        if let Some(earlier) = negotiation.rules.iter().take(index).position(covers) {
            let detail = format!("negotiation.rules[{earlier}] decides everything that this rule is about");
            top.refuse_at(&path, &CONFLICT, detail);
        }
    }
}

fn sources(section: &Reader<'_>, base: &Path, data: Option<&Path>) -> Option<Sources> {
    let roots = section.names("roots", |name, value| root(name, value, base, data));
    let hosts = Taken::none();
    let http = section.tables("http", |source| http_source(source, base, &hosts));
    Some(Sources { roots: roots?, http: http? })
}

fn root(name: &str, value: &Value, base: &Path, data: Option<&Path>) -> Parsed<PathBuf> {
    const MAX_NAME_BYTES: usize = 64;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(plain) {
        return Err(bad(format!("a root's name has 1 to {MAX_NAME_BYTES} of a-z, 0-9, `-` and `_`")));
    }
    let folder = values::folder(base)(value)?;
    if let Some(data) = data {
        let (inside, outside) = (values::resolved(&folder), values::resolved(data));
        if inside.starts_with(&outside) || outside.starts_with(&inside) {
            return Err(Refusal::new(
                &CONFLICT,
                format!("`{}` and the data folder lie within each other", folder.display()),
            ));
        }
    }
    Ok(folder)
}

fn http_source(section: &Reader<'_>, base: &Path, hosts: &Taken<Address>) -> Option<HttpSource> {
    let address = section.required("address", |value| hosts.claim(values::address(value)?, section.path()));
    let roots = section.optional("roots", values::certificates(base));
    let private_addresses = section.or("private_addresses", false, values::boolean);
    Some(HttpSource { address: address?, roots: roots?, private_addresses: private_addresses? })
}

fn limits(section: &Reader<'_>) -> Option<Limits> {
    const KIB: u32 = 1_024;
    const MIB: u32 = 1_024 * KIB;
    let connections = section.or("connections", 1_024, values::number(1..=65_536));
    let connections_per_peer = section.or("connections_per_peer", 32, values::number(1..=65_536));
    let handshake = section.or("handshake_seconds", seconds(10), values::seconds(1..=120));
    let message_bytes = section.or("message_bytes", 4 * MIB, values::number(2 * MIB..=64 * MIB));
    let open_negotiations_per_peer =
        section.or("open_negotiations_per_peer", 1_000, values::number(1..=1_000_000));
    let transfers_at_once = section.or("transfers_at_once", 32, values::number(1..=1_024));
    let use_sessions = section.or("use_sessions", 64, values::number(1..=4_096));
    let use_session_idle = section.or("use_session_idle_seconds", seconds(15 * 60), values::seconds(1..=DAY));
    let use_session_life = section.or("use_session_seconds", seconds(HOUR), values::seconds(1..=7 * DAY));
    let longest_retry = section.or("longest_retry_seconds", seconds(60), values::seconds(1..=HOUR));
    let drain = section.or("drain_seconds", seconds(20), values::seconds(0..=600));
    let (connections, connections_per_peer) = (connections?, connections_per_peer?);
    if connections_per_peer > connections {
        section.refuse(
            "connections_per_peer",
            &CONFLICT,
            format!("exceeds limits.connections, {connections}"),
        );
        return None;
    }
    Some(Limits {
        connections,
        connections_per_peer,
        handshake: handshake?,
        message_bytes: message_bytes?,
        open_negotiations_per_peer: open_negotiations_per_peer?,
        transfers_at_once: transfers_at_once?,
        use_sessions: use_sessions?,
        use_session_idle: use_session_idle?,
        use_session_life: use_session_life?,
        longest_retry: longest_retry?,
        drain: drain?,
    })
}

fn user(section: &Reader<'_>, taken: &RefCell<Vec<u32>>) -> Option<User> {
    let uid = section.required("uid", values::number(0..=u32::MAX));
    let roles = section.list("roles", values::iri);
    let projects = section.list("projects", values::iri);
    let uid = uid?;
    if taken.borrow().contains(&uid) {
        section.refuse("uid", &CONFLICT, format!("user {uid} stands here twice"));
        return None;
    }
    taken.borrow_mut().push(uid);
    Some(User { uid, roles: roles?, projects: projects? })
}

fn logging(section: &Reader<'_>) -> Option<Logging> {
    const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
    const LEVELS: &[(&str, LogLevel)] = &[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let format = section.or("format", LogFormat::Text, values::choice(FORMATS));
    let level = section.or("level", LogLevel::Info, values::choice(LEVELS));
    Some(Logging { format: format?, level: level? })
}

fn retention(section: &Reader<'_>) -> Option<Retention> {
    const CENTURY_DAYS: u32 = 36_525;
    let ended_processes = section.or("ended_processes_days", days(365), values::days(1..=CENTURY_DAYS));
    // A peer that was down for a week may still repeat its last message.
    let message_ids = section.or("message_ids_days", days(30), values::days(7..=CENTURY_DAYS));
    Some(Retention { ended_processes: ended_processes?, message_ids: message_ids? })
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(u64::from(count))
}

fn days(count: u32) -> Duration {
    seconds(count.saturating_mul(DAY))
}
