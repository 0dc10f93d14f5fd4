//! `overlane`: the operator's command, and the lab.
//!
//! The command is a library so that tests run the very code an operator runs, and so that the end-to-end tests use
//! the same lab as `overlane lab`. It knows the service by its HTTP API and nothing else.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

pub mod args;
pub mod client;
pub mod documents;
pub mod lab;
pub mod output;
pub mod pki;
pub mod resources;
pub mod settings;
mod status;
pub mod telemetry;
mod token;
mod trace;

use args::{Cli, Command};
use client::Client;
use output::Printer;
use settings::SettingsError;

/// The service refused, could not be reached, or something failed on the way.
pub const EXIT_FAILED: u8 = 1;
/// The command line or the connection settings make no sense.
pub const EXIT_USAGE: u8 = 2;

/// Parses the process's command line and runs it. Results go to standard output, errors to standard error.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing sensible is left to do where even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli, &mut io::stdout().lock()) {
        Ok(code) => code,
        Err(error) if reader_left(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlane: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Runs one parsed command line, writing results to `out`. The lab writes to the process's standard output itself.
///
/// # Errors
/// Whatever made the command fail.
pub fn run(cli: Cli, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Lab(args) => return lab::run(args),
        Command::Pki(args) => pki::run(&args, &mut Printer::new(cli.output, out))?,
        Command::Completions(args) => documents::completions(&args, out)?,
        Command::Man(args) => documents::man(&args.directory)?,
        Command::Trace(args) => trace::run(&args, &mut Printer::new(cli.output, out))?,
        command => {
            let client = Client::new(&cli.connection.settings()?)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(call(command, &client, &mut Printer::new(cli.output, out)))?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

async fn call(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Entity(command) => resources::entity::run(command, client, printer).await,
        Command::Network(command) => resources::network::run(command, client, printer).await,
        Command::Host(command) => resources::host::run(command, client, printer).await,
        Command::Node(command) => resources::node::run(command, client, printer).await,
        Command::Rule(command) => resources::rule::run(command, client, printer).await,
        Command::Peering(command) => resources::peering::run(command, client, printer).await,
        Command::Token(command) => resources::token::run(command, client, printer).await,
        Command::Audit(args) => resources::audit::run(args, client, printer).await,
        Command::Event(command) => resources::event::run(command, client, printer).await,
        Command::Status => status::run(client, printer).await,
        Command::Lab(_) | Command::Pki(_) | Command::Completions(_) | Command::Man(_) | Command::Trace(_) => {
            Ok(())
        }
    }
}

/// The exit status that tells what kind of error this is.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<SettingsError>() { EXIT_USAGE } else { EXIT_FAILED }
}

/// `overlane node list | head` is no error. A broken connection is none of these: it has more causes around it.
fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
