//! The `fairlead` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    connector::cli::run()
}
