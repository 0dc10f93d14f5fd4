//! The whole engine, as it is shipped: its exit codes, and two of it in static mode with a plain router between them.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod common;

use common::{Node, run};
use libtest_mimic::Trial;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

const ENGINE: &str = env!("CARGO_BIN_EXE_overlane-engine");
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs one scenario to its end.
type Scenario = fn(&mut Site);

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = vec![
        Trial::test("wrong_configuration_exits_with_2_and_one_line", wrong_configuration),
        Trial::test("check_config_finds_nothing_in_the_samples", samples),
    ];
    let real: [(&str, Scenario); 4] = [
        ("nodes_reach_each_other_within_a_host_and_across_hosts", reach),
        ("recreated_interface_is_attached_again_without_disturbing_others", recreated),
        ("site_file_is_read_again_on_sighup_and_a_bad_one_changes_nothing", reload),
        ("sigterm_ends_the_engine_in_order_and_its_metrics_told_every_drop", ends),
    ];
    let root = nix::unistd::Uid::effective().is_root();
    for (name, scenario) in real {
        if !root {
            eprintln!("SKIPPED {name}: needs root, for network namespaces and packet sockets");
        }
        let trial = Trial::test(name, move || {
            scenario(&mut Site::new());
            Ok(())
        });
        trials.push(trial.with_ignored_flag(!root));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn wrong_configuration() -> Result<(), libtest_mimic::Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("engine.toml");
    std::fs::write(&file, "[engine]\nhost = \"host-a\"\nspeed = 11\n")?;
    for command in [&["check-config"][..], &[]] {
        let output = Command::new(ENGINE).arg("--config").arg(&file).args(command).output()?;
        let said = String::from_utf8(output.stderr)?;
        let place = format!("overlane-engine: {}:3: [engine] speed: unknown field 'speed'", file.display());
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.starts_with(&place), "{said}");
    }
    Ok(())
}

fn samples() -> Result<(), libtest_mimic::Failed> {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conf");
    let directory = tempfile::tempdir()?;
    let text =
        "[engine]\nhost = \"host-a\"\n[uplink]\nkind = \"packet\"\ndevice = \"eth0\"\n[provisioning]\n";
    let site = directory.path().join("engine.toml");
    std::fs::write(&site, format!("{text}file = {:?}\n", conf.join("static.toml").canonicalize()?))?;
    for file in [conf.join("engine.toml"), site] {
        let output = Command::new(ENGINE).arg("--config").arg(&file).arg("check-config").output()?;
        assert!(output.status.success(), "{output:?}");
    }
    Ok(())
}

/// Two hosts and the router between them; two nodes on host-a, one on host-b.
struct Site {
    hosts: [Node; 2],
    _router: Node,
    nodes: Vec<Node>,
    engines: Vec<Child>,
    directory: tempfile::TempDir,
}

/// Host index, last octet of the address, device on the host.
const NODES: [(usize, u8, &str); 3] = [(0, 5, "veth-n5"), (1, 6, "veth-n6"), (0, 7, "veth-n7")];
const LETTERS: [char; 2] = ['a', 'b'];

impl Site {
    fn new() -> Self {
        let (hosts, router) = ([Node::new(), Node::new()], Node::new());
        router.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        for (host, letter) in hosts.iter().zip(LETTERS) {
            let (host_ns, router_ns) = (host.pid(), router.pid());
            run(&format!(
                "ip link add up0 netns {host_ns} type veth peer name to-{letter} netns {router_ns}"
            ));
            host.run("ip link set up0 up");
            router.run(&format!("ip link set to-{letter} up"));
            router.run(&format!("ip addr add fd00:0:0:f{letter}::1/64 dev to-{letter} nodad"));
            router.run(&format!(
                "ip route add fd00:0:0:{letter}::/64 via fd00:0:0:f{letter}::e dev to-{letter}"
            ));
        }
        let directory = tempfile::tempdir().unwrap();
        let mut site = Self { hosts, _router: router, nodes: Vec::new(), engines: Vec::new(), directory };
        for node in NODES {
            site.nodes.push(Node::new());
            site.plug(node, site.nodes.len() - 1);
        }
        site.write_site(&NODES);
        for letter in LETTERS {
            site.start(letter);
        }
        for index in 0..2 {
            site.wait_for(index, "/readyz", "ready");
        }
        site.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
        site.wait_for(1, "/metrics", "overlane_interfaces{state=\"live\"} 1\n");
        site
    }

    /// Makes a node's veth pair.
    fn plug(&self, (host, last, device): (usize, u8, &str), node: usize) {
        let (host, node) = (&self.hosts[host], &self.nodes[node]);
        run(&format!(
            "ip link add {device} netns {} type veth peer name eth0 netns {}",
            host.pid(),
            node.pid()
        ));
        // 20 bytes are added on the way.
        node.run(&format!("ip link set eth0 address 02:00:5e:10:00:0{last} mtu 1480 up"));
        node.run(&format!("ip addr add 10.0.0.{last}/24 dev eth0"));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_site(&self, nodes: &[(usize, u8, &str)]) {
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

    fn start(&mut self, letter: char) {
        let config = format!(
            "[engine]\nhost = \"host-{letter}\"\n\
             [uplink]\nkind = \"packet\"\ndevice = \"up0\"\naddress = \"fd00:0:0:f{letter}::e/64\"\n\
             gateway = \"fd00:0:0:f{letter}::1\"\n\
             [workers]\nidle = \"backoff\"\nmempool = 4096\nhugepages = \"never\"\n\
             [provisioning]\nfile = \"site.toml\"\n"
        );
        let file = self.file(&format!("{letter}.toml"));
        std::fs::write(&file, config).unwrap();
        let log = File::create(self.file(&format!("{letter}.log"))).unwrap();
        let namespace = format!("--net=/proc/{}/ns/net", self.hosts[usize::from(letter == 'b')].pid());
        let mut engine = Command::new("nsenter");
        engine.arg(namespace).arg(ENGINE).arg("--config").arg(file);
        let engine = engine.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.engines.push(engine);
    }

    fn log(&self, host: usize) -> String {
        std::fs::read_to_string(self.file(&format!("{}.log", LETTERS[host]))).unwrap()
    }

    /// Asks an engine's telemetry; empty while it does not answer.
    fn ask(&self, host: usize, path: &str) -> String {
        let (_, text) = self.hosts[host].attempt(&format!("curl -s -m 2 http://127.0.0.1:9470{path}"));
        text
    }

    fn wait_for(&self, host: usize, path: &str, wanted: &str) {
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

    /// Whether a node reaches an address with `count` pings, none lost.
    fn pings(&self, from: usize, last: u8, count: u8) -> (bool, String) {
        let (_, text) = self.nodes[from].attempt(&format!("ping -n -c {count} -i 0.05 -W 2 10.0.0.{last}"));
        (text.contains(" 0% packet loss"), text)
    }

    fn reaches(&self, from: usize, last: u8) {
        let (reached, text) = self.pings(from, last, 3);
        assert!(reached, "{text}\n{}\n{}", self.log(0), self.log(1));
    }

    fn signal(&self, host: usize, signal: nix::sys::signal::Signal) {
        // nsenter replaces itself: the child is the engine.
        let id = i32::try_from(self.engines[host].id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).unwrap();
    }

    fn wait_end(&mut self, host: usize) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.engines[host].try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the engine does not end:\n{}", self.log(host));
            std::thread::yield_now();
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

fn reach(site: &mut Site) {
    site.reaches(0, 7);
    site.reaches(0, 6);
    site.reaches(1, 7);
    // The host's own kernel is none of the vnet's.
    let (reached, text) = site.pings(0, 1, 1);
    assert!(!reached, "{text}");
    site.wait_for(0, "/metrics", "reason=\"gateway_itself\",port=\"n5/eth0\",vnet=\"7\"} 1\n");
}

fn recreated(site: &mut Site) {
    site.reaches(0, 6);
    site.hosts[0].run("ip link del veth-n5");
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"gone\"} 1\n");
    site.reaches(2, 6);
    site.plug(NODES[0], 0);
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
    site.reaches(0, 6);
    site.reaches(0, 7);
}

fn reload(site: &mut Site) {
    use nix::sys::signal::Signal::SIGHUP;
    site.reaches(0, 7);
    std::fs::write(site.file("site.toml"), "layout = \"slot65\"\n").unwrap();
    site.signal(0, SIGHUP);
    let why = "site.toml:1: layout: must be slot64, plain72 or plain64";
    site.wait_for(0, "/status", why);
    site.reaches(0, 7);
    site.write_site(&NODES[..2]);
    site.signal(0, SIGHUP);
    site.wait_for(0, "/metrics", "overlane_mappings 2\n");
    site.wait_for(0, "/metrics", "overlane_revision 2\n");
    let (reached, text) = site.pings(0, 7, 1);
    assert!(!reached, "{text}");
    site.reaches(0, 6);
    site.write_site(&NODES);
    site.signal(0, SIGHUP);
    site.wait_for(0, "/metrics", "overlane_interfaces{state=\"live\"} 2\n");
    site.reaches(0, 7);
}

fn ends(site: &mut Site) {
    use nix::sys::signal::Signal::SIGTERM;
    site.reaches(0, 6);
    // A node that takes another's address is dropped and counted.
    site.nodes[0].run("ip addr add 10.0.0.99/24 dev eth0");
    let _ = site.nodes[0].attempt("ping -n -c 2 -i 0.05 -W 1 -I 10.0.0.99 10.0.0.6");
    site.wait_for(0, "/metrics", "reason=\"src_ipv4_spoofed\",port=\"n5/eth0\",vnet=\"7\"} 2\n");
    for host in 0..2 {
        site.signal(host, SIGTERM);
        let status = site.wait_end(host);
        assert_eq!(status.code(), Some(0), "{}", site.log(host));
        assert!(site.log(host).contains("has ended in order"), "{}", site.log(host));
    }
}
