//! Commands of officers and auditors: requests for access, acts under four eyes, exports.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ChangeArgs, PageArgs};

/// `fairlead access …`
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Ask for access to a dataset; prints the reference under which its status is shown
    #[command(
        after_help = "Example: fairlead access request https://hku.example/id/weather --purpose dpv:AcademicResearch --note \"thesis\""
    )]
    Request {
        /// The dataset
        dataset: String,
        /// Its offer, where it has several
        #[arg(long, default_value = "")]
        offer: String,
        /// What it is for: a purpose of the taxonomy
        #[arg(long)]
        purpose: String,
        /// For whoever decides
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Every request
    #[command(after_help = "Example: fairlead access list")]
    List(PageArgs),
    /// One request, and what followed: negotiation, agreement, copy
    #[command(after_help = "Example: fairlead access show AR-2026-00012")]
    Show {
        /// The reference
        reference: String,
    },
    /// Grant a request: the negotiation opens
    #[command(after_help = "Example: fairlead access approve AR-2026-00012")]
    Approve(ChangeArgs),
    /// Refuse a request
    #[command(after_help = "Example: fairlead access reject AR-2026-00012 --reason \"no ethics approval\"")]
    Reject(ChangeArgs),
    /// Take back a request of your own
    #[command(after_help = "Example: fairlead access withdraw AR-2026-00012")]
    Withdraw(ChangeArgs),
}

/// `fairlead approval …`
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// Acts that wait, and those decided
    #[command(after_help = "Example: fairlead approval list")]
    List(PageArgs),
    /// One act: who asked for what
    #[command(after_help = "Example: fairlead approval show AP-2026-00012")]
    Show {
        /// The reference
        reference: String,
    },
    /// Approve what somebody else asked for: it is carried out
    #[command(after_help = "Example: fairlead approval approve AP-2026-00012")]
    Approve(ChangeArgs),
    /// Say no to what somebody else asked for
    #[command(after_help = "Example: fairlead approval reject AP-2026-00012 --reason \"wrong agreement\"")]
    Reject(ChangeArgs),
    /// Take back what you asked for
    #[command(after_help = "Example: fairlead approval withdraw AP-2026-00012")]
    Withdraw(ChangeArgs),
}

/// `fairlead audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write records of the ledger, each with its proof, to a file, and a signed statement about it beside it
    #[command(
        after_help = "Example: fairlead audit export --peer https://hku.example/id --period 2026-11 --format csv --output november.csv\n\
        Writes november.csv and november.csv.jws; hand over both."
    )]
    Export {
        /// Only what concerns this participant
        #[arg(long, default_value = "")]
        peer: String,
        /// Only what concerns this agreement
        #[arg(long, default_value = "")]
        agreement: String,
        /// A year, month or day (UTC), or two of these joined by a slash: 2026-11, 2026-10/2026-12
        #[arg(long, default_value = "")]
        period: String,
        /// json (one record a line) or csv
        #[arg(long, default_value = "json", value_parser = ["json", "csv"])]
        format: String,
        /// The file to write; must not exist
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check an export offline: signature, digest, and each record's path to the ledger's head
    #[command(after_help = "Example: fairlead audit verify november.csv --roots authority-root.pem")]
    Verify(VerifyArgs),
    /// Who holds which copies of our data under which agreement, and which of their duties are late
    #[command(after_help = "Example: fairlead audit copies --consumer https://hku.example/id")]
    Copies {
        /// Only this participant's
        #[arg(long, default_value = "")]
        consumer: String,
        /// Also what was deleted, or never pulled
        #[arg(long)]
        all: bool,
        /// Which page
        #[command(flatten)]
        page: PageArgs,
    },
}

/// `fairlead audit verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The exported file; its statement lies beside it with `.jws` behind its name
    pub file: PathBuf,
    /// The statement, where it lies elsewhere
    #[arg(long, value_name = "FILE")]
    pub statement: Option<PathBuf>,
    /// The data space's roots (PEM); without it those that the connector in --data is enrolled under
    #[arg(long, value_name = "FILE")]
    pub roots: Option<PathBuf>,
    /// A head of that ledger which you know from elsewhere, as SIZE:ROOT
    #[arg(long, value_name = "SIZE:ROOT")]
    pub head: Option<String>,
}
