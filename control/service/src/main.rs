//! `overlane-control`: the provisioning service.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use overlane_api::config::FileError;
use overlane_api::tls::{Credentials, TlsError};
use overlane_control::config::Config;
use overlane_control::service::Service;
use overlane_control::{backup, remote};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Exit status for a configuration that makes no sense, or names TLS files that cannot be used.
const BAD_CONFIG: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "overlane-control",
    version,
    about = "Overlane's provisioning service: knows who is where, and tells the engines",
    after_help = "\
The service keeps its state in one file ([store] path) and serves two listeners: the HTTP API ([api], TLS; operators show
a certificate or a token, entities a token) and the sync protocol for engines ([sync], mutual TLS). SIGTERM ends it in order.

First steps:
  overlane-control --config conf/control.toml check-config    is the file right, do the certificates load?
  overlane-control --config conf/control.toml                 run
  overlane status                                             ask it, from an operator's machine

Backups are taken from the running service (or from its file, when it is not running) and never overwrite anything:
  overlane-control --config conf/control.toml backup /var/backups/overlane-2026-01-31
  mv /var/lib/overlane/control.redb /somewhere/else; overlane-control --config … restore /var/backups/overlane-2026-01-31

Exit status: 0 ended as asked; 1 failed; 2 the command line or the configuration makes no sense."
)]
struct Arguments {
    /// The configuration file; conf/control.toml in the source tree explains every field
    #[arg(long, value_name = "FILE", default_value = "/etc/overlane/control.toml")]
    config: PathBuf,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the configuration and the TLS files, and does nothing else
    CheckConfig,
    /// Writes a backup of the store, from one moment, to a new file
    Backup {
        /// The file; must not exist
        file: PathBuf,
    },
    /// Makes a store out of a backup; the service must not be running, the store's file not exist
    Restore {
        /// The backup
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlane-control: {error:#}");
            let configuration = error.is::<FileError>() || error.is::<TlsError>();
            if configuration { ExitCode::from(BAD_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let config = Config::load(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &arguments.command {
        None => {
            let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| config.log_level.clone());
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr)
                .init();
            runtime.block_on(serve(&config))
        }
        Some(Command::CheckConfig) => {
            let names = match &config.tls {
                Some(files) => {
                    format!("the certificate names {}", Credentials::load(files)?.names().join(", "))
                }
                None => "without TLS, for this machine alone".to_owned(),
            };
            println!("{}: right; {names}", arguments.config.display());
            Ok(())
        }
        Some(Command::Backup { file }) => {
            let records = runtime.block_on(remote::backup(&config, file))?;
            println!("{}: {records} records", file.display());
            Ok(())
        }
        Some(Command::Restore { file }) => {
            let revision = backup::restore(file, &config.store)?;
            println!("{}: restored as of revision {revision}, as a new incarnation", config.store.display());
            Ok(())
        }
    }
}

async fn serve(config: &Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut service = Service::start(config).await?;
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let failure = loop {
        tokio::select! {
            failure = service.failed() => break failure,
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = hangup.recv() => service.reload(),
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("shutting down");
    let ended = service.shut_down().await;
    failure.context("a part of the service failed")?;
    ended
}
