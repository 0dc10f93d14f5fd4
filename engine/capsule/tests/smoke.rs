//! The program on real DPDK devices, against the same stages on plain memory: what `net_pcap` reads goes in, and what it
//! writes must be, byte for byte and in order, what the pipeline makes of it without capsule.
//!
//! It needs two cores; without them it is ignored, and standard error says why.

mod frames;

use arrayvec::ArrayVec;
use core::time::Duration;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use overlane_capsule::host::Host;
use overlane_capsule::pcap;
use overlane_capsule::site::Site;
use overlane_dataplane::address::HostPrefix;
use overlane_dataplane::buffer::{HeapPacket, HeapPool};
use overlane_dataplane::counters::Drops;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::fragment::FragmentLimits;
use overlane_dataplane::id::PortId;
use overlane_dataplane::packet::{Clock, Packet};
use overlane_dataplane::pipeline::{BURST, Outbox, Pipeline};
use overlane_dataplane::segment::{self, Capabilities};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What capsule receives at once.
const CAPSULE_BURST: usize = 32;
/// How long a run may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);
/// What one buffer holds.
const DATA_ROOM: usize = 2_048;

fn main() {
    let arguments = Arguments::from_args();
    let cores = cores();
    let trial = |name: &'static str, body: fn(usize) -> Result<(), Failed>| {
        let core = cores.get(1).copied();
        if core.is_none() {
            eprintln!("SKIPPED {name}: capsule's main thread and a worker need a core each");
        }
        Trial::test(name, move || core.map_or(Ok(()), body)).with_ignored_flag(core.is_none())
    };
    let trials = vec![
        trial("what_leaves_is_what_the_pipeline_makes_without_capsule", both_ways),
        trial("bench_forwards_everything_both_ways", bench),
        trial("what_cannot_be_is_refused_in_words", no_such_thing),
        trial("run_ends_at_its_time", ends_at_its_time),
        trial("lines_are_answered_with_what_was_done_so_far_and_their_end_ends_the_run", tells),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect()
}

/// A host with two nodes and an uplink, each of which reads one capture and writes another.
fn site(core: usize, directory: &Path) -> String {
    let arguments = |name: &str| {
        let directory = directory.display();
        format!("rx_pcap={directory}/{name}-in.pcap,tx_pcap={directory}/{name}-out.pcap")
    };
    let (uplink, web, app) = (arguments("uplink"), arguments("web"), arguments("app"));
    format!(
        r#"
        prefix = "fd00:0:0:a::/64"
        cores = [{core}]
        buffers = 2047
        [uplink]
        device = "net_pcap0"
        arguments = "{uplink}"
        mac = "{}"
        next_hop = "{}"
        addresses = ["fd00:0:0:a::1"]
        [[network]]
        id = "red"
        vnet = {}
        subnets = [{{ cidr = "10.0.0.0/24", gateway = "10.0.0.1" }}]
        [[interface]]
        id = "web"
        network = "red"
        slot = 1
        mac = "{}"
        addresses = ["{}"]
        device = "net_pcap1"
        arguments = "{web}"
        [[interface]]
        id = "app"
        network = "red"
        slot = 3
        mac = "{}"
        addresses = ["{}"]
        device = "net_pcap2"
        arguments = "{app}"
        [[mapping]]
        network = "red"
        address = "{}"
        prefix = "fd00:0:0:b::/64"
        slot = 2
        "#,
        frames::UPLINK,
        frames::ROUTER,
        frames::VNET,
        frames::WEB.0,
        frames::WEB.1,
        frames::APP.0,
        frames::APP.1,
        frames::ELSEWHERE,
    )
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_overlane-capsule"))
}

/// Runs the program to its end and gives the line of JSON that it printed.
fn run(arguments: &[&str]) -> Result<Value, Failed> {
    let mut child = program().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let process = child.id();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    for directory in ["/var/run", "/tmp"] {
        let left = format!("{directory}/dpdk/overlane-capsule-{process}");
        assert!(!Path::new(&left).exists(), "{left} was left behind");
    }
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || stdout.lines().count() != 1 {
        return Err(format!("{}\n{stdout}\n{stderr}", output.status).into());
    }
    Ok(serde_json::from_str(&stdout)?)
}

fn both_ways(core: usize) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let site = site(core, directory.path());
    let file = directory.path().join("site.toml");
    std::fs::write(&file, &site)?;
    let names = ["uplink", "web", "app"];
    let received = [frames::from_uplink(), frames::from_web(), frames::from_app()];
    for (name, frames) in names.iter().zip(&received) {
        pcap::write(&directory.path().join(format!("{name}-in.pcap")), frames)?;
    }
    let expected = Expected::of(&site, &received)?;
    // Otherwise there is nothing to see.
    assert!(expected.sent.iter().all(|frames| !frames.is_empty()));

    // Those of several segments are dropped before they are counted as received.
    let fitting = received.iter().flatten().filter(|frame| fits(frame)).count();
    let file = file.to_str().ok_or("a path")?;
    let report = run(&["run", file, "--packets", &fitting.to_string()])?;

    for ((name, sent), drops) in names.iter().zip(&expected.sent).zip(&expected.drops) {
        let written = pcap::read(&directory.path().join(format!("{name}-out.pcap")))?;
        assert_eq!(written.len(), sent.len(), "{name}: {report}");
        for (index, (written, sent)) in written.iter().zip(sent).enumerate() {
            assert_eq!(written, sent, "{name}, frame {index}");
        }
        let ports = report["ports"].as_array().ok_or("no ports")?;
        let port = ports.iter().find(|port| port["name"] == *name).ok_or("no such port")?;
        assert_eq!(port["drops"], serde_json::to_value(drops)?, "{name}");
        assert_eq!((&port["handed"], &port["sent"]), (&sent.len().into(), &sent.len().into()), "{name}");
    }
    assert_eq!(report["packets"], fitting);
    assert_eq!(report["punted"], expected.punted);
    assert_eq!(report["workers"][0]["registered"], true, "{report}");
    assert_eq!(report["workers"][0]["unplaced_drops"], serde_json::json!({}));
    Ok(())
}

fn fits(frame: &[u8]) -> bool {
    frame.len() <= DATA_ROOM
}

/// What the pipeline makes of frames, by port.
struct Expected {
    sent: Vec<Vec<Vec<u8>>>,
    drops: Vec<BTreeMap<&'static str, u64>>,
    punted: u64,
}

impl Expected {
    fn of(site: &str, received: &[Vec<Vec<u8>>]) -> Result<Self, Failed> {
        let site: Site = site.parse().map_err(|error| format!("{error:#}"))?;
        let host = Host::new(&site, 1, [1, 2]).map_err(|error| format!("{error:#}"))?;
        let mut reader = host.domain.register("oracle")?;
        let pool = HeapPool::default();
        let clock = Monotonic(Instant::now());
        let limits = FragmentLimits::default();
        let (table, flows) = (host.table.clone(), host.flows.clone());
        let mut pipeline = Pipeline::new(0, table, flows, pool.clone(), clock, limits, [3, 4]);
        let mut out = Out { pool: pool.clone(), sent: vec![Vec::new(); received.len()], punted: 0 };

        let mut bursts: Vec<_> = received.iter().map(|frames| frames.chunks(CAPSULE_BURST)).collect();
        let turns = bursts.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        for _ in 0..turns {
            for (port, bursts) in host.ports.iter().zip(&mut bursts) {
                let frames = bursts.next().unwrap_or(&[]);
                let packets = frames.iter().filter(|frame| fits(frame));
                let mut burst: ArrayVec<HeapPacket, BURST> =
                    packets.map(|frame| pool.packet(frame).unwrap()).collect();
                for _ in 0..frames.len() - burst.len() {
                    port.traffic.get(0).unwrap().drops.count(DropReason::SegmentsUnsupported);
                }
                pipeline.receive(&reader, &host.snapshot, port.id, &mut burst, &mut out);
            }
            reader.quiesce();
        }
        let vnets: Vec<_> = host.snapshot.vnets.iter().filter_map(|vnet| vnet.uplink_drops.get(0)).collect();
        let drops = host.ports.iter().enumerate().map(|(index, port)| {
            let own = port.traffic.get(0).map(|traffic| &traffic.drops);
            let vnets = vnets.iter().copied().filter(|_| index == 0);
            by_name(own.into_iter().chain(vnets))
        });
        Ok(Self { drops: drops.collect(), sent: out.sent, punted: out.punted })
    }
}

fn by_name<'a>(counters: impl Iterator<Item = &'a Drops>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for drops in counters {
        for reason in DropReason::ALL.iter().filter(|reason| drops.get(**reason) > 0) {
            *counts.entry(reason.name()).or_default() += drops.get(*reason);
        }
    }
    counts
}

struct Out {
    pool: HeapPool,
    sent: Vec<Vec<Vec<u8>>>,
    punted: u64,
}

impl Outbox<HeapPacket> for Out {
    fn transmit(&mut self, port: PortId, packet: HeapPacket) {
        let sent = &mut self.sent[port.index()];
        segment::finish(&self.pool, Capabilities::default(), packet, |packet| {
            sent.push(packet.segments().flatten().copied().collect());
        })
        .unwrap();
    }

    fn punt(&mut self, _: PortId, _: HeapPacket) {
        self.punted += 1;
    }

    fn path_mtu(&mut self, _: HostPrefix, _: u16) {}
}

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

fn bench(core: usize) -> Result<(), Failed> {
    for direction in ["4to6", "6to4"] {
        let core = core.to_string();
        let report = run(&["bench", "--direction", direction, "--core", &core, "--seconds", "0.5"])?;
        assert_eq!(report["direction"], direction);
        assert!(report["packets"].as_u64() > Some(1_024), "{report}");
        assert!(report["ns_per_packet"].as_f64() > Some(0.0), "{report}");
    }
    Ok(())
}

fn tells(core: usize) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let captures = directory.path().display();
    let site = site(core, directory.path())
        .replace(&format!(",tx_pcap={captures}/web-out.pcap"), ",infinite_rx=1")
        .replace(&format!("rx_pcap={captures}/uplink-in.pcap,tx_pcap={captures}/uplink-out.pcap"), "no-rx=1")
        .replace(&format!("rx_pcap={captures}/app-in.pcap,tx_pcap={captures}/app-out.pcap"), "no-rx=1")
        .replace("net_pcap0", "net_null0")
        .replace("net_pcap2", "net_null2");
    let file = directory.path().join("site.toml");
    std::fs::write(&file, site)?;
    let fitting: Vec<_> = frames::from_web().into_iter().filter(|frame| fits(frame)).collect();
    pcap::write(&directory.path().join("web-in.pcap"), &fitting)?;

    let mut command = program();
    // Should the end of its input not end it.
    let limit = PATIENCE.as_secs().to_string();
    command.arg("run").arg(&file).args(["--tell", "--seconds", &limit]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().ok_or("no standard input")?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
    let mut told = || -> Result<[u64; 3], Failed> {
        writeln!(input)?;
        let line: Value = serde_json::from_str(&lines.next().ok_or("it ended")??)?;
        let worker = &line["workers"][0];
        let number = |value: &Value| value.as_u64().ok_or_else(|| Failed::from(line.to_string()));
        Ok([number(&worker["handed"])?, number(&worker["cpu_ns"])?, number(&line["dropped"])?])
    };
    let first = told()?;
    let deadline = Instant::now() + PATIENCE;
    let mut last = first;
    // Some of what web sends is bad, and comes again and again.
    while (0..3).any(|index| last[index] <= first[index]) {
        assert!(Instant::now() < deadline, "{first:?}, {last:?}");
        last = told()?;
    }
    drop(input);
    let report: Value = serde_json::from_str(&lines.next().ok_or("no report")??)?;
    assert!(child.wait()?.success());
    assert!(report["seconds"].as_f64() < Some(PATIENCE.as_secs_f64()), "it did not end by itself: {report}");
    let handed: u64 =
        report["ports"].as_array().ok_or("no ports")?.iter().flat_map(|port| port["handed"].as_u64()).sum();
    assert!(handed >= last[0] && report["cpu_ns"].as_u64() >= Some(last[1] - first[1]), "{report}, {last:?}");
    Ok(())
}

fn refused(arguments: &[&str]) -> Result<String, Failed> {
    let output = program().args(arguments).output()?;
    assert!(!output.status.success());
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn no_such_thing(_: usize) -> Result<(), Failed> {
    let said = refused(&["bench", "--core", "1000"])?;
    assert!(said.contains("core 1000: this process may not run there"), "{said}");
    let said = refused(&["bench", "--seconds", "0"])?;
    assert!(said.contains("must be 0.1 to 86400"), "{said}");
    Ok(())
}

fn ends_at_its_time(core: usize) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("site.toml");
    let null = "device = \"net_null0\"\narguments = \"no-rx=1\"";
    let site = site(core, directory.path());
    // No port has anything to receive.
    let mut number = 0;
    let lines = site.lines().filter(|line| !line.trim_start().starts_with("arguments")).map(|line| {
        if !line.trim_start().starts_with("device") {
            return line.to_owned();
        }
        number += 1;
        null.replace("net_null0", &format!("net_null{number}"))
    });
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n"))?;
    let report = run(&["run", file.to_str().ok_or("a path")?, "--seconds", "1"])?;
    assert_eq!(report["packets"], 0);
    assert!(report["seconds"].as_f64() >= Some(1.0), "{report}");
    assert!(report["workers"][0]["turns"].as_u64() > Some(1), "{report}");
    Ok(())
}
