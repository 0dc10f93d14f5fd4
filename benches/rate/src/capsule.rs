//! The second driver of the same stages, on capsule: a program of a workspace of its own, measured if it is there.

use crate::child::{BUFFERS, Setup, WARM};
use crate::frames::Direction;
use crate::measure::{Reading, Share, Side};
use crate::piped::Piped;
use crate::site::{
    ADDRESS, LAYOUT, NODE, NODE_MTU, PREFIX, ROUTER, SUBNET, UPLINK, UPLINK_MTU, elsewhere, vnet,
};
use anyhow::{Context, bail};
use overlane_dpdk::Devargs;
use serde::Deserialize;
use std::fmt::Write;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What builds it.
pub(crate) const BUILD: &str = "scripts/capsule build";

/// The program, where the build leaves it: beside what this one was built into, or in its own workspace.
pub(crate) fn program() -> Option<PathBuf> {
    const FILE: &str = "release/overlane-capsule";
    let own = std::env::current_exe().ok();
    let target = own.as_deref().and_then(|own| own.parent()?.parent());
    let beside = target.map(|target| target.join("capsule").join(FILE));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/capsule/target").join(FILE);
    beside.into_iter().chain([workspace]).find(|path| path.is_file())
}

/// A capsule that forwards, or is stopped.
#[derive(Debug)]
pub(crate) struct Capsule {
    program: Piped,
    dropped: u64,
}

/// What it answers.
#[derive(Debug, Deserialize)]
struct SoFar {
    workers: Vec<WorkerSoFar>,
    dropped: u64,
}

#[derive(Debug, Deserialize)]
struct WorkerSoFar {
    handed: u64,
    cpu_ns: u64,
}

impl Capsule {
    /// Starts it with so many mappings, and waits until it forwards, then stops it. `site`: a file to write; another beside
    /// it takes what it says.
    pub(crate) fn start(
        setup: &Setup,
        direction: Direction,
        mappings: u32,
        site: &Path,
    ) -> anyhow::Result<Self> {
        let program = program().context("the capsule driver is not built")?;
        std::fs::write(site, describe(setup, direction, mappings)?)?;
        // DPDK tells much, and capsule why it cannot begin.
        let log = site.with_extension("log");
        let mut command = Command::new(program);
        command.arg("run").arg(site).arg("--tell").stderr(File::create(&log)?);
        let mut program = Piped::start(&mut command)?;
        program.say("")?;
        let said = || format!("it says:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        let dropped = understand(&program.hear().with_context(said)?)?.dropped;
        program.stop()?;
        Ok(Self { program, dropped })
    }

    fn so_far(&mut self) -> anyhow::Result<Reading> {
        self.program.say("")?;
        let so_far = understand(&self.program.hear()?)?;
        if so_far.dropped != self.dropped {
            bail!(
                "not every packet came through: {} were dropped",
                so_far.dropped.saturating_sub(self.dropped)
            );
        }
        let share =
            |worker: &WorkerSoFar| Share { packets: worker.handed, cpu: Duration::from_nanos(worker.cpu_ns) };
        Ok(Reading { shares: so_far.workers.iter().map(share).collect(), parts: None })
    }
}

impl Side for Capsule {
    fn measure(&mut self, time: Duration) -> anyhow::Result<Reading> {
        self.program.go_on()?;
        std::thread::sleep(WARM);
        let before = self.so_far()?;
        std::thread::sleep(time);
        let now = self.so_far()?;
        self.program.stop()?;
        now.since(&before)
    }
}

fn understand(line: &str) -> anyhow::Result<SoFar> {
    serde_json::from_str(line).with_context(|| format!("it says {line:?}"))
}

/// The site that the engine has, in the driver's words.
fn describe(setup: &Setup, direction: Direction, mappings: u32) -> anyhow::Result<String> {
    let (input, output) = (setup.input()?, setup.output()?);
    let (node, uplink) = match direction {
        Direction::FourToSix => (device(&input)?, device(&output)?),
        Direction::SixToFour => (device(&output)?, device(&input)?),
    };
    let mut site = format!(
        r#"
layout = "{LAYOUT}"
prefix = "{PREFIX}"
cores = {:?}
main_core = {}
buffers = {BUFFERS}
hugepages = {}
[uplink]
{uplink}
mac = "{UPLINK}"
next_hop = "{ROUTER}"
mtu = {UPLINK_MTU}
[[network]]
id = "net"
vnet = {}
subnets = [{{ cidr = "{SUBNET}" }}]
[[interface]]
id = "node"
network = "net"
slot = 0
mac = "{NODE}"
addresses = ["{ADDRESS}"]
mtu = {NODE_MTU}
{node}
"#,
        setup.cores,
        setup.control,
        setup.hugepages,
        vnet()?,
    );
    for index in 0..mappings {
        let (locator, address) = elsewhere(vnet()?, index)?;
        let (prefix, slot) = (locator.prefix(LAYOUT), locator.slot(LAYOUT));
        writeln!(
            site,
            "[[mapping]]\nnetwork = \"net\"\naddress = \"{address}\"\nprefix = \"{prefix}\"\nslot = {slot}"
        )?;
    }
    Ok(site)
}

/// A device's name and arguments, as the driver has them.
fn device(devargs: &Devargs) -> anyhow::Result<String> {
    let (name, arguments) = devargs.as_str().split_once(',').context("a device with arguments")?;
    Ok(format!("device = {name:?}\narguments = {arguments:?}"))
}
