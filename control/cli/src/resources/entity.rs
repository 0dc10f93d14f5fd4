//! `overlane entity`.

use std::io;

use clap::{Args, Subcommand};
use overlane_api::access::{Placement, QuotaSpec};
use overlane_api::resource::{Entity, EntitySpec, ListQuery, RateLimit};

use super::node::rate;
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
        /// How much it may have.
        #[command(flatten)]
        quota: QuotaArgs,
        /// Where it may place nodes.
        #[command(flatten)]
        placement: PlacementArgs,
        /// How much its nodes may send.
        #[command(flatten)]
        rate: RateArgs,
    },
    /// Changes what an entity may have and where it may place nodes; what is not given stays as it is
    #[command(after_help = "\
A quota is a number, or `default` for the service's. Lowering one below what there is refuses additions and nothing else.

Examples:
  overlane entity change acme --quota-nodes 200 --quota-rules default
  overlane entity change acme --rate-packets 100000 --rate-bits 1000000000
  overlane entity change acme --place-on rack1-a,rack1-b --device-prefix acme-")]
    Change {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// For people; up to 256 bytes
        #[arg(long)]
        description: Option<String>,
        /// How much it may have.
        #[command(flatten)]
        quota: QuotaArgs,
        /// Where it may place nodes.
        #[command(flatten)]
        placement: PlacementArgs,
        /// How much its nodes may send.
        #[command(flatten)]
        rate: RateArgs,
        /// It may place nodes nowhere by itself
        #[arg(long, conflicts_with_all = ["hosts", "device_prefix"])]
        no_placement: bool,
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

/// How much an entity may have.
#[derive(Debug, Clone, Copy, Args)]
pub struct QuotaArgs {
    /// Networks [default: the service's quota]
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    quota_networks: Option<Limit>,
    /// Nodes
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    quota_nodes: Option<Limit>,
    /// Interfaces of all its nodes together
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    quota_interfaces: Option<Limit>,
    /// Rules
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    quota_rules: Option<Limit>,
    /// API tokens
    #[arg(long, value_name = "COUNT", value_parser = parse_limit)]
    quota_tokens: Option<Limit>,
}

/// A quota: a number, or what the service has for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<u32>);

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "default" => Ok(Limit(None)),
        number => number
            .parse()
            .map(|number| Limit(Some(number)))
            .map_err(|_| "legal: 0 to 4294967295, or default".to_owned()),
    }
}

impl QuotaArgs {
    /// What is asked for, where `now` is what there is.
    fn over(self, now: QuotaSpec) -> QuotaSpec {
        let or = |given: Option<Limit>, now| given.map_or(now, |Limit(limit)| limit);
        QuotaSpec {
            networks: or(self.quota_networks, now.networks),
            nodes: or(self.quota_nodes, now.nodes),
            interfaces: or(self.quota_interfaces, now.interfaces),
            rules: or(self.quota_rules, now.rules),
            tokens: or(self.quota_tokens, now.tokens),
        }
    }
}

/// How much each interface of an entity's nodes may send, whatever the interface itself says.
#[derive(Debug, Clone, Copy, Args)]
pub struct RateArgs {
    /// Packets a second that each interface of its nodes may send, or `any` [default: any]
    #[arg(long, value_name = "NUMBER", value_parser = parse_most::<u32>)]
    rate_packets: Option<Most<u32>>,
    /// Bits a second that each interface of its nodes may send, or `any`
    #[arg(long, value_name = "NUMBER", value_parser = parse_most::<u64>)]
    rate_bits: Option<Most<u64>>,
}

/// A limit, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most<T>(Option<T>);

fn parse_most<T: std::str::FromStr>(text: &str) -> Result<Most<T>, String> {
    match text {
        "any" => Ok(Most(None)),
        number => {
            number.parse().map(|number| Most(Some(number))).map_err(|_| "legal: a number, or any".to_owned())
        }
    }
}

impl RateArgs {
    /// What is asked for, where `now` is what there is.
    fn over(self, now: RateLimit) -> RateLimit {
        RateLimit {
            packets_per_second: self.rate_packets.map_or(now.packets_per_second, |Most(most)| most),
            bits_per_second: self.rate_bits.map_or(now.bits_per_second, |Most(most)| most),
        }
    }
}

/// Where an entity may place nodes with a token of its own.
#[derive(Debug, Clone, Args)]
pub struct PlacementArgs {
    /// It may place nodes on these hosts by itself [default: operators place its nodes]
    #[arg(long = "place-on", value_name = "HOST", value_delimiter = ',', requires = "device_prefix", value_parser = parse_id)]
    hosts: Vec<String>,
    /// What the names of its devices on those hosts begin with, like acme-
    #[arg(long, value_name = "PREFIX", requires = "hosts")]
    device_prefix: Option<String>,
}

impl PlacementArgs {
    fn placement(self) -> Option<Placement> {
        let Self { hosts, device_prefix } = self;
        device_prefix.map(|device_prefix| Placement { hosts, device_prefix })
    }
}

impl Resource for Entity {
    const KIND: &'static str = "entity";
    const COLLECTION: &'static str = "entities";
    const HEADER: &'static [&'static str] = &["ID", "DESCRIPTION"];

    fn row(&self) -> Vec<String> {
        vec![self.id.clone(), self.description.clone()]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let of = |used: u32, limit: u32| format!("{used} of {limit}");
        let (used, limits) = (&self.used, &self.limits);
        let placement = self.placement.as_ref().map_or_else(
            || "by operators".to_owned(),
            |placement| format!("on {}, devices {}…", placement.hosts.join(", "), placement.device_prefix),
        );
        printer.facts([
            ("entity", self.id.clone()),
            ("description", self.description.clone()),
            ("networks", of(used.networks, limits.networks)),
            ("nodes", of(used.nodes, limits.nodes)),
            ("interfaces", of(used.interfaces, limits.interfaces)),
            ("rules", of(used.rules, limits.rules)),
            ("tokens", of(used.tokens, limits.tokens)),
            ("nodes are placed", placement),
            (
                "an interface may send",
                if self.rate.is_default() { "anything".to_owned() } else { rate(self.rate) },
            ),
            ("revision", self.revision.to_string()),
        ])
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, description, quota, placement, rate } => {
            let (quota, rate) = (quota.over(QuotaSpec::default()), rate.over(RateLimit::default()));
            let spec = EntitySpec { description, quota, placement: placement.placement(), rate };
            super::create::<Entity>(client, printer, &id, &spec).await
        }
        Command::Change { id, description, quota, placement, rate, no_placement } => {
            let now: Entity = client.get(&Entity::path(&id)).await?;
            let spec = EntitySpec {
                description: description.unwrap_or(now.description),
                quota: quota.over(now.quota),
                placement: placement.placement().or(now.placement.filter(|_| !no_placement)),
                rate: rate.over(now.rate),
            };
            let (_, entity): (bool, Entity) = client.put(&Entity::path(&id), &spec).await?;
            if printer.is_json() {
                printer.json(&entity)?;
            } else {
                printer.line(&format!("entity {id} is as asked"))?;
                entity.show(printer)?;
            }
            Ok(())
        }
        Command::List(list) => super::list::<Entity>(client, printer, ListQuery::default(), list.limit).await,
        Command::Show { id } => super::show::<Entity>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Entity>(client, printer, &id).await,
    }
}
