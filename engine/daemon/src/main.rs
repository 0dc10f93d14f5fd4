//! `overlane-engine`: one per host; carries packets between the nodes of this host and the substrate.

use clap::{Parser, Subcommand};
use overlane_engine::config::Config;
use overlane_engine::run::Beginning;
use overlane_engine::translate::{self, Failure};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a wrong configuration exits with.
const EXIT_CONFIG: u8 = 2;

const AFTER_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  end in order, within [engine] shutdown_deadline; nodes' interfaces stay isolated
  SIGHUP           in static mode, read the site file again; a bad file changes nothing

While it runs ([telemetry] listen, by default 127.0.0.1:9470):
  curl 127.0.0.1:9470/status                     what it knows and does, as JSON
  curl 127.0.0.1:9470/readyz                     200, or 503 and why it is not ready
  curl 127.0.0.1:9470/livez                      whether it runs at all
  curl 127.0.0.1:9470/metrics                    for Prometheus; overlane_drops_total tells every drop by reason
  curl -X PUT --data debug 127.0.0.1:9470/log    log more
  overlane trace --interface web/eth0 --to …     what it would do with a packet, and why

Exit status: 0 ended in order, 1 could not start or did not end in order, 2 the configuration is wrong.
conf/engine.toml and conf/static.toml describe every option.";

/// One per host: carries the packets of this host's nodes over the substrate, without encapsulation, as the provisioning
/// service (or a site file) says.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/overlane/engine.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is wrong with the configuration and the site or TLS files that it names, and does nothing else.
    CheckConfig,
    /// Translates the packets of a capture as the engine would, and reports what became of each.
    #[command(after_help = translate::HELP)]
    Translate(translate::Files),
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let outcome = match command {
        None => begin(&config).and_then(|beginning| beginning.run().map_err(Failure::Run)),
        Some(Command::CheckConfig) => begin(&config).map(|_| println!("{}: no errors", config.display())),
        Some(Command::Translate(files)) => {
            translate::run(&config, &files).map(|summary| eprintln!("overlane-engine: {summary}"))
        }
    };
    let (error, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, ExitCode::from(EXIT_CONFIG)),
        Err(Failure::Run(error)) => (error, ExitCode::FAILURE),
    };
    eprintln!("overlane-engine: {error:#}");
    status
}

/// What an engine begins with.
fn begin(config: &Path) -> Result<Beginning, Failure> {
    let config = Config::load(config).map_err(anyhow::Error::from);
    config.and_then(Beginning::check).map_err(Failure::Usage)
}
