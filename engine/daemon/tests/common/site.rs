//! Two hosts with an engine each in static mode, a plain Linux router between them, and nodes: all but the scenario.

use super::{Node, run};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// The engine's program.
pub(crate) const ENGINE: &str = env!("CARGO_BIN_EXE_overlane-engine");
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Two hosts and the router between them; two nodes on host-a, one on host-b.
pub(crate) struct Site {
    pub(crate) hosts: [Node; 2],
    pub(crate) router: Node,
    pub(crate) nodes: Vec<Node>,
    engines: Vec<Child>,
    directory: tempfile::TempDir,
    uplinks: [Uplink; 2],
    /// Of the substrate's links; a node's are 20 bytes less.
    mtu: u16,
    /// `[workers] idle` of each host's engine that is started from now on.
    pub(crate) idle: [&'static str; 2],
}

/// How an engine is to reach the router by `up0`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uplink {
    /// What `[uplink]` says of the device.
    pub(crate) device: &'static str,
    /// From router advertisements, not static.
    pub(crate) auto: bool,
}

/// The packet port with a static address.
pub(crate) const PACKET: Uplink = Uplink { device: "kind = \"packet\"\ndevice = \"up0\"", auto: false };

/// Host index, last octet of the address, device on the host.
pub(crate) const NODES: [(usize, u8, &str); 3] = [(0, 5, "veth-n5"), (1, 6, "veth-n6"), (0, 7, "veth-n7")];
pub(crate) const LETTERS: [char; 2] = ['a', 'b'];

impl Site {
    /// A site that carries packets.
    pub(crate) fn new(uplinks: [Uplink; 2]) -> Self {
        Self::with_mtu(uplinks, 1500)
    }

    /// A site that carries packets over a substrate of another MTU.
    pub(crate) fn with_mtu(uplinks: [Uplink; 2], mtu: u16) -> Self {
        let mut site = Self::wired(uplinks, mtu);
        for letter in LETTERS {
            site.start(letter);
        }
        site.wait_ready();
        site
    }

    /// A site whose engines have not been started.
    pub(crate) fn wired(uplinks: [Uplink; 2], mtu: u16) -> Self {
        let (hosts, router) = ([Node::new(), Node::new()], Node::new());
        router.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        let directory = tempfile::tempdir().unwrap();
        let (nodes, engines, idle) = (Vec::new(), Vec::new(), ["backoff"; 2]);
        let mut site = Self { hosts, router, nodes, engines, directory, uplinks, mtu, idle };
        for letter in LETTERS {
            site.wire(letter);
            site.route(letter, &format!("fd00:0:0:f{letter}::e"));
        }
        for node in NODES {
            site.nodes.push(Node::new());
            site.plug(node, site.nodes.len() - 1);
        }
        site.write_site(&NODES);
        site
    }

    /// Makes the link between a host and the router.
    pub(crate) fn wire(&self, letter: char) {
        let (host, router) = (&self.hosts[usize::from(letter == 'b')], &self.router);
        let (host_ns, router_ns) = (host.pid(), router.pid());
        let mtu = self.mtu;
        run(&format!(
            "ip link add up0 mtu {mtu} netns {host_ns} type veth peer name to-{letter} mtu {mtu} netns {router_ns}"
        ));
        host.run("ip link set up0 up");
        router.run(&format!("ip link set to-{letter} up"));
        router.run(&format!("ip addr add fd00:0:0:f{letter}::1/64 dev to-{letter} nodad"));
    }

    /// Has the router send a host's prefix to `engine`.
    pub(crate) fn route(&self, letter: char, engine: &str) {
        self.router.run(&format!("ip route replace fd00:0:0:{letter}::/64 via {engine} dev to-{letter}"));
    }

    /// Waits until both engines carry packets.
    pub(crate) fn wait_ready(&self) {
        for index in 0..2 {
            self.wait_for(index, "/readyz", "ready");
        }
        self.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
        self.wait_for(1, "/metrics", "overlane_interfaces{state=\"live\"} 1\n");
    }

    /// Makes a node's veth pair.
    pub(crate) fn plug(&self, (host, last, device): (usize, u8, &str), node: usize) {
        let (host, node) = (&self.hosts[host], &self.nodes[node]);
        let (host, node_ns, mtu) = (host.pid(), node.pid(), self.mtu);
        run(&format!(
            "ip link add {device} mtu {mtu} netns {host} type veth peer name eth0 mtu {mtu} netns {node_ns}"
        ));
        // 20 bytes are added on the way.
        node.run(&format!("ip link set eth0 address 02:00:5e:10:00:0{last} mtu {} up", mtu - 20));
        node.run(&format!("ip addr add 10.0.0.{last}/24 dev eth0"));
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write_site(&self, nodes: &[(usize, u8, &str)]) {
        let mut text = String::new();
        for letter in LETTERS {
            text += &format!("[[host]]\nid = \"host-{letter}\"\nprefix = \"fd00:0:0:{letter}::/64\"\n");
        }
        text += "[[network]]\nid = \"red\"\nvnet = 7\nsubnets = [{ cidr = \"10.0.0.0/24\", gateway = \"10.0.0.1\" }]\n";
        for (host, last, device) in nodes {
            text += &format!(
                "[[interface]]\nid = \"n{last}/eth0\"\nhost = \"host-{}\"\nnetwork = \"red\"\nslot = {last}\n\
                 mac = \"02:00:5e:10:00:0{last}\"\naddresses = [\"10.0.0.{last}\"]\n\
                 attachment = {{ kind = \"veth\", device = \"{device}\" }}\n",
                LETTERS[*host]
            );
        }
        std::fs::write(self.file("site.toml"), text).unwrap();
    }

    pub(crate) fn start(&mut self, letter: char) {
        let host = usize::from(letter == 'b');
        let Uplink { device, auto } = self.uplinks[host];
        let address = if auto {
            "address = \"auto\"".to_owned()
        } else {
            format!("address = \"fd00:0:0:f{letter}::e/64\"\ngateway = \"fd00:0:0:f{letter}::1\"")
        };
        let idle = self.idle[host];
        let config = format!(
            "[engine]\nhost = \"host-{letter}\"\n[uplink]\n{device}\n{address}\n\
             [workers]\nidle = \"{idle}\"\nmempool = 4096\nhugepages = \"never\"\n\
             [provisioning]\nfile = \"site.toml\"\n"
        );
        let file = self.file(&format!("{letter}.toml"));
        std::fs::write(&file, config).unwrap();
        let log = File::create(self.file(&format!("{letter}.log"))).unwrap();
        let namespace = format!("--net=/proc/{}/ns/net", self.hosts[host].pid());
        let mut engine = Command::new("nsenter");
        engine.arg(namespace).arg(ENGINE).arg("--config").arg(file);
        let engine = engine.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.engines.insert(host.min(self.engines.len()), engine);
    }

    /// Kills an engine, without its chance to tidy up, and starts it again.
    pub(crate) fn kill_and_start(&mut self, letter: char) {
        let mut killed = self.engines.remove(usize::from(letter == 'b'));
        killed.kill().unwrap();
        killed.wait().unwrap();
        self.start(letter);
    }

    pub(crate) fn log(&self, host: usize) -> String {
        std::fs::read_to_string(self.file(&format!("{}.log", LETTERS[host]))).unwrap()
    }

    /// Asks an engine's telemetry; empty while it does not answer.
    pub(crate) fn ask(&self, host: usize, path: &str) -> String {
        let (_, text) = self.hosts[host].attempt(&format!("curl -s -m 2 http://127.0.0.1:9470{path}"));
        text
    }

    pub(crate) fn wait_for(&self, host: usize, path: &str, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.ask(host, path);
            if text.contains(wanted) {
                return;
            }
            assert!(
                Instant::now() < until,
                "no {wanted:?} in {path} of host {host}:\n{text}\n{}",
                self.log(host)
            );
            std::thread::yield_now();
        }
    }

    /// Waits until an engine's log has a line that ends in `wanted`.
    pub(crate) fn wait_log(&self, host: usize, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log(host).lines().any(|line| line.ends_with(wanted)) {
            assert!(Instant::now() < until, "no {wanted:?}:\n{}", self.log(host));
            std::thread::yield_now();
        }
    }

    /// Whether a node reaches an address with `count` pings, none lost.
    pub(crate) fn pings(&self, from: usize, last: u8, count: u8) -> (bool, String) {
        let (_, text) = self.nodes[from].attempt(&format!("ping -n -c {count} -i 0.05 -W 2 10.0.0.{last}"));
        (text.contains(" 0% packet loss"), text)
    }

    pub(crate) fn reaches(&self, from: usize, last: u8) {
        let (reached, text) = self.pings(from, last, 3);
        assert!(reached, "{text}\n{}\n{}", self.log(0), self.log(1));
    }

    /// Sends `bytes` by TCP from one node to another and back again, in writes that kernels make GSO packets of,
    /// and compares every byte.
    pub(crate) fn streams(&self, from: usize, to: usize, bytes: usize) {
        let address = format!("10.0.0.{}:5001", NODES[to].1);
        let listener = self.nodes[to].within(move || TcpListener::bind(address).unwrap());
        let address = listener.local_addr().unwrap();
        let stream = self.nodes[from].within(move || TcpStream::connect_timeout(&address, PATIENCE));
        let stream = stream.unwrap_or_else(|error| panic!("connect: {error}\n{}", self.drops()));
        let (peer, _) = listener.accept().unwrap();
        for end in [&stream, &peer] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        let pattern = |from: usize| (from..from + (1 << 16)).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        for (mut out, mut back) in [(&stream, &peer), (&peer, &stream)] {
            let said = std::thread::scope(|scope| {
                scope.spawn(move || {
                    (0..bytes).step_by(1 << 16).try_for_each(|at| out.write_all(&pattern(at)))
                });
                (0..bytes).step_by(1 << 16).try_for_each(|at| {
                    let mut block = vec![0; 1 << 16];
                    back.read_exact(&mut block)?;
                    if block == pattern(at) { Ok(()) } else { Err(std::io::Error::other("other bytes came")) }
                })
            });
            if let Err(error) = said {
                panic!("{error}\n{}\n{}\n{}", self.drops(), self.log(0), self.log(1));
            }
        }
    }

    /// Sends datagrams of these lengths from one node to another and back, and compares every byte. Those that fit the
    /// nodes' MTU leave with DF set, as Linux has it.
    pub(crate) fn datagrams(&self, from: usize, to: usize, lengths: &[usize]) {
        let socket = |node: usize| {
            let address = format!("10.0.0.{}:5002", NODES[node].1);
            let socket = self.nodes[node].within(move || UdpSocket::bind(address).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (near, far) = (socket(from), socket(to));
        let mut received = vec![0; 1 << 16];
        for &length in lengths {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            for (here, there) in [(&near, &far), (&far, &near)] {
                here.send_to(&sent, there.local_addr().unwrap()).unwrap();
                let came = there.recv_from(&mut received);
                let (came, _) = came.unwrap_or_else(|error| panic!("{length}: {error}\n{}", self.drops()));
                assert_eq!(received[..came], sent, "{length}");
            }
        }
    }

    /// Packets and bytes that an engine has received on its uplink.
    pub(crate) fn received(&self, host: usize) -> [u64; 2] {
        let metrics = self.ask(host, "/metrics");
        ["packets", "bytes"].map(|what| {
            let name = format!("overlane_rx_{what}_total{{port=\"uplink\"");
            let line = metrics.lines().find(|line| line.starts_with(&name));
            let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
    }

    /// What both engines have dropped.
    pub(crate) fn drops(&self) -> String {
        let metrics = [self.ask(0, "/metrics"), self.ask(1, "/metrics")].concat();
        let drops = metrics.lines().filter(|line| line.contains("drops") && !line.ends_with(" 0"));
        drops.collect::<Vec<_>>().join("\n")
    }

    /// An engine's process.
    pub(crate) fn process(&self, host: usize) -> u32 {
        // nsenter replaces itself: the child is the engine.
        self.engines[host].id()
    }

    pub(crate) fn signal(&self, host: usize, signal: nix::sys::signal::Signal) {
        let id = i32::try_from(self.process(host)).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).unwrap();
    }

    pub(crate) fn wait_end(&mut self, host: usize) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.engines[host].try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the engine does not end:\n{}", self.log(host));
            std::thread::yield_now();
        }
    }

    /// Ends both engines with SIGTERM: in order, which they do only with every packet buffer back.
    pub(crate) fn end(&mut self) {
        for host in 0..2 {
            self.signal(host, nix::sys::signal::Signal::SIGTERM);
            let status = self.wait_end(host);
            assert_eq!(status.code(), Some(0), "{}", self.log(host));
            assert!(self.log(host).contains("has ended in order"), "{}", self.log(host));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for engine in &mut self.engines {
            let _ = engine.kill();
            let _ = engine.wait();
        }
    }
}
