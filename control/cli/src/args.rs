//! The command line.

use clap::{Parser, Subcommand};

use crate::lab::args::LabArgs;

/// Operates Overlane: virtual IPv4 networks over one plain IPv6 network.
#[derive(Debug, Parser)]
#[command(name = "overlane", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Two hosts, a router, the service and tenants' nodes in network namespaces of this machine
    Lab(LabArgs),
}
