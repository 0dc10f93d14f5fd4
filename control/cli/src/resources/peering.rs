//! `overlane peering`.

use std::io;

use clap::Subcommand;
use overlane_api::policy::{DefaultAction, Peering, PeeringSpec};
use overlane_api::resource::ListQuery;

use super::{Resource, parse_id};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with peerings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lets two networks exchange packets through their gateways, or changes how
    #[command(after_help = "\
The networks' addresses must not overlap, nor those of their other peers. With --default-action deny only what rules of
both ends allow passes.

Example:
  overlane peering create blue-green --network blue --network green")]
    Create {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// One of the two networks; give it twice
        #[arg(long = "network", required = true, value_parser = parse_id)]
        networks: Vec<String>,
        /// What happens between them to what no rule decides: allow or deny
        #[arg(long, value_name = "ACTION", default_value_t)]
        default_action: DefaultAction,
    },
    /// Lists peerings
    List {
        /// Only those of this network
        #[arg(long, value_parser = parse_id)]
        network: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Shows one peering
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Deletes a peering: nothing passes between its networks any more
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

impl Resource for Peering {
    const KIND: &'static str = "peering";
    const COLLECTION: &'static str = "peerings";
    const HEADER: &'static [&'static str] = &["ID", "NETWORKS", "DEFAULT ACTION", "OPEN"];

    fn row(&self) -> Vec<String> {
        let open = if self.open { "yes" } else { "no" };
        vec![self.id.clone(), self.networks.join(", "), self.default_action.to_string(), open.to_owned()]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        printer.facts([
            ("peering", self.id.clone()),
            ("networks", self.networks.join(", ")),
            ("default action", self.default_action.to_string()),
            ("accepted by", self.accepted.join(", ")),
            ("open", if self.open { "yes" } else { "no" }.to_owned()),
            ("revision", self.revision.to_string()),
        ])
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, networks, default_action } => {
            super::create::<Peering>(client, printer, &id, &PeeringSpec { networks, default_action }).await
        }
        Command::List { network, list } => {
            let filter = ListQuery { network, ..ListQuery::default() };
            super::list::<Peering>(client, printer, filter, list.limit).await
        }
        Command::Show { id } => super::show::<Peering>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Peering>(client, printer, &id).await,
    }
}
