//! The `fairlead` program as the suites run it: the same entry point, built with named crash points.

use std::process::ExitCode;

fn main() -> ExitCode {
    connector::cli::run()
}
