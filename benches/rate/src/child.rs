//! A process of the harness's own in which one thing runs, and what the two say to each other.
//!
//! DPDK has one environment per process, so whatever is measured has a process of its own, as testpmd has. It is kept
//! between rounds, stopped (`SIGSTOP`) while it is another's turn. On its standard input it is told for how long to
//! measure; on its standard output it answers in JSON, a line each.

use crate::bare::{self, Bare};
use crate::engine::{self, Engine};
use crate::frames::PACKETS;
use crate::measure::{Reading, Share, Side};
use crate::piped::Piped;
use anyhow::{Context, bail};
use overlane_dpdk::Devargs;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Packet buffers of each side: more than the capture, the queues and the caches hold at once.
pub(crate) const BUFFERS: u32 = 16_384;
/// Memory of each side in MiB, for the buffers and what DPDK has beside them.
pub(crate) const MEMORY_MIB: u32 = 128;
/// How long a process turns before it is measured, so that its caches are its own again.
pub(crate) const WARM: Duration = Duration::from_millis(50);

/// The devices and memory that both sides have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The capture that is played.
    pub(crate) capture: PathBuf,
    /// Packet memory is on hugepages.
    pub(crate) hugepages: bool,
    /// The cores that forward, a worker each.
    pub(crate) cores: Vec<usize>,
    /// The core for everything else.
    pub(crate) control: usize,
}

impl Setup {
    /// The device that plays the capture without end, with a queue for each core.
    pub(crate) fn input(&self) -> anyhow::Result<Devargs> {
        let mut devargs = Devargs::vdev("net_pcap0")?;
        for _ in &self.cores {
            devargs = devargs.argument("rx_pcap", self.capture.display())?;
        }
        Ok(devargs.argument("infinite_rx", 1)?)
    }

    /// The device that takes whatever it is given, and gives nothing.
    pub(crate) fn output(&self) -> anyhow::Result<Devargs> {
        Ok(Devargs::vdev("net_null0")?.argument("no-rx", 1)?)
    }
}

/// What runs in the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Task {
    /// The engine.
    Engine(Engine),
    /// A loop over the same bindings that only receives and sends.
    Bare(Bare),
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    Reading(Reading),
    Failed(String),
}

/// Reads how many milliseconds to measure for, a line each, and answers; until there are no more.
pub(crate) fn serve(setup: &str, task: &str) -> anyhow::Result<()> {
    let (setup, task) = (serde_json::from_str(setup)?, serde_json::from_str(task)?);
    let ran = match task {
        Task::Engine(engine) => engine::run(&setup, &engine, answer_all),
        Task::Bare(bare) => bare::run(&setup, &bare, answer_all),
    };
    match ran {
        Ok(()) => Ok(()),
        Err(error) => answer(&Answer::Failed(format!("{error:#}"))),
    }
}

/// Answers requests with what `read` reads at their beginnings and ends.
fn answer_all(read: &mut dyn FnMut() -> anyhow::Result<Reading>) -> anyhow::Result<()> {
    answer(&Answer::Ready)?;
    for line in std::io::stdin().lines() {
        let milliseconds = line?.trim().parse().context("how long to measure")?;
        std::thread::sleep(WARM);
        let before = read()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        answer(&Answer::Reading(read()?.since(&before)?))?;
    }
    Ok(())
}

fn answer(answer: &Answer) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// The process, from outside.
#[derive(Debug)]
pub(crate) struct Contender(Piped);

impl Contender {
    /// Starts the process and waits until it forwards, then stops it.
    pub(crate) fn start(setup: &Setup, task: &Task) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["child", &serde_json::to_string(setup)?, &serde_json::to_string(task)?]);
        let mut contender = Self(Piped::start(&mut command)?);
        match contender.hear()? {
            Answer::Ready => contender.0.stop()?,
            other => bail!("instead of being ready it says {other:?}"),
        }
        Ok(contender)
    }

    fn hear(&mut self) -> anyhow::Result<Answer> {
        let line = self.0.hear()?;
        match serde_json::from_str(&line).with_context(|| format!("it says {line:?}"))? {
            Answer::Failed(error) => bail!(error),
            answer => Ok(answer),
        }
    }
}

impl Side for Contender {
    fn measure(&mut self, time: Duration) -> anyhow::Result<Reading> {
        self.0.go_on()?;
        self.0.say(&time.as_millis().to_string())?;
        let answer = self.hear()?;
        self.0.stop()?;
        match answer {
            Answer::Reading(reading) => Ok(reading),
            other => bail!("instead of what it measured it says {other:?}"),
        }
    }
}

impl Reading {
    /// What was done between two readings, by every thread.
    pub(crate) fn since(&self, before: &Self) -> anyhow::Result<Self> {
        let shares = self.shares.iter().zip(&before.shares).map(|(now, before)| Share {
            packets: now.packets.saturating_sub(before.packets),
            cpu: now.cpu.saturating_sub(before.cpu),
        });
        let parts = self.parts.zip(before.parts).map(|(now, before)| now.with(before, u64::saturating_sub));
        let difference = Self { shares: shares.collect(), parts };
        // The capture comes round a thousand times in any time that is worth measuring.
        if difference.shares.iter().any(|share| share.packets < u64::from(PACKETS) || share.cpu.is_zero()) {
            bail!("next to nothing was forwarded: {difference:?}");
        }
        Ok(difference)
    }
}
