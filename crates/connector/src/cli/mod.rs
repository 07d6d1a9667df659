//! The command line: parses, asks the running connector over its socket, prints.

mod approvals;
pub mod args;
mod audit;
pub mod client;
mod datasets;
mod doctor;
mod duties;
mod holdings;
mod local;
mod negotiations;
pub mod output;
pub mod policy;
mod recovery;
mod sessions;
mod transfers;

use std::process::ExitCode;

use clap::Parser;

use args::{AuditCommand, AuthorityCommand, ConfigCommand};
pub use args::{Cli, Command, DemoArgs, Language};
pub use output::{Failure, Output};

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            drop(error.print());
            return if usage { ExitCode::from(output::exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let output = Output { json: cli.json, language: cli.language };
    match dispatch(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

fn dispatch(cli: Cli, output: Output) -> Result<(), Failure> {
    let data = cli.data;
    let socket = cli.socket.unwrap_or_else(|| data.join(crate::ADMIN_SOCKET));
    match cli.command {
        Command::Run(file) => local::run(&file.config),
        Command::Config(ConfigCommand::Check { file }) => local::check_config(output, &file),
        Command::Authority(command) => authority(output, command),
        Command::Enrol(args) => local::enrol(output, &args),
        Command::Policy(command) => policy::run(output, command),
        Command::Restore(args) => recovery::restore(output, &args, &data),
        Command::Recovery(command) => recovery::key(output, &command, &data),
        Command::Demo(args) => crate::demo::run(output, &args),
        Command::Audit(AuditCommand::Verify(args)) => audit::verify(output, &data, &args),
        command => client_runtime()?.block_on(remote(output, &socket, command)),
    }
}

async fn remote(output: Output, socket: &std::path::Path, command: Command) -> Result<(), Failure> {
    let mut admin = client::connect(socket).await?;
    match command {
        Command::Dataset(command) => datasets::run(output, &mut admin, command).await,
        Command::Catalogue(command) => datasets::catalogue(output, &mut admin, command).await,
        Command::Negotiate(args) => negotiations::negotiate(output, &mut admin, args).await,
        Command::Negotiation(command) => negotiations::run(output, &mut admin, command).await,
        Command::Agreement(command) => negotiations::agreement(output, &mut admin, command).await,
        Command::Transfer(command) => transfers::run(output, &mut admin, command).await,
        Command::Use(args) => holdings::use_data(output, &mut admin, args).await,
        Command::Session(command) => sessions::run(output, &mut admin, command).await,
        Command::Holdings(command) => holdings::run(output, &mut admin, command).await,
        Command::Access(command) => approvals::access(output, &mut admin, command).await,
        Command::Approval(command) => approvals::run(output, &mut admin, command).await,
        Command::Audit(command) => audit::run(output, &mut admin, command).await,
        Command::Duty(command) => duties::run(output, &mut admin, command).await,
        Command::Event(command) => duties::event(output, &mut admin, command).await,
        Command::Peer(command) => doctor::peer(output, &mut admin, command).await,
        Command::Ledger(args) => doctor::ledger(output, &mut admin, args).await,
        Command::Doctor(command) => doctor::run(output, &mut admin, command).await,
        Command::Status => doctor::status(output, &mut admin).await,
        Command::Reload => doctor::reload(output, &mut admin).await,
        Command::Backup(args) => recovery::backup(output, &mut admin, args).await,
        // Handled without a running connector.
        Command::Run(_)
        | Command::Config(_)
        | Command::Authority(_)
        | Command::Enrol(_)
        | Command::Policy(_)
        | Command::Restore(_)
        | Command::Recovery(_)
        | Command::Demo(_) => Ok(()),
    }
}

fn authority(output: Output, command: AuthorityCommand) -> Result<(), Failure> {
    crate::authority::cli::run(output, command)
}

/// A small runtime for commands that only talk to the socket.
fn client_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::ours)
}

/// The runtime of a server process.
pub fn server_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::ours)
}
