//! Commands of backups and of the recovery key.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What `fairlead backup` takes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; must not exist, its folder must
    pub file: PathBuf,
    /// Leave out the sealed copies: smaller; they are pulled again after a restore, while their agreements allow it
    #[arg(long, conflicts_with = "state_only")]
    pub without_copies: bool,
    /// For how many days it may be restored; keys of copies to be deleted before are not in it
    #[arg(long, value_name = "DAYS", default_value_t = crate::recovery::DEFAULT_KEEP_DAYS,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::recovery::MAX_KEEP_DAYS)), conflicts_with = "state_only")]
    pub keep_days: u32,
    /// Only a plain copy of the state: opens copies on no other machine, and needs no recovery key
    #[arg(long)]
    pub state_only: bool,
}

/// What `fairlead restore` takes.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `fairlead backup` wrote
    pub file: PathBuf,
    /// The private part of the recovery key; not needed for a plain copy of the state
    #[arg(long, value_name = "FILE")]
    pub recovery_key: Option<PathBuf>,
    /// Put no sealed copies back: what lies in the data directory's `sealed/` stays and is used
    #[arg(long)]
    pub without_copies: bool,
}

/// `fairlead recovery …`
#[derive(Debug, Subcommand)]
pub enum RecoveryCommand {
    /// Make the recovery key: its private part goes to FILE, its public part to the data directory
    #[command(after_help = "Example: fairlead recovery init /media/usb/recovery.key --data fairlead-data\n\
        Keep FILE offline and in two places: without it no backup can be opened, with it every backup can.")]
    Init {
        /// The file for the private part, or `-` to print it once
        file: PathBuf,
        /// In place of the recovery key that is there: older backups still need the older private part
        #[arg(long)]
        replace: bool,
    },
    /// The recovery key that backups are made for
    #[command(after_help = "Example: fairlead recovery show")]
    Show,
}
