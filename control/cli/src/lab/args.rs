//! The command line of `overlane lab`.

use super::shape::{SUBSTRATE_MTU, Shape};
use anyhow::Context;
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
    /// Makes two hosts with an engine each, a router, the service, and nodes of three tenants
    Up(ShapeArgs),
    /// Checks who reaches whom, and who must not; exit status 1 if something does not hold
    Test,
    /// Shows what runs, who is where, and what was dropped
    Status,
    /// Takes the lab down, also after a crash; leaves nothing behind
    Down,
    /// Shows the whole system in a lab of its own, and takes it down again
    Demo,
}

/// What `overlane lab up` can make different.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// MTU of the router's links, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = SUBSTRATE_MTU)]
    pub mtu: u16,

    /// Another MTU for one host's link to the router, as in host-b=1300; can be given for each host
    #[arg(long, value_name = "HOST=BYTES", value_parser = link_mtu)]
    pub link_mtu: Vec<(String, u16)>,

    /// MTU of the nodes' devices, in bytes [default: 20 less than --mtu]
    #[arg(long, value_name = "BYTES")]
    pub node_mtu: Option<u16>,

    /// Nodes, hosts and router do their checksums and segmentation themselves
    #[arg(long)]
    pub no_offloads: bool,

    /// A file with further sections for every engine's configuration
    #[arg(long, value_name = "FILE")]
    pub engine_config: Option<PathBuf>,
}

fn link_mtu(text: &str) -> Result<(String, u16), String> {
    let (host, mtu) = text.split_once('=').ok_or("not of the form HOST=BYTES")?;
    let mtu = mtu.parse().map_err(|_| format!("{mtu:?} is no MTU"))?;
    Ok((host.to_owned(), mtu))
}

impl ShapeArgs {
    /// The lab that they ask for.
    ///
    /// # Errors
    /// If the engines' settings cannot be read.
    pub fn shape(&self) -> anyhow::Result<Shape> {
        let engine = match &self.engine_config {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("{file:?}"))?,
            None => String::new(),
        };
        Ok(Shape {
            mtu: self.mtu,
            link_mtus: self.link_mtu.iter().cloned().collect(),
            node_mtu: self.node_mtu,
            offloads: !self.no_offloads,
            engine,
        })
    }
}
