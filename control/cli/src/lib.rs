//! `overlane`: the operator's command, and the lab.
//!
//! The command is a library so that tests run the very code an operator runs, and so that the end-to-end tests use
//! the same lab as `overlane lab`.

use std::process::ExitCode;

use clap::Parser;

pub mod args;
pub mod lab;

/// What was asked for was done.
pub const EXIT_OK: u8 = 0;
/// The service refused, could not be reached, or something failed on the way.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the connection settings make no sense.
pub const EXIT_USAGE: u8 = 2;

/// Parses the process's command line and runs it. Errors are printed to standard error.
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing sensible is left to do where even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("overlane: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Runs one parsed command line.
///
/// # Errors
/// Whatever made the command fail.
pub fn run(cli: args::Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        args::Command::Lab(args) => lab::run(args),
    }
}
