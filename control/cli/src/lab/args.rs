//! The command line of `overlane lab`.

use clap::{Args, Subcommand};

/// Arguments of `overlane lab`.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// Name of the lab, 1 to 12 of a-z, 0-9 and -: several can be up side by side [default: ovl, or demo]
    #[arg(long, global = true, value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with the lab.
    #[command(subcommand)]
    pub command: LabCommand,
}

/// What to do with the lab.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Makes two hosts with an engine each, a router, the service, and nodes of two tenants
    Up,
    /// Checks who reaches whom, and who must not; exit status 1 if something does not hold
    Test,
    /// Shows what runs, who is where, and what was dropped
    Status,
    /// Takes the lab down, also after a crash; leaves nothing behind
    Down,
    /// Shows the whole system in a lab of its own, and takes it down again
    Demo,
}
