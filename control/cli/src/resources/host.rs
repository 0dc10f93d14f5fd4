//! `overlane host`.

use std::io;

use clap::Subcommand;
use overlane_api::resource::{DEFAULT_CAPACITY, EngineStatus, Host, HostSpec, ListQuery};

use super::{Resource, drain, parse_id, workers};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a host, or confirms that it is there; its capacity can be changed so, too
    #[command(after_help = "\
Example:
  overlane host create rack1-a --prefix fd00:0:0:a::/64

The id must be the DNS name in the certificate of the host's engine.")]
    Create {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// Its substrate prefix, routed to the engine
        #[arg(long, value_name = "IPV6-PREFIX")]
        prefix: String,
        /// How many interfaces may be placed on it, 1 to 64
        #[arg(long, default_value_t = DEFAULT_CAPACITY)]
        capacity: u32,
    },
    /// Lists the hosts
    List(ListArgs),
    /// Shows one host and how its engine is
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Moves all nodes of a host elsewhere, or lists them
    #[command(after_help = "\
Each node is moved as by `overlane node move`: its devices have to appear on the new host, under their old names. The
command waits for all of them, shows how far they are, and fails if one is not moved; repeated, it goes on with those.

Examples:
  overlane host drain rack1-a --list
  overlane host drain rack1-a --to rack1-b,rack1-c --at-once 8")]
    Drain(drain::DrainArgs),
    /// Deletes a host that has no interface any more
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

/// Whether the engine is there, and whether it forwards by everything it was told.
fn engine(engine: &EngineStatus) -> String {
    if !engine.connected {
        return "away".to_owned();
    }
    match (engine.sent, engine.acknowledged) {
        (Some(sent), Some(acknowledged)) if acknowledged >= sent => "in step".to_owned(),
        (Some(sent), acknowledged) => {
            let acknowledged = acknowledged.map_or("nothing".to_owned(), |revision| revision.to_string());
            format!("behind: sent {sent}, acknowledged {acknowledged}")
        }
        (None, _) => "connected".to_owned(),
    }
}

impl Resource for Host {
    const KIND: &'static str = "host";
    const COLLECTION: &'static str = "hosts";
    const HEADER: &'static [&'static str] = &["ID", "PREFIX", "INTERFACES", "ENGINE"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.prefix.clone(),
            format!("{}/{}", self.interfaces, self.capacity),
            engine(&self.engine),
        ]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut facts = vec![
            ("host", self.id.clone()),
            ("prefix", self.prefix.clone()),
            ("layout", self.layout.clone()),
            ("interfaces", format!("{} of {}", self.interfaces, self.capacity)),
            ("engine", engine(&self.engine)),
        ];
        facts.extend(self.engine.version.clone().map(|version| ("engine version", version)));
        facts.extend(self.engine.capacity.map(|capacity| ("engine capacity", capacity.to_string())));
        facts.push(("revision", self.revision.to_string()));
        printer.facts(facts)?;
        if self.engine.workers.is_empty() {
            return Ok(());
        }
        printer.line("")?;
        printer.table(&workers::HEADER, self.engine.workers.iter().map(workers::row))
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, prefix, capacity } => {
            super::create::<Host>(client, printer, &id, &HostSpec { prefix, capacity }).await
        }
        Command::List(list) => super::list::<Host>(client, printer, ListQuery::default(), list.limit).await,
        Command::Show { id } => super::show::<Host>(client, printer, &id).await,
        Command::Drain(args) => drain::run(args, client, printer).await,
        Command::Delete { id } => super::delete::<Host>(client, printer, &id).await,
    }
}
