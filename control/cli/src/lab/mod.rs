//! The lab: hosts, a router, the service and nodes in network namespaces of one machine.

use std::process::ExitCode;

pub mod args;

/// Runs one `overlane lab` command.
///
/// # Errors
/// Whatever made it fail, with what it was doing.
pub fn run(args: args::LabArgs) -> anyhow::Result<ExitCode> {
    match args.command {}
}
