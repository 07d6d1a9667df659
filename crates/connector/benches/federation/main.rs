//! Measured between real processes: `cargo xtask bench path` and `cargo xtask bench usage` build the program and run this.
//!
//! Everything runs at the settings' defaults on one machine. What each figure means and what it came to is told in
//! docs/benchmarks.md.

mod figures;
mod files;
mod path;
mod plain;
mod raw;
mod reader;
mod rounds;
mod silence;
mod space;
mod stream;
mod usage;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;

use figures::Figure;

/// Measures an authority, a provider and a consumer.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Negotiation, pull, stream and use
    Path(Measured),
    /// What enforcement after delivery costs, and how soon it stops bytes
    Usage(Measured),
    /// Be the sender of the raw TLS baseline
    #[command(hide = true)]
    SendRaw { data: PathBuf, file: PathBuf },
    /// Be the server of the unsealed baseline
    #[command(hide = true)]
    ServePlain { file: PathBuf },
}

#[derive(Args)]
struct Measured {
    /// The connector's program, built with --release
    #[arg(long)]
    program: PathBuf,
    /// Where state and data lie: the disk that is measured; it must not exist, and is removed
    #[arg(long)]
    dir: PathBuf,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Few rounds and little data: to see that it runs, not to measure
    #[arg(long)]
    short: bool,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().what {
        What::Path(of) => report(&runtime, &of, path::measure(&of.program, &of.dir, of.short)),
        What::Usage(of) => report(&runtime, &of, usage::measure(&of.program, &of.dir, of.short)),
        What::SendRaw { data, file } => runtime.block_on(raw::send(&data, &file)),
        What::ServePlain { file } => runtime.block_on(plain::serve(&file)),
    }
}

/// Measures in a folder that lies there only meanwhile, and prints.
fn report(
    runtime: &Runtime,
    of: &Measured,
    measuring: impl Future<Output = anyhow::Result<Vec<Figure>>>,
) -> anyhow::Result<()> {
    std::fs::create_dir(&of.dir).with_context(|| format!("make {}", of.dir.display()))?;
    let figures = runtime.block_on(measuring);
    std::fs::remove_dir_all(&of.dir)?;
    let figures = figures?;
    let mut out = std::io::stdout().lock();
    if of.json {
        for figure in &figures {
            writeln!(out, "{}", figure.json())?;
        }
    } else {
        write!(out, "{}", figures::table(&figures))?;
    }
    Ok(())
}
