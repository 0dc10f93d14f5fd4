//! `overlane entity`.

use std::io;

use clap::Subcommand;
use overlane_api::resource::{Entity, EntitySpec, ListQuery};

use super::{Resource, parse_id};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with entities.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates an entity, or confirms that it is there
    #[command(after_help = "Example:\n  overlane entity create acme --description 'ACME Corporation'")]
    Create {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// For people; up to 256 bytes
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
    },
    /// Lists the entities
    List(ListArgs),
    /// Shows one entity
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Deletes an entity that owns nothing any more
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

impl Resource for Entity {
    const KIND: &'static str = "entity";
    const COLLECTION: &'static str = "entities";
    const HEADER: &'static [&'static str] = &["ID", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        vec![self.id.clone(), self.description.clone()]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        printer.facts([
            ("entity", self.id.clone()),
            ("description", self.description.clone()),
            ("revision", self.revision.to_string()),
        ])
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, description } => {
            super::create::<Entity>(client, printer, &id, &EntitySpec { description, ..EntitySpec::default() }).await
        }
        Command::List(list) => super::list::<Entity>(client, printer, ListQuery::default(), list.limit).await,
        Command::Show { id } => super::show::<Entity>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Entity>(client, printer, &id).await,
    }
}
