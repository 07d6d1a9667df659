//! The settings of one participant: read whole, checked whole, before anything opens.
//!
//! [`Config::load`] either gives a [`Config`] in which every value is valid, or all problems at once, each with
//! the path of its setting and its line. Every setting with its default stands, explained, in
//! `connector-config/*.toml`. The settings hold no secrets: keys lie in the data folder.

mod problem;
mod reader;
mod sections;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control_plane::agreement::Signing;
use control_plane::ids::{DatasetId, ParticipantId};

use crate::approval::Act;

pub use problem::{CODES, ConfigProblem, ConfigProblems, Place};
pub use values::{Address, Group, Host, Pattern};

use reader::Reader;
use tree::Node;

/// Far more than the settings of the largest institution.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The settings of one participant. Paths are absolute or start at the settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who we are.
    pub participant: ParticipantId,
    /// The folder of everything that this connector writes.
    pub data: PathBuf,
    /// Where others reach us.
    pub listeners: Listeners,
    /// Who besides the owner may do what on this host.
    pub administration: Administration,
    /// The Dataspace Protocol over HTTP, if it is spoken.
    pub dsp_http: Option<DspHttp>,
    /// The data space's authority.
    pub authority: Authority,
    /// The connectors we talk to.
    pub peers: Vec<Peer>,
    /// Our part of the shared catalogue.
    pub catalogue: Catalogue,
    /// What a provider answers without asking a person.
    pub negotiation: Negotiation,
    /// Where published data may be read from.
    pub sources: Sources,
    /// Bounds of this process.
    pub limits: Limits,
    /// The form and detail of the logs.
    pub logging: Logging,
    /// How long finished things are kept.
    pub retention: Retention,
    /// Who uses data here, for policies that ask for it.
    pub users: Vec<User>,
}

/// `[[users]]`: one user of the operating system, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number of the operating system's user that calls the socket.
    pub uid: u32,
    /// Its roles, as IRIs. Default none.
    pub roles: Vec<String>,
    /// What it works on, as IRIs. Default nothing.
    pub projects: Vec<String>,
}

/// `[listeners]`: the sockets that listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Other connectors, gRPC with mutual TLS. Default `[::]:7443`; port 0 lets the system choose.
    pub peers: SocketAddr,
    /// Health and metrics, always a loopback address. Default `[::1]:7470`; port 0 lets the system choose.
    pub health: SocketAddr,
    /// Held data for programs of this host, always a loopback address; `None` where it is off. Default `[::1]:7460`;
    /// port 0 lets the system choose.
    pub use_endpoint: Option<SocketAddr>,
    /// The tables among it over Arrow Flight, always a loopback address; `None` where it is off. Default `[::1]:7461`;
    /// port 0 lets the system choose.
    pub flight: Option<SocketAddr>,
}

/// `[administration]`: who besides the owner of the data folder reaches this connector on its host. A socket serves its
/// group as well where one is named (0660), else its owner alone (0600).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Administration {
    /// The socket for everything. Default `<data>/admin.sock`.
    pub socket: Option<PathBuf>,
    /// Whose members may administer.
    pub group: Option<Group>,
    /// The socket for using data and asking for access, and nothing else. Default none.
    pub use_socket: Option<PathBuf>,
    /// Whose members may use data.
    pub use_group: Option<Group>,
    /// Acts that a second person must approve.
    pub four_eyes: BTreeSet<Act>,
}

/// `[dsp_http]`: the Dataspace Protocol 2025-1 over HTTP. Absent means off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DspHttp {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The root under which others reach that listener, without a final slash: `https://connector.example`. `None`
    /// only on a loopback listener, whose own address it then is.
    pub base_url: Option<String>,
    /// What the IRIs behind bare names of ours start with; without it our IRIs are written as they are.
    pub name_base: Option<String>,
    /// Who callers are.
    pub identity: DspIdentity,
    /// Whether peers may be called at loopback, link-local or private addresses. Default false; in a test only
    /// loopback addresses are called, whatever this says.
    pub private_addresses: bool,
}

/// `dsp_http.identity`: how a caller shows who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DspIdentity {
    /// Members of our data space, over TLS; the proof asked for can differ by peer ([`Peer::http_identity`]).
    Members(Proof),
    /// Everybody is this participant, without TLS: only on a loopback listener.
    Test(TestIdentity),
}

/// How a member proves over HTTP who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `mutual-tls`: its certificate on the connection, and the membership statement as credential.
    MutualTls,
    /// `bearer`: a token for each request, signed with its key and bound to its certificate on the connection, if one
    /// is shown.
    Bearer,
}

/// The one participant that every caller of a test listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestIdentity {
    /// What it is called here.
    pub participant: ParticipantId,
    /// What it is called in messages. Default: its URI.
    pub name: Option<String>,
}

/// `[authority]`: who vouches for the members of this data space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Enrolment, statements and revocation lists.
    pub address: Address,
    /// The roots that are trusted, as a PEM file; without it, those that enrolment stored in the data folder.
    pub roots: Option<PathBuf>,
    /// How often statement and revocation lists are fetched. Default one hour.
    pub refresh: Duration,
    /// How long a revocation list counts after its `nextUpdate`. Default 12 hours.
    pub revocation_grace: Duration,
}

/// `[[peers]]`: one other connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its participant; the certificate that is dialled must carry this URI.
    pub participant: ParticipantId,
    /// Where to dial it, in order of preference; empty only for a peer that need not sign.
    pub addresses: Vec<Address>,
    /// Whether catalogue logs are exchanged with it. Default true, for a peer that need not sign false.
    pub replicate: bool,
    /// Whether it must sign agreements made over HTTP. Default required; over gRPC always.
    pub signatures: Signing,
    /// What it and we prove to each other over HTTP. Default `dsp_http.identity.mode`.
    pub http_identity: Option<Proof>,
    /// Roots, as a PEM file, that certify the hosts to which this peer has data pushed. Default none: the receiver is then
    /// the peer itself, with its certificate of the data space.
    pub push_roots: Option<PathBuf>,
}

/// `[catalogue]`: publication and replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// What every IRI that we describe starts with; ends in `/`. Default: the participant's URI and `/`.
    pub subject_base: String,
    /// How often each replicating peer is asked for what we lack. Default 30 s.
    pub pull_interval: Duration,
}

/// `[negotiation]`: answers of the provider, by dataset and consumer, and the ceiling of the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// Who takes our steps. Default [`Steps::Automatic`].
    pub steps: Steps,
    /// The policy that says how far we bind ourselves as a consumer, unless `fairlead negotiate --ceiling` names
    /// another. Default none: published offers are accepted by rule, altered ones by a person.
    pub ceiling: Option<PathBuf>,
    rules: Vec<NegotiationRule>,
}

/// Who takes the steps of ours that follow from what was decided before: countersigning, finalizing, starting a
/// transfer, pulling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// The connector, as the rules say.
    Automatic,
    /// A person takes every step, in both roles; the rules are not asked.
    Manual,
}

/// `[[negotiation.rules]]`: the first rule that matches dataset and consumer decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiationRule {
    /// The datasets it is about. Default all.
    pub dataset: Pattern,
    /// The consumers it is about. Default all.
    pub consumer: Pattern,
    /// What it says.
    pub answers: Answers,
}

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// To a request for exactly what we published. Default [`Acceptance::Manual`].
    pub accept: Acceptance,
    /// To a request whose terms differ. Default [`AlteredTerms::Manual`].
    pub altered: AlteredTerms,
}

/// Who accepts a request for exactly what we published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The connector, at once, in the transaction that receives the request.
    Automatic,
    /// A person, with `fairlead negotiation accept`.
    Manual,
}

/// What happens to a request whose terms differ from what we published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlteredTerms {
    /// Terms proven to be at least as strict as the published ones are accepted at once; a person decides the rest.
    AcceptIfStricter,
    /// The published offer is sent back.
    Counter,
    /// A person decides.
    Manual,
    /// The negotiation ends.
    Terminate,
}

/// `[sources]`: data lies only beneath named roots or at listed hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Folders by the name that `file:NAME/path` and `directory:NAME/path` use; links never lead out of them.
    pub roots: BTreeMap<String, PathBuf>,
    /// The hosts that HTTP(S) sources may be fetched from.
    pub http: Vec<HttpSource>,
}

/// `[[sources.http]]`: one host that data may be fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// Host and port.
    pub address: Address,
    /// The roots that its certificate must lead to, as a PEM file; `https` needs them, as no system store is used.
    pub roots: Option<PathBuf>,
    /// Whether the host may resolve to loopback, link-local or private addresses. Default false.
    pub private_addresses: bool,
}

/// `[limits]`: named bounds; hitting one is a clear refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TLS connections open at once, handshakes included. Default 1,024: about 100 KiB each.
    pub connections: u32,
    /// Of these, one peer's. Default 32: control, and a few data connections for each of its replicas.
    pub connections_per_peer: u32,
    /// The longest time for a TLS handshake and the exchange of identities. Default 10 s.
    pub handshake: Duration,
    /// The largest message of the control plane, in bytes. Default 4 MiB: a catalogue page of 1 MiB self-descriptions.
    pub message_bytes: u32,
    /// Negotiations under way with one peer. Default 1,000.
    pub open_negotiations_per_peer: u32,
    /// Pulls running at once in each direction. Default 32: the disk is busy long before.
    pub transfers_at_once: u32,
    /// Use sessions open at once. Default 64.
    pub use_sessions: u32,
    /// After this long without a read a use session ends. Default 15 min.
    pub use_session_idle: Duration,
    /// After this long without a renewal a use session ends. Default 1 h.
    pub use_session_life: Duration,
    /// The longest pause between two attempts to deliver a message. Default 60 s.
    pub longest_retry: Duration,
    /// How long running calls may take to end after SIGTERM. Default 20 s.
    pub drain: Duration,
}

/// `[logging]`: written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Text for people or JSON for machines. Default text.
    pub format: LogFormat,
    /// How much our own code says; libraries never say more than warnings. Default info.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only failures of our own.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also each step of a process.
    Info,
    /// Also what helps to find a mistake.
    Debug,
    /// Everything.
    Trace,
}

/// `[retention]`: how long finished things are kept. Agreements, duties and the ledger stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Ended negotiations and transfers. Default 365 days.
    pub ended_processes: Duration,
    /// Ids of received messages, by which repetitions are known. Default 30 days; a peer must not retry for longer.
    pub message_ids: Duration,
}

impl Config {
    /// Reads the settings at `path` with the process's environment laid over them; opens nothing else.
    pub fn load(path: &Path) -> Result<Self, ConfigProblems> {
        // A variable that is not Unicode cannot be one of ours, whose names and values are.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_with(path, variables)
    }

    /// Reads the settings at `path` with `variables` as the environment.
    pub fn load_with(
        path: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigProblems> {
        let text = read_bounded(path)
            .map_err(|cause| ConfigProblems::whole_file(path, &problem::UNREADABLE, cause))?;
        Self::read(&text, path, variables)
    }

    fn read(
        text: &str,
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigProblems> {
        let (mut tree, mut problems) = Node::parse(text);
        let broken = !problems.is_empty();
        problems.extend(tree.overlay(variables));
        let base = file.parent().unwrap_or(Path::new(""));
        let found = RefCell::new(Vec::new());
        let config = Reader::read_file(&tree, &found, |reader| sections::config(reader, base));
        // Behind a broken line, settings that are there look missing.
        problems.extend(
            found.into_inner().into_iter().filter(|found| !broken || found.refusal.code != &problem::MISSING),
        );
        problems.sort_by_key(|problem| problem.line().unwrap_or_default());
        match (config, ConfigProblems::of(file, problems)) {
            (Some(config), None) => Ok(config),
            (_, Some(problems)) => Err(problems),
            (None, None) => {
                Err(ConfigProblems::whole_file(file, &problem::UNREADABLE, "refused without a reason"))
            }
        }
    }

    /// The settings in which `changed` differs and which take effect only at the next start, by path.
    pub fn needs_restart(&self, changed: &Self) -> Vec<&'static str> {
        let fixed = [
            ("participant", self.participant == changed.participant),
            ("data", self.data == changed.data),
            ("listeners", self.listeners == changed.listeners),
            ("administration", self.administration.sockets() == changed.administration.sockets()),
            ("dsp_http", self.dsp_http == changed.dsp_http),
            ("catalogue.subject_base", self.catalogue.subject_base == changed.catalogue.subject_base),
        ];
        fixed.iter().filter(|(_, same)| !same).map(|(path, _)| *path).collect()
    }

    /// The configured peer of this name.
    pub fn peer(&self, participant: &ParticipantId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.participant == *participant)
    }

    /// What `peer` and we prove to each other over HTTP; `None` where members are not served over HTTP.
    pub fn http_proof(&self, peer: &ParticipantId) -> Option<Proof> {
        let default = self.http_default()?;
        Some(self.peer(peer).and_then(|peer| peer.http_identity).unwrap_or(default))
    }

    /// Whether some member may show a bearer token, and so come without a client certificate.
    pub fn takes_bearer_tokens(&self) -> bool {
        let of_peers = self.peers.iter().filter_map(|peer| peer.http_identity);
        self.http_default().into_iter().chain(of_peers).any(|proof| proof == Proof::Bearer)
    }

    fn http_default(&self) -> Option<Proof> {
        match self.dsp_http.as_ref()?.identity {
            DspIdentity::Members(proof) => Some(proof),
            DspIdentity::Test(_) => None,
        }
    }
}

impl Administration {
    /// What is bound at the start.
    fn sockets(&self) -> impl PartialEq {
        (self.socket.clone(), self.group.clone(), self.use_socket.clone(), self.use_group.clone())
    }
}

impl Negotiation {
    /// What is answered to `consumer` about `dataset`: the first matching rule, or a person decides.
    pub fn answers(&self, dataset: &DatasetId, consumer: &ParticipantId) -> Answers {
        self.rules
            .iter()
            .find(|rule| rule.dataset.matches(dataset.as_str()) && rule.consumer.matches(consumer.as_str()))
            .map_or(Answers { accept: Acceptance::Manual, altered: AlteredTerms::Manual }, |rule| {
                rule.answers
            })
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[NegotiationRule] {
        &self.rules
    }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}
