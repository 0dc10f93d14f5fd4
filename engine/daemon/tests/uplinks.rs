//! The kinds of uplink, each carrying pings and TCP between two whole engines with a plain router between them.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod common;

use common::Node;
use common::site::{LETTERS, NODES, PACKET, Site, Uplink};
use libtest_mimic::Trial;
use std::path::Path;
use std::process::{Child, Command};

const AF_XDP: Uplink =
    Uplink { device: "kind = \"devargs\"\ndevargs = \"net_af_xdp0,iface=up0\"", auto: false };
const AF_PACKET: Uplink =
    Uplink { device: "kind = \"devargs\"\ndevargs = \"net_af_packet0,iface=up0\"", auto: false };
const AUTO: Uplink = Uplink { auto: true, ..PACKET };

/// Bytes that each direction of a TCP test carries.
const BYTES: usize = 16 << 20;

/// Runs one scenario to its end.
type Scenario = fn();

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let scenarios: [(&'static str, Scenario, Option<&str>); 13] = [
        ("af_xdp_carries_ping_and_tcp_at_both_ends", || carries([AF_XDP; 2]), no_af_xdp()),
        ("af_xdp_and_the_packet_port_understand_each_other", || carries([PACKET, AF_XDP]), no_af_xdp()),
        ("link_and_mtu_of_an_af_xdp_uplink_are_the_interfaces", follows, no_af_xdp()),
        ("af_xdp_uplink_comes_back_when_its_interface_is_made_again", comes_back, no_af_xdp()),
        ("af_xdp_uplink_works_again_after_its_engine_was_killed", killed, no_af_xdp()),
        ("net_af_packet_carries_ping_and_tcp_at_both_ends", || carries([AF_PACKET; 2]), None),
        ("hosts_kernel_is_kept_off_a_net_af_packet_uplink", kept_off, None),
        ("jumbo_frames_cross_by_packet_ports", || jumbo([PACKET; 2]), None),
        ("jumbo_frames_cross_by_net_af_packet", || jumbo([AF_PACKET; 2]), None),
        ("net_af_packet_uplink_follows_an_mtu_that_grows", || grows(AF_PACKET), None),
        ("packet_uplink_follows_an_mtu_that_grows", || grows(PACKET), None),
        ("frames_that_the_kernel_merges_arrive_merged_and_as_they_were", merged, None),
        ("address_and_gateway_come_from_a_routers_advertisements", advertised, no_radvd()),
    ];
    let root = nix::unistd::Uid::effective().is_root();
    let trials = scenarios.map(|(name, scenario, missing)| {
        let missing = if root { missing } else { Some("root, for network namespaces and sockets") };
        if let Some(missing) = missing {
            eprintln!("SKIPPED {name}: needs {missing}");
        }
        let trial = Trial::test(name, move || {
            scenario();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

fn no_af_xdp() -> Option<&'static str> {
    let protocols = std::fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    let known = protocols.lines().any(|line| line.split_whitespace().next() == Some("XDP"));
    (!known).then_some("a kernel with AF_XDP (CONFIG_XDP_SOCKETS)")
}

fn no_radvd() -> Option<&'static str> {
    let there =
        ["/usr/sbin/radvd", "/usr/bin/radvd", "/sbin/radvd"].iter().any(|path| Path::new(path).exists());
    (!there).then_some("radvd (scripts/install-deps installs it)")
}

fn carries(uplinks: [Uplink; 2]) {
    let mut site = Site::new(uplinks);
    site.reaches(0, 6);
    site.reaches(1, 7);
    site.streams(0, 1, BYTES);
    // The router tells of its new MAC, as one that takes over does.
    site.router.run("sysctl -qw net.ipv6.conf.to-a.ndisc_notify=1");
    site.router.run("ip link set to-a address 02:00:00:00:0a:77");
    site.wait_log(0, "the uplink's next hop has changed next_hop=02:00:00:00:0a:77");
    site.reaches(0, 6);
    site.end();
}

fn killed() {
    let mut site = Site::new([AF_XDP, PACKET]);
    site.reaches(0, 6);
    site.kill_and_start('a');
    site.wait_ready();
    site.reaches(0, 6);
    site.end();
}

fn kept_off() {
    let site = Site::new([AF_PACKET, PACKET]);
    // A host that forwards would send back to the router what is for the engine, and the packet would come twice.
    site.hosts[0].run("sysctl -qw net.ipv6.conf.all.forwarding=1");
    site.hosts[0].run("ip -6 route add default via fd00:0:0:fa::1 dev up0 onlink");
    site.reaches(0, 6);
    let counts = site.hosts[0].run("cat /proc/net/snmp6");
    let forwarded = counts.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
    assert_eq!(forwarded.split_whitespace().last(), Some("0"), "{counts}");
    let filters = site.hosts[0].run("tc filter show dev up0 ingress");
    assert!(filters.contains("bpf"), "{filters:?}");
}

fn follows() {
    let site = Site::new([AF_XDP, PACKET]);
    site.reaches(0, 6);
    site.router.run("ip link set to-a down");
    site.wait_for(0, "/readyz", "uplink uplink: its link is down");
    site.router.run("ip link set to-a up");
    site.router.run("ip addr replace fd00:0:0:fa::1/64 dev to-a nodad");
    site.route('a', "fd00:0:0:fa::e");
    site.wait_for(0, "/readyz", "ready");
    site.reaches(0, 6);
    // 1,380 bytes of IPv4 fit the node's link, and become 1,400 on the uplink.
    let ping = |bytes: u16| {
        let size = bytes - 28;
        let command = format!("ping -n -c 1 -W 2 -M do -s {size} 10.0.0.6");
        site.nodes[0].attempt(&command)
    };
    assert!(ping(1381).0);
    site.hosts[0].run("ip link set up0 mtu 1400");
    site.wait_for(0, "/status", "\"uplink_mtu\":1400");
    let (reached, text) = ping(1380);
    assert!(reached, "{text}");
    let (reached, text) = ping(1381);
    assert!(!reached, "{text}");
    site.wait_for(0, "/metrics", "reason=\"packet_too_big\",port=\"n5/eth0\",vnet=\"7\"} 1\n");
}

/// Lengths of datagrams up to what fits an MTU, with the IPv4 and UDP headers, and 20 bytes for the longer header.
fn lengths(mtu: usize) -> [usize; 5] {
    [1, 1000, mtu / 2, mtu - 100, mtu - 48]
}

fn jumbo(uplinks: [Uplink; 2]) {
    let mut site = Site::with_mtu(uplinks, 9000);
    for (from, to) in [(0, 1), (0, 2)] {
        site.datagrams(from, to, &lengths(9000));
        site.streams(from, to, BYTES);
    }
    // Without segmentation offload, nodes make every frame themselves, of up to 9,000 bytes.
    for node in &site.nodes {
        node.run("ethtool -K eth0 tso off gso off tx off");
    }
    site.streams(0, 1, BYTES);
    let drops = site.drops();
    for reason in ["packet_too_big", "frame_truncated", "segments_unsupported", "tx_refused", "no_buffer"] {
        assert!(!drops.contains(reason), "{drops}");
    }
    site.end();
}

fn merged() {
    let mut site = Site::new([PACKET; 2]);
    // The substrate carries single frames, and the hosts' kernels merge them before the engines see them.
    for letter in LETTERS {
        site.router.run(&format!("ethtool -K to-{letter} tso off gso off"));
        site.hosts[usize::from(letter == 'b')].run("ethtool -K up0 gro on");
    }
    let before = site.received(1);
    site.streams(0, 1, BYTES);
    let after = site.received(1);
    let [packets, bytes] = [after[0] - before[0], after[1] - before[1]];
    assert!(bytes > BYTES as u64, "{bytes}");
    assert!(bytes / packets > 2 * 1500, "{bytes} bytes in {packets} packets");
    site.end();
}

fn grows(uplink: Uplink) {
    let mut site = Site::new([uplink; 2]);
    site.reaches(0, 6);
    for letter in LETTERS {
        site.hosts[usize::from(letter == 'b')].run("ip link set up0 mtu 9000");
        site.router.run(&format!("ip link set to-{letter} mtu 9000"));
    }
    for (node, (host, _, device)) in site.nodes.iter().zip(NODES) {
        site.hosts[host].run(&format!("ip link set {device} mtu 8980"));
        node.run("ip link set eth0 mtu 8980");
    }
    for host in 0..2 {
        site.wait_for(host, "/status", "\"uplink_mtu\":9000");
    }
    site.wait_ready();
    site.datagrams(0, 1, &lengths(9000));
    site.streams(0, 1, BYTES);
    site.end();
}

fn comes_back() {
    let mut site = Site::new([AF_XDP, PACKET]);
    // More often than its first pool of packet buffers lasts.
    for _ in 0..5 {
        site.reaches(0, 6);
        site.hosts[0].run("ip link del up0");
        site.wait_for(0, "/readyz", "uplink uplink");
        // Nodes of one host need no uplink.
        site.reaches(0, 7);
        site.wire('a');
        site.route('a', "fd00:0:0:fa::e");
        site.wait_ready();
    }
    site.reaches(0, 6);
    site.end();
}

/// A router's daemon, ended with the value.
struct Radvd(Child);

impl Radvd {
    fn start(site: &Site, router: &Node) -> Self {
        let mut text = String::new();
        for letter in LETTERS {
            // Reachable for a second: that a router has another MAC is to be noticed within a test's time.
            text += &format!(
                "interface to-{letter} {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
                 AdvReachableTime 1000; prefix fd00:0:0:f{letter}::/64 {{ }}; }};\n"
            );
        }
        let file = site.file("radvd.conf");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", router.pid()));
        command.args(["radvd", "-n", "-m", "stderr", "-C"]).arg(file);
        let command = command.arg("-p").arg(site.file("radvd.pid"));
        Self(command.stderr(std::process::Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Radvd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn advertised() {
    let mut site = Site::wired([AUTO; 2], 1500);
    for letter in LETTERS {
        site.start(letter);
    }
    site.wait_for(0, "/readyz", "no address yet");
    let _radvd = Radvd::start(&site, &site.router);
    for (host, letter) in LETTERS.into_iter().enumerate() {
        let prefix = format!("\"fd00::f{letter}:");
        site.wait_for(host, "/status", &prefix);
        let status = site.ask(host, "/status");
        let address = status.split('"').find(|text| text.starts_with(&prefix[1..])).unwrap().to_owned();
        site.route(letter, &address);
    }
    site.wait_ready();
    site.reaches(0, 6);
    site.streams(0, 1, BYTES);
    // The router's interface is replaced, as when another takes over.
    site.router.run("ip link set to-a address 02:00:00:00:0a:99");
    site.wait_log(0, "the uplink's next hop has changed next_hop=02:00:00:00:0a:99");
    site.reaches(0, 6);
    site.reaches(1, 7);
    site.end();
}
