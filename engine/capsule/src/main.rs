//! `overlane-capsule`: see `overlane-capsule --help`.

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use core::time::Duration;
use overlane_capsule::bench::{self, Bench};
use overlane_capsule::driver::{self, Limits};
use overlane_capsule::site::Site;
use std::path::PathBuf;
use std::process::ExitCode;

/// Overlane's data plane on capsule's runtime: the second, optional driver of the same stages as in overlane-engine.
///
/// It forwards between nodes' ports and one uplink, all of them DPDK devices, by a site that never changes. There is no
/// control thread: nothing is resolved, learned or plugged in while it runs. Use overlane-engine for anything but trying
/// capsule out or comparing with it.
#[derive(Debug, Parser)]
#[command(name = "overlane-capsule", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forwards, until SIGINT, SIGTERM, SIGHUP or a limit; then prints what it did, as one line of JSON
    ///
    /// Example: two taps as nodes of a host, and a kernel interface as its uplink, are described by a file like
    /// engine/capsule/site.toml, which explains every field. The kernel keeps using an interface that net_af_packet is
    /// attached to; keep it off the host's prefix yourself.
    Run {
        /// The site: a TOML file
        #[arg(value_name = "SITE.toml")]
        site: PathBuf,
        #[command(flatten)]
        limits: LimitArgs,
    },
    /// Checks a site file and says what is wrong with it
    Check {
        /// The site: a TOML file
        #[arg(value_name = "SITE.toml")]
        site: PathBuf,
    },
    /// Measures forwarding from net_pcap,infinite_rx=1 to net_null,no-rx=1; prints one line of JSON
    ///
    /// CPU time is that of the worker's thread, with everything it does. `ns_per_packet` is the figure to compare with other
    /// programs on the same devices in the same run.
    Bench(Bench),
}

#[derive(Debug, Args)]
struct LimitArgs {
    /// End after so many seconds, 0.1 to 86400
    #[arg(long, value_name = "N", value_parser = bench::seconds)]
    seconds: Option<Duration>,
    /// End once so many packets have come in
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// Answer each line on standard input with what was done so far, a line of JSON, and end when there are no more
    #[arg(long)]
    tell: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlane-capsule: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Run { site, limits } => {
            let limits = Limits { time: limits.seconds, packets: limits.packets, input: limits.tell };
            let report = driver::run(&Site::load(&site)?, limits)?;
            println!("{}", serde_json::to_string(&report)?);
        }
        Command::Check { site } => {
            let site = Site::load(&site)?;
            let (interfaces, mappings) = (site.interfaces.len(), site.mappings.len());
            println!("interfaces: {interfaces}, mappings to elsewhere: {mappings}");
        }
        Command::Bench(bench) => println!("{}", serde_json::to_string(&bench::run(&bench)?)?),
    }
    Ok(())
}
