//! The runtime on real interfaces: kernel stacks in network namespaces as nodes, one engine between them.
//!
//! A process has one DPDK environment, so each test runs in a process of its own: this binary, called with the test's
//! name in `OVERLANE_SCENARIO`.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod common;
#[path = "runtime/stuck.rs"]
mod stuck;

use common::{Node, attempt, run, runtime_config};
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use overlane_dataplane::address::{HostPrefix, Layout, Locator};
use overlane_dataplane::counters::{PerWorker, Traffic};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::group::GroupLimit;
use overlane_dataplane::id::{PortId, Slot, VnetId};
use overlane_dataplane::limit::IcmpLimit;
use overlane_dataplane::mac::MacAddr;
use overlane_dataplane::snapshot::{HostSnapshot, Interface, PortRole, Subnet, Uplink, Vnet};
use overlane_dataplane::table::mapping::{Mapping, MappingKey, MappingWriter, State};
use overlane_engine::config::Idle;
use overlane_engine::kernel::Kernel;
use overlane_engine::runtime::{Cores, OpenPort, PortEvent, PortSpec, Runtime};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SCENARIO: &str = "OVERLANE_SCENARIO";

/// Runs one scenario to its end.
type Run = fn(&mut World);

const SCENARIOS: &[(&str, Run)] = &[
    ("nodes_of_a_host_reach_each_other_by_arp_ping_and_tcp", local),
    ("device_deleted_and_recreated_is_told_and_costs_others_nothing", recreated),
    ("node_that_takes_nothing_costs_others_nothing", stuck::takes_nothing),
    ("node_that_never_reads_fills_its_own_queue_and_costs_others_nothing", stuck::never_reads),
    ("node_that_never_reads_costs_others_nothing_on_one_worker_that_spins", stuck::never_reads),
    ("worker_that_is_held_up_costs_those_of_others_nothing", stuck::held_up),
    ("tap_is_isolated_here_and_serves_the_node_it_is_moved_to", tap),
    ("packets_for_the_engine_are_punted_and_its_frames_are_sent", punt),
    ("interface_that_is_no_veth_is_refused_and_left_alone", no_veth),
    ("idle_workers_sleep_and_are_awake_within_milliseconds", idle),
    ("one_worker_that_spins_carries_packets_too", local),
];

fn main() {
    if common::held::held_one() {
        return;
    }
    if let Ok(name) = std::env::var(SCENARIO) {
        let scenario = SCENARIOS.iter().find(|(known, _)| *known == name);
        let (name, run) = scenario.expect("a scenario of that name");
        return World::enter(name, *run);
    }
    let root = nix::unistd::Uid::effective().is_root();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let trial = |(name, _): &(&'static str, Run)| {
        let name = *name;
        let trial = Trial::test(name, move || {
            let output = Command::new(std::env::current_exe()?).env(SCENARIO, name).output()?;
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("{}\n{text}", output.status).into()) }
        });
        let missing = match () {
            () if !root => Some("root, for network namespaces and packet sockets"),
            () if cores < 2 && name.contains("held_up") => Some("two cores, for two workers"),
            () => None,
        };
        if let Some(missing) = missing {
            eprintln!("SKIPPED {name}: needs {missing}");
        }
        trial.with_ignored_flag(missing.is_some())
    };
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Each test has workers on the machine's cores.
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, SCENARIOS.iter().map(trial).collect()).exit();
}

/// One engine's runtime, in a network namespace of its own, and the vnet that tests put nodes in.
struct World {
    tokio: tokio::runtime::Runtime,
    runtime: Arc<Runtime>,
    writer: MappingWriter,
    vnet: Arc<Vnet>,
    prefix: HostPrefix,
    interfaces: Vec<Arc<Interface>>,
    uplink: Option<Arc<Uplink>>,
}

impl World {
    fn enter(name: &str, scenario: Run) {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        run("ip link set lo up");
        let spin = name.contains("spins");
        let allowed = Cores::choose(&[]).expect("cores");
        let mut cores = [&allowed.control[..], &allowed.workers[..]].concat();
        cores.sort_unstable();
        cores.dedup();
        // Two workers where there are two cores, so that packets are handed over.
        let cores = cores.into_iter().rev().take(if spin { 1 } else { 2 }).collect();
        let tokio =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kernel = tokio.block_on(async { Kernel::connect().unwrap() });
        let config = runtime_config(cores, if spin { Idle::Spin } else { Idle::Backoff });
        let (runtime, writer) = Runtime::start(&config, kernel).unwrap();
        let vnet = Arc::new(Vnet::new(
            VnetId::new(7).unwrap(),
            vec![Subnet { net: "10.0.0.0/24".parse().unwrap(), gateway: None }],
            Arc::new(PerWorker::new(2)),
        ));
        let prefix = HostPrefix::parse(Layout::Slot64, "fd00:0:0:a::/64").unwrap();
        let runtime = Arc::new(runtime);
        let mut world = Self { tokio, runtime, writer, vnet, prefix, interfaces: Vec::new(), uplink: None };
        scenario(&mut world);
        // Whatever the scenario did, the end is in order: in time, and with every packet buffer back.
        let Self { tokio, runtime, .. } = world;
        let runtime = Arc::into_inner(runtime).expect("nobody else holds the runtime");
        let began = Instant::now();
        tokio.block_on(runtime.shutdown(Duration::from_secs(5))).expect("an orderly shutdown");
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    /// A node in a namespace of its own, its veth attached as the interface with address 10.0.0.`n`.
    fn node(&mut self, n: u8) -> Node {
        let node = Node::new();
        self.veth(&node, n);
        self.attach(PortSpec::Veth { device: format!("host{n}") }, n).unwrap();
        node
    }

    fn veth(&self, node: &Node, n: u8) {
        run(&format!("ip link add host{n} type veth peer name eth0 netns {} address {}", node.pid(), mac(n)));
        node.run(&format!("ip addr add 10.0.0.{n}/24 dev eth0; ip link set eth0 up"));
    }

    fn open(&self, spec: PortSpec) -> Result<OpenPort, String> {
        self.tokio.block_on(self.runtime.open_port(spec)).map_err(|error| error.to_string())
    }

    fn attach(&mut self, spec: PortSpec, n: u8) -> Result<PortId, String> {
        let opened = self.open(spec)?;
        let slot = Slot::new(n).unwrap();
        let address = Ipv4Addr::new(10, 0, 0, n);
        self.interfaces.push(Arc::new(Interface {
            name: format!("node{n}/eth0"),
            port: opened.id,
            slot,
            vnet: Arc::clone(&self.vnet),
            mac: mac(n),
            addresses: vec![address],
            policy: None,
            settling: false,
            mtu: opened.mtu,
            traffic: opened.traffic,
            icmp_limit: IcmpLimit::default().buckets(2),
            cap: None,
            group_limit: GroupLimit::default().buckets(2),
        }));
        self.publish();
        let locator = Locator::new(Layout::Slot64, self.prefix, slot, self.vnet.id).unwrap();
        let mapping = Mapping { locator, also_accept: None, local: Some(opened.id), state: State::Live };
        self.writer.insert(MappingKey::new(self.vnet.id, address), mapping).unwrap();
        Ok(opened.id)
    }

    fn detach(&mut self, n: u8) {
        let place = self.interfaces.iter().position(|interface| interface.mac == mac(n)).unwrap();
        let interface = self.interfaces.remove(place);
        self.writer.remove(MappingKey::new(self.vnet.id, interface.addresses[0]));
        self.publish();
        self.tokio.block_on(self.runtime.close_port(interface.port)).unwrap();
    }

    /// Tells workers that a node's device has this MTU.
    fn set_mtu(&mut self, n: u8, mtu: u16) {
        let mut interfaces = self.interfaces.iter_mut();
        let place = interfaces.find(|interface| interface.mac == mac(n)).unwrap();
        Arc::make_mut(place).mtu = mtu;
        self.publish();
    }

    fn traffic(&self, n: u8) -> &PerWorker<Traffic> {
        &self.interfaces.iter().find(|interface| interface.mac == mac(n)).unwrap().traffic
    }

    /// Packets dropped for one reason that came from, or were for, a node.
    fn total(&self, n: u8, reason: DropReason) -> u64 {
        self.traffic(n).total(reason)
    }

    /// Packets sent to a node.
    fn sent(&self, n: u8) -> u64 {
        self.traffic(n).iter().map(|traffic| traffic.tx_packets.get()).sum()
    }

    /// The workers that have sent packets to a node.
    fn senders(&self, n: u8) -> Vec<usize> {
        let traffic = self.traffic(n).iter().enumerate();
        traffic.filter(|(_, traffic)| traffic.tx_packets.get() > 0).map(|(worker, _)| worker).collect()
    }

    fn publish(&self) {
        let mut snapshot = HostSnapshot::empty(Layout::Slot64);
        snapshot.prefix = Some(self.prefix);
        snapshot.vnets.push(Arc::clone(&self.vnet));
        let mut role = |port: PortId, role| {
            let places = snapshot.ports.len().max(port.index() + 1);
            snapshot.ports.resize(places, PortRole::Absent);
            snapshot.ports[port.index()] = role;
        };
        for interface in &self.interfaces {
            role(interface.port, PortRole::Node(Arc::clone(interface)));
        }
        if let Some(uplink) = &self.uplink {
            role(uplink.port, PortRole::Uplink(Arc::clone(uplink)));
        }
        for interface in &self.interfaces {
            snapshot.slots[usize::from(interface.slot.get())] = Some(Arc::clone(interface));
        }
        snapshot.uplinks.extend(self.uplink.clone());
        self.runtime.publish(snapshot).unwrap();
    }
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn reaches(node: &Node, n: u8) -> bool {
    node.attempt(&format!("ping -c 3 -i 0.1 -W 2 10.0.0.{n}")).0
}

/// A megabyte by TCP, whole and unchanged, with the offloads that a veth has by default.
fn carries_tcp(from: &Node, to: &Node, n: u8) {
    let listener = "timeout 20 python3 -c \"import socket,hashlib;s=socket.create_server((\\\"0.0.0.0\\\",5000));print(1,flush=True);c=s.accept()[0];h=hashlib.sha256();n=0\nwhile True:\n b=c.recv(65536)\n if not b: break\n h.update(b);n+=len(b)\nprint(n,h.hexdigest())\"";
    let mut server = Command::new("sh")
        .arg("-c")
        .arg(to.wrap(listener))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first line says that it listens.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    let sender = format!(
        "timeout 20 python3 -c \"import socket,hashlib;b=bytes(range(256))*4096;s=socket.create_connection((\\\"10.0.0.{n}\\\",5000));s.sendall(b);s.close();print(len(b),hashlib.sha256(b).hexdigest())\""
    );
    let sent = from.run(&sender);
    assert_eq!(lines.next().unwrap().unwrap(), sent.trim());
    assert!(server.wait().unwrap().success());
}

fn local(world: &mut World) {
    let (one, two) = (world.node(1), world.node(2));
    assert!(reaches(&one, 2) && reaches(&two, 1));
    let neighbour = one.run("ip neigh show 10.0.0.2");
    let dummy = MacAddr::dummy(world.vnet.id, Ipv4Addr::new(10, 0, 0, 2)).to_string();
    assert!(neighbour.contains(&dummy), "{neighbour} should have {dummy}");
    carries_tcp(&one, &two, 2);
    carries_tcp(&two, &one, 1);
    let traffic = &world.interfaces[0].traffic;
    let (sent, received): (u64, u64) = traffic.iter().fold((0, 0), |(sent, received), worker| {
        (sent + worker.tx_packets.get(), received + worker.rx_packets.get())
    });
    assert!(sent > 20 && received > 20, "{sent} {received}");
    let stats = world.runtime.worker_stats();
    assert!(stats.iter().all(|worker| worker.turns > 0));
    assert!(stats.iter().any(|worker| worker.packets > 40 && worker.busy_share() > 0.0), "{stats:?}");
    // What a worker did is told apart, and is no more than its turns.
    let cycles = stats.iter().map(|worker| worker.cycles).max_by_key(|cycles| cycles.turns).unwrap();
    let parts = [cycles.receive, cycles.classify, cycles.authorise, cycles.translate, cycles.send];
    assert!(parts.iter().all(|part| *part > 0) && parts.iter().sum::<u64>() <= cycles.turns, "{cycles:?}");
    // The address is the host's too, and still its kernel hears nothing of the node.
    run("ip addr add 10.0.0.99/24 dev host1");
    assert!(!reaches(&one, 99));
}

fn recreated(world: &mut World) {
    let (one, two, three) = (world.node(1), world.node(2), world.node(3));
    assert!(reaches(&one, 2));
    let gone = world.interfaces.iter().find(|interface| interface.mac == mac(2)).unwrap().port;
    let mut events = world.runtime.events().unwrap();
    run("ip link del host2");
    let event = async { tokio::time::timeout(Duration::from_secs(10), events.recv()).await };
    assert_eq!(world.tokio.block_on(event).unwrap(), Some(PortEvent::Gone { port: gone }));
    assert!(reaches(&one, 3) && !reaches(&one, 2));
    let before = sleeps(world);
    std::thread::sleep(Duration::from_millis(500));
    // Asleep, woken by timeout only: a device that is gone must not keep its worker awake.
    let woken = sleeps(world) - before;
    assert!(woken < 100, "{woken} sleeps in half a second");
    world.detach(2);
    world.veth(&two, 2);
    let again = world.attach(PortSpec::Veth { device: "host2".to_owned() }, 2).unwrap();
    assert_ne!(again, gone);
    assert!(reaches(&one, 2) && reaches(&three, 2));
}

fn sleeps(world: &World) -> u64 {
    world.runtime.worker_stats().iter().map(|worker| worker.sleeps).sum()
}

fn tap(world: &mut World) {
    let (one, two) = (world.node(1), Node::new());
    let mut events = world.runtime.events().unwrap();
    let port = world.attach(PortSpec::Tap { device: "tap2".to_owned(), mac: mac(2) }, 2).unwrap();
    let text = run("ip -d link show dev tap2; tc filter show dev tap2 ingress; ip addr show dev tap2");
    assert!(text.contains("direct-action") && text.contains(&mac(2).to_string()), "{text}");
    assert!(!text.contains("inet6") && text.contains("state DOWN"), "{text}");
    // In the host's namespace the kernel does not answer, whatever addresses it has.
    run("ip addr add 10.0.0.2/24 dev tap2; ip link set tap2 up");
    assert!(!reaches(&one, 2));
    // It is asked every half second, and may be seen between two steps.
    let tokio = world.tokio.handle().clone();
    let mut until = |expected: PortEvent| loop {
        let event = async { tokio::time::timeout(Duration::from_secs(10), events.recv()).await };
        if tokio.block_on(event).unwrap().unwrap() == expected {
            return;
        }
    };
    let link = |up| PortEvent::Link { port, up };
    until(link(true));
    run(&format!("ip link set tap2 netns {}", two.pid()));
    until(link(false));
    two.run("ip addr add 10.0.0.2/24 dev tap2; ip link set tap2 up");
    until(link(true));
    assert!(reaches(&two, 1) && reaches(&one, 2));
    carries_tcp(&one, &two, 2);
    carries_tcp(&two, &one, 1);

    // Its node names it as it likes, and has it carry jumbo frames.
    two.run(
        "ip link set tap2 down; ip link set tap2 name eth0; ip link set eth0 mtu 9000; ip link set eth0 up",
    );
    until(PortEvent::Mtu { port, mtu: 9000 });
    run("ip link set host1 mtu 9000");
    one.run("ip link set eth0 mtu 9000");
    assert!(!whole(&one, 2, 9000), "the snapshot says 1,500 still");
    world.set_mtu(1, 9000);
    world.set_mtu(2, 9000);
    one.run("ip route flush cache");
    two.run("ip route flush cache");
    assert!(whole(&one, 2, 9000) && whole(&two, 1, 9000));
    for (from, to, n) in [(&one, &two, 2), (&two, &one, 1)] {
        let before = (frames(to).received, frames(from).sent);
        carries_tcp(from, to, n);
        let (received, sent) = (frames(to).received - before.0, frames(from).sent - before.1);
        // A megabyte in frames of 9,000 bytes would be more than 116: what is to be cut stays whole.
        assert!(received < 100 && sent < 100, "{sent} frames sent, {received} received");
    }
    let error = world.open(PortSpec::Tap { device: "host1".to_owned(), mac: mac(3) }).unwrap_err();
    assert!(error.contains("host1"), "{error}");
    world.detach(2);
    assert!(!two.attempt("ip link show dev eth0").0);
}

/// Whether an IPv4 packet of `size` bytes gets through that must not be fragmented.
fn whole(node: &Node, n: u8, size: u32) -> bool {
    node.attempt(&format!("ping -c 1 -W 2 -M do -s {} 10.0.0.{n}", size - 28)).0
}

/// What a node's kernel has counted.
struct Frames {
    received: u64,
    sent: u64,
}

fn frames(node: &Node) -> Frames {
    let text = node.run("cat /proc/self/net/dev");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    let counts: Vec<u64> = line.split_whitespace().map(|count| count.parse().unwrap()).collect();
    Frames { received: counts[1], sent: counts[9] }
}

fn punt(world: &mut World) {
    let substrate = Node::new();
    run(&format!(
        "ip link add up0 type veth peer name eth0 netns {} address 02:00:00:00:00:fe",
        substrate.pid()
    ));
    run("ip link set up0 up");
    substrate.run("ip -6 addr add fd00::fe/64 dev eth0 nodad; ip link set eth0 up");
    let opened = world.open(PortSpec::PacketUplink { device: "up0".to_owned() }).unwrap();
    let own = "fd00::1".parse().unwrap();
    world.uplink = Some(Arc::new(Uplink {
        name: "uplink".to_owned(),
        port: opened.id,
        mac: opened.mac,
        mtu: opened.mtu,
        addresses: vec![own],
        next_hop: None,
        link_up: true,
        traffic: Arc::clone(&opened.traffic),
        icmp_limit: IcmpLimit::default().buckets(2),
    }));
    world.publish();
    let runtime = Arc::clone(&world.runtime);
    let gateway = "fd00::fe".parse().unwrap();
    let config = overlane_engine::uplink::Config {
        mac: opened.mac,
        mtu: opened.mtu,
        addressing: overlane_engine::uplink::Addressing::Static { address: own, gateway },
    };
    // Neighbour discovery over the real path: punted frames in, injected frames out.
    let resolve = async move {
        let mut machine = overlane_engine::uplink::Neighbour::new(config, Instant::now());
        let mut punts = runtime.punts();
        let mut output = machine.tick(Instant::now());
        let mut answered = false;
        loop {
            for frame in output.frames.drain(..) {
                answered |= frame.get(54) == Some(&129);
                runtime.inject(opened.id, &frame).unwrap();
            }
            if machine.state().next_hop == Some(MacAddr([2, 0, 0, 0, 0, 0xfe])) && answered {
                return;
            }
            let due = machine.deadline().unwrap();
            output = match tokio::time::timeout_at(due.into(), punts.next()).await {
                Ok(punt) => {
                    assert_eq!(punt.port, opened.id);
                    machine.input(&punt.bytes, Instant::now())
                }
                Err(_) => machine.tick(Instant::now()),
            };
        }
    };
    let resolve = async { tokio::time::timeout(Duration::from_secs(20), resolve).await };
    let ping = std::thread::spawn(move || {
        let (success, text) = substrate.attempt("ping -c 20 -i 0.2 -W 1 -q fd00::1");
        assert!(success, "{text}");
    });
    world.tokio.block_on(resolve).expect("the gateway is resolved and an echo answered");
    ping.join().unwrap();
    let long = [0; 4096];
    assert!(world.runtime.inject(opened.id, &long).is_err());
    assert!(world.runtime.inject(PortId::new(4000).unwrap(), b"frame").is_err());
}

fn no_veth(world: &mut World) {
    run("ip link add dum0 type bridge; ip addr add 192.0.2.1/24 dev dum0");
    for device in ["dum0", "lo", "nothing0"] {
        let error = world.open(PortSpec::Veth { device: device.to_owned() }).unwrap_err();
        assert!(error.contains(device), "{error}");
    }
    assert!(run("ip addr show dev dum0").contains("192.0.2.1"));
    assert!(!attempt("tc qdisc show dev dum0").1.contains("clsact"));
    let error =
        world.open(PortSpec::DevargsUplink { devargs: "net_null0;rm".to_owned(), mtu: None }).unwrap_err();
    assert!(!error.is_empty());
    let opened = world.open(PortSpec::DevargsUplink { devargs: "net_null0".to_owned(), mtu: None }).unwrap();
    world.tokio.block_on(world.runtime.close_port(opened.id)).unwrap();
    assert!(world.tokio.block_on(world.runtime.close_port(opened.id)).is_err());
}

fn idle(world: &mut World) {
    let (one, _two) = (world.node(1), world.node(2));
    assert!(reaches(&one, 2));
    let before = world.runtime.worker_stats();
    std::thread::sleep(Duration::from_secs(1));
    let after = world.runtime.worker_stats();
    for (before, after) in before.iter().zip(&after) {
        let turns = after.turns - before.turns;
        assert!(turns < 20_000, "{turns} turns in an idle second");
    }
    assert!(world.runtime.domain().stalled().is_none());
    let text = one.run("ping -c 20 -i 0.05 -W 2 -q 10.0.0.2");
    // `rtt min/avg/max/mdev = 0.1/…`. The quickest of twenty: what else the machine does is not the worker's delay, and
    // a worker that slept through packets would be late for each of them.
    let quickest: f64 =
        text.rsplit("= ").next().and_then(|times| times.split('/').next()).unwrap().parse().unwrap();
    assert!(quickest < 20.0, "{text}");
}
