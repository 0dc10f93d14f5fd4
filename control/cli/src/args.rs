//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::documents;
use crate::lab::args::LabArgs;
use crate::pki::PkiArgs;
use crate::resources::{audit, entity, event, host, network, node, peering, rule, token};
use crate::settings::Connection;
use crate::trace::TraceArgs;

/// Operates Overlane: virtual IPv4 networks over one plain IPv6 network.
#[derive(Debug, Parser)]
#[command(
    name = "overlane",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Start with an entity, a network and two hosts, then place nodes:
  overlane entity create acme
  overlane network create blue --entity acme --subnet 10.0.0.0/24,gateway=10.0.0.254
  overlane host create rack1-a --prefix fd00:0:0:a::/64
  overlane host create rack1-b --prefix fd00:0:0:b::/64
  overlane node create web --entity acme --host rack1-a \\
      --interface name=eth0,network=blue,address=10.0.0.1,device=veth-web
  overlane node move web --to rack1-b
  overlane status

Nothing at hand to try it on? `overlane lab up` makes two hosts and a service on this machine.

Exit status: 0 done; 1 the service refused or failed; 2 the command line or the settings make no sense."
)]
pub struct Cli {
    /// How results are written to standard output
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t,
        env = "OVERLANE_OUTPUT",
        hide_env_values = true
    )]
    pub output: Output,

    // Behind the others: its heading goes for all that follows it.
    /// Where the service is and who we are to it.
    #[command(flatten)]
    pub connection: Connection,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Columns, for people
    #[default]
    Table,
    /// What the API answered, for programs
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Customers, who own virtual networks and nodes
    #[command(subcommand)]
    Entity(entity::Command),
    /// Virtual IPv4 networks; two of them may use the same addresses
    #[command(subcommand)]
    Network(network::Command),
    /// Machines with an engine and an IPv6 prefix of their own
    #[command(subcommand)]
    Host(host::Command),
    /// Virtual machines, containers and processes, and where they run
    #[command(subcommand)]
    Node(node::Command),
    /// What may pass between nodes, tags, networks and entities
    #[command(subcommand)]
    Rule(rule::Command),
    /// Pairs of networks that exchange packets
    #[command(subcommand)]
    Peering(peering::Command),
    /// Secrets by which operators, and entities, are known to the service
    #[command(subcommand)]
    Token(token::Command),
    /// Who changed what, from where
    Audit(audit::Args),
    /// What went wrong: who claims to be whom it is not, and what contradicts what
    #[command(subcommand)]
    Event(event::Command),
    /// How the service, its engines and their interfaces are
    Status,
    /// What an engine would do with a packet, and by what it is decided
    Trace(TraceArgs),
    /// Two hosts, a router, the service and tenants' nodes in network namespaces of this machine
    Lab(LabArgs),
    /// A certificate authority of the site's own: makes, renews and revokes certificates
    Pki(PkiArgs),
    /// Writes the completion script of a shell to standard output
    Completions(documents::CompletionsArgs),
    /// Writes a man page for every command into a directory
    Man(documents::ManArgs),
}

/// Which page of a list to stop at.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListArgs {
    /// Show at most so many [default: all]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}
