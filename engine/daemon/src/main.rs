//! `overlane-engine`: one per host; carries packets between the nodes of this host and the substrate.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/overlane/engine.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads the configuration, says what is wrong with it, and does nothing else.
    CheckConfig,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::CheckConfig) | None => match std::fs::read_to_string(&arguments.config) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", arguments.config.display());
                ExitCode::from(2)
            }
        },
    }
}
