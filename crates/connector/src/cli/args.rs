//! The command line: every command with its help and an example.

mod officers;
mod recovery;
mod sessions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use officers::{AccessCommand, ApprovalCommand, AuditCommand, VerifyArgs};
pub use recovery::{BackupArgs, RecoveryCommand, RestoreArgs};
pub use sessions::{OpenArgs, SessionCommand};

/// Fairlead: share research data, academic resources and computing without giving up control.
#[derive(Debug, Parser)]
#[command(name = "fairlead", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Example: fairlead demo\nExit codes: 0 done, 1 our fault, 2 usage, 3 refused by policy, 4 refused by peer, 5 not found, \
                        6 unavailable.\nEvery command prints a table for people, or JSON with --json."
)]
pub struct Cli {
    /// Print JSON (one object, or one a line where there are several)
    #[arg(long, global = true)]
    pub json: bool,
    /// The connector's data directory, where its administration socket is
    #[arg(long, global = true, env = "FAIRLEAD_DATA", value_name = "DIR", default_value = "fairlead-data")]
    pub data: PathBuf,
    /// The connector's socket, where it is not in the data directory
    #[arg(long, global = true, env = "FAIRLEAD_SOCKET", value_name = "FILE")]
    pub socket: Option<PathBuf>,
    /// Language of texts for people
    #[arg(long, global = true, env = "FAIRLEAD_LANGUAGE", value_enum, default_value_t = Language::En)]
    pub language: Language,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The languages of texts for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    #[value(name = "en")]
    En,
    /// 繁體中文
    #[value(name = "zh-Hant")]
    ZhHant,
    /// 简体中文
    #[value(name = "zh-Hans")]
    ZhHans,
}

impl Language {
    /// The BCP 47 tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::ZhHant => "zh-Hant",
            Self::ZhHans => "zh-Hans",
        }
    }
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the connector of one participant until SIGTERM (SIGHUP reloads certificates, lists and settings)
    #[command(after_help = "Example: fairlead run --config connector-config/hong-kong.toml")]
    Run(ConfigFile),
    /// Check settings without opening anything
    #[command(subcommand, after_help = "Example: fairlead config check connector-config/hong-kong.toml")]
    Config(ConfigCommand),
    /// The authority of a data space: identities, statements, revocation
    #[command(
        subcommand,
        after_help = "Example: fairlead authority init --dir authority --name \"Bay Area data space\""
    )]
    Authority(AuthorityCommand),
    /// Enrol this connector with an authority: makes the key here, sends only a signing request
    #[command(after_help = "Example: fairlead enrol --config hong-kong.toml --token-file token.txt")]
    Enrol(EnrolArgs),
    /// Offer datasets
    #[command(
        subcommand,
        after_help = "Example: fairlead dataset publish weather.ttl --source file:shared/weather.csv"
    )]
    Dataset(DatasetCommand),
    /// Search the shared catalogue
    #[command(subcommand, after_help = "Example: fairlead catalogue search 天氣")]
    Catalogue(CatalogueCommand),
    /// Negotiate an agreement for a dataset
    #[command(after_help = "Example: fairlead negotiate https://hku.example/id/weather --wait 30")]
    Negotiate(NegotiateArgs),
    /// Negotiations under way and ended
    #[command(subcommand, after_help = "Example: fairlead negotiation list")]
    Negotiation(NegotiationCommand),
    /// Agreements, and what may still be done under them
    #[command(subcommand, after_help = "Example: fairlead agreement show urn:uuid:…")]
    Agreement(AgreementCommand),
    /// The connectors we know
    #[command(subcommand, after_help = "Example: fairlead peer list")]
    Peer(PeerCommand),
    /// Pull data under an agreement
    #[command(subcommand, after_help = "Example: fairlead transfer start urn:uuid:…")]
    Transfer(TransferCommand),
    /// Use pulled data: decision, counter and record come before the first byte
    #[command(
        after_help = "Example: fairlead use urn:uuid:… --action read --purpose dpv:AcademicResearch > weather.csv\n\
                            The bytes go to standard output. To write a file, the policy must permit the action `export`."
    )]
    Use(UseArgs),
    /// Use sessions that stay open: read with curl, pandas, DuckDB and whatever else reads HTTP
    #[command(
        subcommand,
        after_help = "Example: fairlead session open urn:uuid:… --purpose dpv:AcademicResearch"
    )]
    Session(SessionCommand),
    /// What this connector holds of others' data
    #[command(subcommand, after_help = "Example: fairlead holdings show urn:uuid:…")]
    Holdings(HoldingsCommand),
    /// Ask for access to others' data, and decide what people ask for
    #[command(
        subcommand,
        after_help = "Example: fairlead access request https://hku.example/id/weather --purpose dpv:AcademicResearch"
    )]
    Access(AccessCommand),
    /// Acts that wait for a second person
    #[command(subcommand, after_help = "Example: fairlead approval approve AP-2026-00012")]
    Approval(ApprovalCommand),
    /// For auditors: signed exports of the ledger, their verification, and who holds which copies
    #[command(
        subcommand,
        after_help = "Example: fairlead audit export --peer https://hku.example/id --period 2026-11 --output november.json"
    )]
    Audit(AuditCommand),
    /// What agreements demand of us: done by the connector, or by a person who enters the evidence
    #[command(subcommand, after_help = "Example: fairlead duty list --state due")]
    Duty(DutyCommand),
    /// Named events that policies ask for
    #[command(subcommand, after_help = "Example: fairlead event begin urn:event:trial-1")]
    Event(EventCommand),
    /// Write, check, explain, compare and test policies; needs no running connector
    #[command(after_help = "Example: fairlead policy check offer.json")]
    Policy(super::policy::PolicyArgs),
    /// The append-only record of what this connector did
    #[command(after_help = "Example: fairlead ledger --from 0 --json")]
    Ledger(LedgerArgs),
    /// Find out what is wrong, here or on the way to a peer
    #[command(subcommand, after_help = "Example: fairlead doctor peer https://hku.example/id")]
    Doctor(DoctorCommand),
    /// The state of the running connector
    #[command(after_help = "Example: fairlead status --json")]
    Status,
    /// Read settings, certificates and lists again
    #[command(after_help = "Example: fairlead reload")]
    Reload,
    /// Write state, keys and sealed copies of the running connector to one file that only the recovery key opens
    #[command(after_help = "Example: fairlead backup /var/backups/fairlead-2026-11-28.backup\n\
        Example: fairlead backup --state-only /var/backups/fairlead-2026-11-28.db")]
    Backup(BackupArgs),
    /// Put a backup back into a stopped connector's data directory
    #[command(
        after_help = "Example: fairlead restore fairlead-2026-11-28.backup --recovery-key recovery.key --data fairlead-data\n\
        What is held stays closed until its provider was reached: a backup cannot give spent uses or ended rights back."
    )]
    Restore(RestoreArgs),
    /// The key that opens backups on another machine
    #[command(subcommand, after_help = "Example: fairlead recovery init /media/usb/recovery.key")]
    Recovery(RecoveryCommand),
    /// Tell the whole story on real data: an authority and three connectors as processes on [::1]
    #[command(after_help = "Example: fairlead demo --keep /tmp/fairlead-demo")]
    Demo(DemoArgs),
}

/// Names a settings file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The settings of this participant (TOML)
    #[arg(long, env = "FAIRLEAD_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

/// `fairlead config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake at once, by path
    #[command(after_help = "Example: fairlead config check connector-config/macao.toml")]
    Check {
        /// The settings file (TOML)
        file: PathBuf,
    },
}

/// `fairlead authority …`
#[derive(Debug, Subcommand)]
pub enum AuthorityCommand {
    /// Make the root, the issuing authority and empty revocation lists
    #[command(after_help = "Example: fairlead authority init --dir authority --name \"Bay Area data space\"")]
    Init {
        /// The authority's directory
        #[arg(long)]
        dir: PathBuf,
        /// Name of the data space
        #[arg(long)]
        name: String,
        /// The authority's own URI, as it stands in every certificate chain; made of the name where none is given
        #[arg(long, value_name = "URI")]
        id: Option<String>,
        /// DNS names and addresses of the authority's listener, repeatable
        #[arg(long, default_values_t = [String::from("localhost")])]
        host: Vec<String>,
    },
    /// Serve enrolment, renewal, statements and lists
    #[command(after_help = "Example: fairlead authority run --dir authority --listen [::]:7400")]
    Run {
        /// The authority's directory
        #[arg(long)]
        dir: PathBuf,
        /// Where to listen
        #[arg(long, default_value = "[::]:7400")]
        listen: std::net::SocketAddr,
    },
    /// Make a one-time enrolment token for one participant
    #[command(after_help = "Example: fairlead authority token --dir authority --address ca.example:7400 \
        --participant https://hku.example/id --legal-name \"Example University\" --jurisdiction HK --city \"Hong Kong\" \
        --name connector.hku.example --subject-base https://hku.example/id/")]
    Token(TokenArgs),
    /// Revoke a participant's certificates and publish a new list
    #[command(after_help = "Example: fairlead authority revoke --dir authority https://hku.example/id")]
    Revoke {
        /// The authority's directory
        #[arg(long)]
        dir: PathBuf,
        /// The participant, or the serial number of one certificate (hexadecimal)
        participant: String,
    },
    /// Issue a new membership statement (a newer one supersedes the older at once)
    #[command(
        after_help = "Example: fairlead authority statement --dir authority https://hku.example/id --security-profile trust\n\
        What is not named stays as it is."
    )]
    Statement(StatementArgs),
    /// Members, certificates and statements
    #[command(after_help = "Example: fairlead authority list --dir authority")]
    List {
        /// The authority's directory
        #[arg(long)]
        dir: PathBuf,
    },
}

/// What a new membership statement says otherwise.
#[derive(Debug, Args)]
pub struct StatementArgs {
    /// The authority's directory
    #[arg(long)]
    pub dir: PathBuf,
    /// The participant
    pub participant: String,
    /// Legal name; `TEXT` or `LANGUAGE=TEXT`, repeatable
    #[arg(long)]
    pub legal_name: Vec<String>,
    /// base, trust or trustplus
    #[arg(long)]
    pub security_profile: Option<String>,
    /// ISO 3166 code; CN, HK and MO stand apart
    #[arg(long)]
    pub jurisdiction: Option<String>,
    /// City
    #[arg(long)]
    pub city: Option<String>,
    /// Address prefixes (IPv6 or IPv4), repeatable; replaces all
    #[arg(long)]
    pub prefix: Vec<String>,
    /// host:port where peers dial the member, repeatable; replaces all
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_address: Vec<String>,
    /// Roles, repeatable; replaces all
    #[arg(long)]
    pub role: Vec<String>,
}

/// What an enrolment token fixes.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The authority's directory
    #[arg(long)]
    pub dir: PathBuf,
    /// host:port where the authority is reached
    #[arg(long)]
    pub address: String,
    /// The participant's URI
    #[arg(long)]
    pub participant: String,
    /// Legal name; `TEXT` or `LANGUAGE=TEXT`, repeatable
    #[arg(long, required = true)]
    pub legal_name: Vec<String>,
    /// ISO 3166 code; CN, HK and MO stand apart
    #[arg(long)]
    pub jurisdiction: String,
    /// City
    #[arg(long)]
    pub city: String,
    /// DNS names and addresses for the certificate, repeatable
    #[arg(long, required = true)]
    pub name: Vec<String>,
    /// Address prefixes (IPv6 or IPv4), repeatable
    #[arg(long)]
    pub prefix: Vec<String>,
    /// host:port where peers dial the member, repeatable; peers that configure an address need none
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_address: Vec<String>,
    /// Roles, repeatable
    #[arg(long, default_values_t = [String::from("provider"), String::from("consumer")])]
    pub role: Vec<String>,
    /// base, trust or trustplus
    #[arg(long, default_value = "base")]
    pub security_profile: String,
    /// IRI under which this publisher's subjects lie; ends in `/`
    #[arg(long)]
    pub subject_base: String,
    /// How long the token may be used
    #[arg(long, default_value_t = 24)]
    pub valid_hours: u32,
    /// Write the token to this new file (mode 0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `fairlead enrol`
#[derive(Debug, Args)]
pub struct EnrolArgs {
    /// The settings of this participant (TOML)
    #[arg(long, env = "FAIRLEAD_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// A file that holds the one-time token
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
}

/// `fairlead dataset …`
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Check, sign and publish a self-description
    #[command(
        after_help = "Example: fairlead dataset publish weather.ttl --source file:observations/weather.csv\n\
                      Example: fairlead dataset publish wards.ttl --source file:clinic/visits.csv --transform wards.json\n\
                      Example: fairlead dataset publish onward.ttl --source holding:urn:uuid:… --purpose dpv:ScientificResearch"
    )]
    Publish {
        /// The self-description (Turtle, DCAT 3 with an ODRL offer)
        description: PathBuf,
        /// file:ROOT/PATH, directory:ROOT/PATH or http(s)://…; ROOT is a name under [sources] in the settings.
        /// holding:AGREEMENT passes on what is held under an agreement that permits `distribute`
        #[arg(long)]
        source: String,
        /// What is done to the data before it leaves (JSON; docs/transforms.md shows each step)
        #[arg(long, value_name = "FILE")]
        transform: Option<PathBuf>,
        /// For what purpose a held copy is passed on, where its agreement asks for one, e.g. dpv:ScientificResearch
        #[arg(long)]
        purpose: Option<String>,
        /// Only check and show the clauses
        #[arg(long)]
        dry_run: bool,
    },
    /// Withdraw a dataset from the catalogue; agreements stay as they are
    #[command(after_help = "Example: fairlead dataset withdraw https://hku.example/id/weather")]
    Withdraw {
        /// The dataset
        dataset: String,
    },
    /// What we offer
    #[command(after_help = "Example: fairlead dataset list")]
    List(PageArgs),
}

/// How much of a list.
#[derive(Debug, Args)]
pub struct PageArgs {
    /// Rows, 1 to 500
    #[arg(long, default_value_t = 100)]
    pub page_size: u32,
    /// Where the page before ended
    #[arg(long, default_value = "")]
    pub page: String,
}

/// `fairlead catalogue …`
#[derive(Debug, Subcommand)]
pub enum CatalogueCommand {
    /// Search by words, keyword, theme, publisher or purpose
    #[command(
        after_help = "Example: fairlead catalogue search 天氣 --purpose dpv:AcademicResearch --language zh-Hant"
    )]
    Search {
        /// Words in titles, descriptions and keywords; Traditional and Simplified Chinese find each other
        #[arg(default_value = "")]
        text: String,
        /// Exact keyword
        #[arg(long, default_value = "")]
        keyword: String,
        /// Theme IRI
        #[arg(long, default_value = "")]
        theme: String,
        /// Publisher URI
        #[arg(long, default_value = "")]
        publisher: String,
        /// A purpose that the offer must allow
        #[arg(long, default_value = "")]
        purpose: String,
        /// Rows, 1 to 100
        #[arg(long, default_value_t = 20)]
        page_size: u32,
        /// Where the page before ended
        #[arg(long, default_value = "")]
        page: String,
    },
    /// What a peer offers over HTTP, asked now; with `--json` each offer's text can be the terms of `negotiate`
    #[command(
        after_help = "Example: fairlead catalogue peer https://hku.example/id --peer-url https://dsp.hku.example/dsp/2025-1"
    )]
    Peer {
        /// The participant
        participant: String,
        /// Where it speaks the Dataspace Protocol over HTTP
        #[arg(long, value_name = "URL")]
        peer_url: String,
        /// Where the page before ended
        #[arg(long, default_value = "")]
        page: String,
    },
    /// One entry, with its offer as clauses
    #[command(
        after_help = "Example: fairlead catalogue show https://hku.example/id/weather --language zh-Hans"
    )]
    Show {
        /// The dataset
        dataset: String,
    },
}

/// `fairlead negotiate`
#[derive(Debug, Args)]
pub struct NegotiateArgs {
    /// The dataset, as the catalogue names it
    pub dataset: String,
    /// Which offer, where there are several
    #[arg(long, default_value = "")]
    pub offer: String,
    /// Other terms: a file with an ODRL offer in JSON
    #[arg(long, value_name = "FILE", alias = "offer-file")]
    pub terms: Option<PathBuf>,
    /// The provider, for a dataset that is in no catalogue of ours; needs `--peer-url` and `--terms`
    #[arg(long, value_name = "PARTICIPANT", default_value = "", requires_all = ["peer_url", "terms"])]
    pub peer: String,
    /// Where the provider speaks the Dataspace Protocol over HTTP
    #[arg(long, value_name = "URL", default_value = "", requires = "peer")]
    pub peer_url: String,
    /// How far we bind ourselves: a file with an ODRL policy in JSON. Only offers proven to permit all that it
    /// permits, and to demand no more than it demands, are asked for and accepted by rule
    #[arg(long, value_name = "FILE")]
    pub ceiling: Option<PathBuf>,
    /// Seconds to wait for the end; 0 returns at once
    #[arg(long, default_value_t = 30)]
    pub wait: u32,
}

/// `fairlead negotiation …`
#[derive(Debug, Subcommand)]
pub enum NegotiationCommand {
    /// All negotiations, oldest first
    #[command(after_help = "Example: fairlead negotiation list")]
    List(PageArgs),
    /// One negotiation
    #[command(after_help = "Example: fairlead negotiation show urn:uuid:… --wait 30")]
    Show {
        /// Our name for it
        id: String,
        /// Seconds to wait until it ends or needs us
        #[arg(long, default_value_t = 0)]
        wait: u32,
    },
    /// Accept what is on the table
    #[command(after_help = "Example: fairlead negotiation accept urn:uuid:…")]
    Accept {
        /// Our name for it
        id: String,
    },
    /// Put other terms on the table
    #[command(after_help = "Example: fairlead negotiation counter urn:uuid:… --terms offer.json")]
    Counter {
        /// Our name for it
        id: String,
        /// A file with an ODRL offer in JSON
        #[arg(long, value_name = "FILE")]
        terms: PathBuf,
    },
    /// End it without an agreement
    #[command(after_help = "Example: fairlead negotiation terminate urn:uuid:… --reason \"not this year\"")]
    Terminate {
        /// Our name for it
        id: String,
        /// Told to the peer
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// `fairlead agreement …`
#[derive(Debug, Subcommand)]
pub enum AgreementCommand {
    /// All agreements, oldest first
    #[command(after_help = "Example: fairlead agreement list --json")]
    List(PageArgs),
    /// One agreement: clauses, both signatures, state
    #[command(after_help = "Example: fairlead agreement show urn:uuid:… --language zh-Hant")]
    Show {
        /// The agreement
        id: String,
    },
    /// Stop streams and uses until resumed; the peer is told
    #[command(after_help = "Example: fairlead agreement suspend urn:uuid:… --reason \"audit\"")]
    Suspend(ChangeArgs),
    /// Lift a suspension of ours
    #[command(after_help = "Example: fairlead agreement resume urn:uuid:… --reason \"inquiry closed\"")]
    Resume(ChangeArgs),
    /// End the agreement for good; the peer is told
    #[command(
        after_help = "Example: fairlead agreement revoke urn:uuid:… --reason \"errors found in the series\""
    )]
    Revoke(ChangeArgs),
}

/// What to change, and why.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Which one, as the list names it
    pub id: String,
    /// Recorded, and told to the peer
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// `fairlead peer …`
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Configured and seen peers
    #[command(after_help = "Example: fairlead peer list")]
    List(PageArgs),
    /// Refuse everything from a peer until resumed
    #[command(
        after_help = "Example: fairlead peer suspend https://macao.example/id --reason \"incident 12\""
    )]
    Suspend(ChangeArgs),
    /// Talk to a peer again
    #[command(
        after_help = "Example: fairlead peer resume https://hku.example/id --reason \"inquiry closed\""
    )]
    Resume(ChangeArgs),
}

/// `fairlead transfer …`
#[derive(Debug, Subcommand)]
pub enum TransferCommand {
    /// Pull the dataset of an agreement; the copy lies sealed
    #[command(after_help = "Example: fairlead transfer start urn:uuid:…")]
    Start {
        /// The agreement
        agreement: String,
        /// The format, e.g. HttpData-PULL; our own pull where none is given
        #[arg(long, default_value = "")]
        format: String,
        /// Where the provider speaks the Dataspace Protocol over HTTP
        #[arg(long, value_name = "URL", default_value = "")]
        peer_url: String,
        /// Return at once instead of waiting for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// All transfers, oldest first
    #[command(after_help = "Example: fairlead transfer list")]
    List(PageArgs),
    /// One transfer
    #[command(after_help = "Example: fairlead transfer show urn:uuid:…")]
    Show {
        /// Our name for it
        id: String,
    },
    /// Pause; either side may
    #[command(after_help = "Example: fairlead transfer suspend urn:uuid:… --reason \"maintenance tonight\"")]
    Suspend(ChangeArgs),
    /// Start one that waits for us, or go on where we paused
    #[command(after_help = "Example: fairlead transfer resume urn:uuid:…")]
    Resume(ChangeArgs),
    /// Say that all bytes have arrived, for formats that another client pulls
    #[command(after_help = "Example: fairlead transfer complete urn:uuid:…")]
    Complete(ChangeArgs),
    /// End it for good
    #[command(after_help = "Example: fairlead transfer terminate urn:uuid:… --reason \"no longer needed\"")]
    Terminate(ChangeArgs),
}

/// `fairlead use`
#[derive(Debug, Args)]
pub struct UseArgs {
    /// The agreement
    pub agreement: String,
    /// What is done with the data
    #[arg(long, default_value = "read")]
    pub action: String,
    /// Why: a purpose of the taxonomy, e.g. dpv:AcademicResearch
    #[arg(long, default_value = "")]
    pub purpose: String,
    /// Who gets the result
    #[arg(long, default_value = "")]
    pub recipient: String,
    /// The program that reads
    #[arg(long, default_value = "")]
    pub application: String,
    /// Path within the dataset, where it has several objects
    #[arg(long, default_value = "")]
    pub object: String,
    /// First byte
    #[arg(long, default_value_t = 0)]
    pub offset: u64,
    /// Number of bytes; 0 reads to the end
    #[arg(long, default_value_t = 0)]
    pub length: u64,
    /// `-` for standard output, or a file: then the action is `fl:export`, which the policy must permit
    #[arg(long, default_value = "-")]
    pub output: String,
    /// Only explain what would be decided; nothing is counted
    #[arg(long)]
    pub explain: bool,
}

/// `fairlead holdings …`
#[derive(Debug, Subcommand)]
pub enum HoldingsCommand {
    /// Everything held
    #[command(after_help = "Example: fairlead holdings list")]
    List(PageArgs),
    /// One holding: what may be done until when, counts left, duties owed
    #[command(after_help = "Example: fairlead holdings show urn:uuid:…")]
    Show {
        /// The agreement
        agreement: String,
    },
    /// Destroy the keys of a holding before its deadline, with proof to the provider
    #[command(after_help = "Example: fairlead holdings delete urn:uuid:…")]
    Delete {
        /// The agreement
        agreement: String,
    },
}

/// `fairlead duty …`
#[derive(Debug, Subcommand)]
pub enum DutyCommand {
    /// Duties of the agreements under which something is held
    #[command(after_help = "Example: fairlead duty list --agreement urn:uuid:… --state overdue")]
    List {
        /// Only of this agreement
        #[arg(long, default_value = "")]
        agreement: String,
        /// due, running, done, failed or overdue
        #[arg(long, default_value = "")]
        state: String,
        /// How much of the list
        #[command(flatten)]
        page: PageArgs,
    },
    /// One duty
    #[command(after_help = "Example: fairlead duty show 'urn:uuid:… rule/1/duty/1'")]
    Show {
        /// The duty's id, as the list shows it
        id: String,
    },
    /// Say that a duty of a person is done; the provider is told, signed, and what it is told stays on record
    #[command(
        after_help = "Example: fairlead duty fulfil 'urn:uuid:… rule/1/duty/1' --evidence \"invoice 2026-17\""
    )]
    Fulfil {
        /// The duty's id, as the list shows it
        id: String,
        /// What shows it, in a line: an invoice, a consent, a publication
        #[arg(long, required_unless_present = "evidence_file", conflicts_with = "evidence_file")]
        evidence: Option<String>,
        /// A document that shows it: its name and SHA-256 are recorded, it stays here
        #[arg(long, value_name = "FILE")]
        evidence_file: Option<PathBuf>,
    },
}

/// `fairlead event …`
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// Events under way
    #[command(after_help = "Example: fairlead event list")]
    List,
    /// An event begins: what is permitted during it may be done
    #[command(after_help = "Example: fairlead event begin urn:event:trial-1")]
    Begin {
        /// Its IRI, as policies name it
        event: String,
    },
    /// An event ends: sessions under policies that name it stop
    #[command(after_help = "Example: fairlead event end urn:event:trial-1")]
    End {
        /// Its IRI, as policies name it
        event: String,
    },
}

/// `fairlead ledger`
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// First record
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Records, 1 to 500
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: u32,
}

/// `fairlead doctor …`
#[derive(Debug, Subcommand)]
pub enum DoctorCommand {
    /// This connector: settings, certificate, statement, clock, disk
    #[command(name = "self", after_help = "Example: fairlead doctor self")]
    Here,
    /// A dry run against a peer: resolution, IPv6, TLS, certificate, statement, clock, versions
    #[command(after_help = "Example: fairlead doctor peer '[2001:db8::7]:7443'")]
    Peer {
        /// host:port, or a configured participant
        address: String,
    },
}

/// `fairlead demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep everything in this directory, to look around
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Wait for Enter before each step
    #[arg(long)]
    pub pause: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn check(path: &str, command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains(&format!("Example: {path}")), "`{path}`: its help has no example: {help}");
        command.get_subcommands().for_each(|below| check(&format!("{path} {}", below.get_name()), below));
    }

    #[test]
    fn every_help_has_an_example() {
        check("fairlead", &Cli::command());
    }
}
