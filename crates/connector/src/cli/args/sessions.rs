//! `fairlead session …`.

use clap::{Args, Subcommand};

use super::PageArgs;

/// `fairlead session …`
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Open a session: decided, counted once and recorded; prints where to read and the token
    #[command(after_help = "Example: fairlead session open urn:uuid:… --purpose dpv:AcademicResearch\n\
        Only programs of your own user of this host can read with the token.")]
    Open(OpenArgs),
    /// Your open sessions
    #[command(after_help = "Example: fairlead session list")]
    List(PageArgs),
    /// One session
    #[command(after_help = "Example: fairlead session show urn:uuid:…")]
    Show {
        /// The session
        id: String,
    },
    /// Decide again and give the session another life; does not count as another use
    #[command(after_help = "Example: fairlead session renew urn:uuid:…")]
    Renew {
        /// The session
        id: String,
    },
    /// Close the session; prints its signed receipt
    #[command(after_help = "Example: fairlead session close urn:uuid:…")]
    Close {
        /// The session
        id: String,
    },
}

/// `fairlead session open`
#[derive(Debug, Args)]
pub struct OpenArgs {
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
    /// Only this path within the dataset
    #[arg(long, default_value = "")]
    pub object: String,
}
