//! The lab that attacks share, and what is looked at while one goes on: every drop counter of both engines, by place, and
//! what comes in at every node and at the router.

use crate::fixture::up;
use anyhow::{Context, Result, anyhow, ensure};
use overlane_cli::lab::attack::{self, substrate_port};
use overlane_cli::lab::checks::{contains, say};
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort};
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::state::Mode;
use overlane_cli::lab::wait;
use overlane_dataplane::drop::DropReason;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often each frame is sent.
pub(crate) const ATTEMPTS: u64 = 10;
/// What attackers' payloads say, and nobody is to read.
pub(crate) const SECRET: &str = "must not arrive";
/// How many frames are under way at once: an engine's socket holds some hundreds, and it shares a core with others.
const AT_ONCE: usize = 64;
/// What engines call their uplink in metrics.
const UPLINK_PORT: &str = "uplink";
/// How long counters may lag behind the frames; fragments without a first one are given up after two seconds.
const PATIENCE: Duration = Duration::from_secs(6);
/// A device of every host that no tenant has a part in, its subnet, and somebody there.
pub(crate) const LAN: &str = "lan0";
pub(crate) const LAN_STATION: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The shared lab, or why it could not be made; made when the first attack wants it.
static LAB: Mutex<Option<Result<Lab, String>>> = Mutex::new(None);

/// Runs an attack in the lab that all of them share.
pub(crate) fn in_lab(attack: fn(&Lab) -> Result<()>) -> Result<()> {
    let mut lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = lab.get_or_insert_with(|| make().map_err(|error| format!("{error:#}")));
    let lab = lab.as_ref().map_err(|error| anyhow!("the lab of the attacks: {error}"))?;
    for host in &lab.plan().hosts {
        engine::wait_ready(lab, &host.id, Duration::from_secs(5))
            .map_err(|error| error.context("before the attack began"))?;
    }
    attack(lab).map_err(|error| error.context(lab.last_words()))
}

/// Takes the lab down, if it was made.
pub(crate) fn take_down() -> Result<()> {
    match LAB.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(lab)) => lab.down(&Silent),
        Some(Err(_)) | None => Ok(()),
    }
}

/// Without a service nothing but the attacks comes in by an uplink; nodes without IPv6 send nothing of themselves.
fn make() -> Result<Lab> {
    let lab = up("attack", Mode::File)?;
    let careless = || -> Result<()> {
        let plan = lab.plan();
        for node in &plan.nodes {
            lab.namespace(&node.id).sysctl(&[("ipv6/conf/all/disable_ipv6", "1")])?;
        }
        for host in &plan.hosts {
            let namespace = lab.namespace(&host.id);
            namespace.sysctl(&[
                ("ipv4/ip_forward", "1"),
                ("ipv4/conf/all/proxy_arp", "1"),
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv6/conf/all/forwarding", "1"),
            ])?;
            // Somewhere that the kernel would route to, and knows the way: nothing has to be resolved first.
            namespace.ip(&format!(
                "link add {LAN} type veth peer name lan1\nlink set lan1 up\naddr add 198.51.100.1/24 dev {LAN}\nlink set {LAN} up\n\
                 neigh add {LAN_STATION} lladdr 0a:00:00:00:0f:02 dev {LAN} nud permanent"
            ))?;
        }
        Ok(())
    };
    match careless().and_then(|()| wait_quiet(&lab)) {
        Ok(()) => Ok(lab),
        Err(error) => {
            lab.down(&Silent)?;
            Err(error)
        }
    }
}

/// Waits until no engine has dropped anything for longer than the router's kernel may take to say once more which groups it
/// has joined: the one thing that it says of itself. It does so within a second of the time before (RFC 3810, 9.11).
fn wait_quiet(lab: &Lab) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(1500);
    let mut last = (drops(lab)?, Instant::now());
    wait::until("the links to be quiet", Duration::from_secs(20), || {
        let now = drops(lab)?;
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() > QUIET).then_some(()))
    })
}

/// One drop counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counter {
    host: String,
    reason: String,
    port: String,
    vnet: String,
}

impl Counter {
    /// At the port of a node.
    pub(crate) fn of_node(node: &Node, reason: DropReason) -> Self {
        Self {
            host: node.host.clone(),
            reason: reason.name().to_owned(),
            port: node.interface_id(),
            vnet: node.vnet.to_string(),
        }
    }

    /// At a host's uplink, of packets that are in no vnet of that host.
    pub(crate) fn of_uplink(host: &str, reason: DropReason) -> Self {
        Self {
            host: host.to_owned(),
            reason: reason.name().to_owned(),
            port: UPLINK_PORT.to_owned(),
            vnet: String::new(),
        }
    }

    /// At a host's uplink, of packets for a vnet.
    pub(crate) fn of_vnet(host: &str, vnet: u32, reason: DropReason) -> Self {
        Self { vnet: vnet.to_string(), ..Self::of_uplink(host, reason) }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, reason, port, vnet } = self;
        write!(f, "{host}: overlane_drops_total{{reason={reason:?},port={port:?},vnet={vnet:?}}}")
    }
}

type Counts = BTreeMap<Counter, u64>;

/// Every drop that either engine has counted.
fn drops(lab: &Lab) -> Result<Counts> {
    let mut counts = Counts::new();
    for host in lab.plan().hosts {
        let metrics = engine::scrape(lab, &host.id)?;
        for sample in metrics.samples().filter(|sample| sample.name == "overlane_drops_total") {
            let label = |name: &str| sample.labels.get(name).cloned().unwrap_or_default();
            let counter = Counter {
                host: host.id.clone(),
                reason: label("reason"),
                port: label("port"),
                vnet: label("vnet"),
            };
            *counts.entry(counter).or_default() += sample.value as u64;
        }
    }
    Ok(counts)
}

/// What was counted since `before`.
fn drops_since(lab: &Lab, before: &Counts) -> Result<Counts> {
    let mut now = drops(lab)?;
    for (counter, count) in &mut now {
        *count -= before.get(counter).copied().unwrap_or_default().min(*count);
    }
    now.retain(|_, count| *count > 0);
    Ok(now)
}

fn describe(counts: &Counts) -> String {
    let lines = counts.iter().map(|(counter, count)| format!("{counter} +{count}"));
    lines.collect::<Vec<_>>().join("; ")
}

/// Where an attacker's frames go in.
#[derive(Debug)]
pub(crate) struct Entrance {
    port: RawPort,
    /// Whose engine receives them, and by which port.
    host: String,
    name: String,
}

impl Entrance {
    /// A node's own device.
    pub(crate) fn of(lab: &Lab, node: &Node) -> Result<Self> {
        let port = RawPort::open(&lab.namespace(&node.id), NODE_DEVICE)?;
        Ok(Self { port, host: node.host.clone(), name: node.interface_id() })
    }

    /// The link between the router and a host, and the hardware addresses that a frame of the router has there.
    pub(crate) fn substrate(lab: &Lab, host: &str) -> Result<(Self, Macs)> {
        let (port, macs) = substrate_port(lab, host)?;
        Ok((Self { port, host: host.to_owned(), name: UPLINK_PORT.to_owned() }, macs))
    }

    /// Sends each frame as often as attempts are made, and requires that all of them are refused: each counted by
    /// `counter` and by no other, while no frame comes in anywhere that is `theirs`.
    pub(crate) fn is_refused(
        &self,
        lab: &Lab,
        counter: &Counter,
        frames: &[Vec<u8>],
        theirs: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        self.comes_to(lab, &[(counter.clone(), ATTEMPTS * frames.len() as u64)], frames, theirs)
    }

    /// The same where several counters tell of the attempts.
    pub(crate) fn comes_to(
        &self,
        lab: &Lab,
        counters: &[(Counter, u64)],
        frames: &[Vec<u8>],
        theirs: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let repeated = (0..ATTEMPTS).flat_map(|_| frames).cloned().collect::<Vec<_>>();
        self.sent_once_come_to(lab, counters, &repeated, theirs)
    }

    /// The same for frames that each are sent once, in this order.
    pub(crate) fn sent_once_come_to(
        &self,
        lab: &Lab,
        counters: &[(Counter, u64)],
        frames: &[Vec<u8>],
        theirs: impl Fn(&[u8]) -> bool,
    ) -> Result<()> {
        let expected: Counts = counters.iter().cloned().collect();
        let watch = Watch::begin(lab)?;
        let before = drops(lab)?;
        let received = self.received(lab)?;
        let mut sent = 0;
        for some in frames.chunks(AT_ONCE) {
            some.iter().try_for_each(|frame| self.port.send(frame))?;
            sent += some.len() as u64;
            wait::until_ok("the engine to receive what was sent", PATIENCE, || {
                let so_far = self.received(lab)? - received;
                ensure!(so_far >= sent, "{so_far} of {sent}");
                Ok(())
            })?;
        }
        wait::until_ok("the frames to be counted", PATIENCE, || {
            let risen = drops_since(lab, &before)?;
            let reached = expected.iter().all(|(counter, count)| risen.get(counter) >= Some(count));
            ensure!(reached, "expected {}; counted {}", describe(&expected), describe(&risen));
            Ok(())
        })?;
        watch.saw_nothing(lab, theirs)?;
        let risen = drops_since(lab, &before)?;
        ensure!(risen == expected, "expected {}; counted {}", describe(&expected), describe(&risen));
        Ok(())
    }
}

impl Entrance {
    /// How many frames the engine has received by it.
    fn received(&self, lab: &Lab) -> Result<u64> {
        let metrics = engine::scrape(lab, &self.host)?;
        Ok(metrics.sum("overlane_rx_packets_total", &[("port", &self.name)]) as u64)
    }
}

/// Packet sockets on every node's device, on the router's links, and on a device of each host that tenants have nothing to
/// do with.
struct Watch {
    nodes: Vec<(Node, RawPort)>,
    router: Vec<(String, RawPort)>,
    hosts: Vec<(String, RawPort)>,
}

/// How long a datagram may take that ends a look.
const SOON: Duration = Duration::from_secs(3);

impl Watch {
    fn begin(lab: &Lab) -> Result<Self> {
        let plan = lab.plan();
        let mut watch = Self { nodes: Vec::new(), router: Vec::new(), hosts: Vec::new() };
        for host in &plan.hosts {
            watch.router.push((host.id.clone(), RawPort::open(&plan.router(), &host.id)?));
            watch.hosts.push((host.id.clone(), RawPort::open(&lab.namespace(&host.id), LAN)?));
        }
        for node in plan.nodes {
            let port = RawPort::open(&lab.namespace(&node.id), NODE_DEVICE)?;
            watch.nodes.push((node, port));
        }
        Ok(watch)
    }

    /// Requires that none of the frames that have come in up to now is an attacker's: what was on its way has come in
    /// before datagrams that are sent now, over the same engines, and end the look.
    fn saw_nothing(&self, lab: &Lab, theirs: impl Fn(&[u8]) -> bool) -> Result<()> {
        for (node, port) in &self.nodes {
            let marker = format!("a marker for {}", node.id);
            // From the other host: it passes both engines and the router.
            let mut friends = self.nodes.iter().map(|(friend, _)| friend);
            let friend = friends.find(|other| other.network == node.network && other.host != node.host);
            say(lab, friend.context("it is alone")?, node, &marker)?;
            let seen = port.arrived(SOON, |frame| theirs(frame) || contains(frame, &marker))?;
            is_marker(&node.id, seen, &theirs)?;
        }
        for (host, port) in &self.router {
            // The last of those that have come from this host.
            let mut nodes = self.nodes.iter().rev().map(|(node, _)| node);
            let last = nodes.find(|node| node.host != *host).context("no node is elsewhere")?;
            let marker = format!("a marker for {}", last.id);
            let seen = port.arrived(SOON, |frame| theirs(frame) || contains(frame, &marker))?;
            is_marker(&format!("the router, from {host},"), seen, &theirs)?;
        }
        for (host, port) in &self.hosts {
            let marker = format!("a marker for {LAN} of {host}");
            let socket = lab.namespace(host).enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
            socket.send_to(marker.as_bytes(), (LAN_STATION, 9))?;
            // What the kernel sends there is what it has routed.
            let seen = port.receive(SOON, |frame| theirs(frame) || contains(frame, &marker))?;
            is_marker(&format!("{LAN} of {host}"), seen, &theirs)?;
        }
        Ok(())
    }
}

fn is_marker(place: &str, seen: Option<Vec<u8>>, theirs: impl Fn(&[u8]) -> bool) -> Result<()> {
    let seen = seen.with_context(|| format!("{place} did not receive a datagram that may arrive"))?;
    ensure!(!theirs(&seen), "{place} received {seen:02x?}");
    Ok(())
}

/// Whether a frame has the attackers' words in it.
pub(crate) fn tells_secret(frame: &[u8]) -> bool {
    contains(frame, SECRET)
}

/// What the kernel of each host has counted, by itself, of packets to itself and through it.
pub(crate) fn kernels(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for host in lab.plan().hosts {
        let namespace = lab.namespace(&host.id);
        for (protocol, name) in
            [("Icmp", "InMsgs"), ("Ip", "ForwDatagrams"), ("Icmp6", "InEchos"), ("Ip6", "OutForwDatagrams")]
        {
            let count = attack::kernel_count(&namespace, protocol, name)?;
            counts.insert(format!("{}: {protocol} {name}", host.id), count);
        }
    }
    Ok(counts)
}
