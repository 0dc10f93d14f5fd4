//! Broadcast and multicast between stock kernels: who hears what, once, and nobody else.

use crate::fixture::Case;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use overlane_api::group::{GroupSettings, Membership};
use overlane_api::resource::{AttachmentKind, Network, NetworkSpec, Node as NodeResource, Page};
use overlane_cli::client::Client;
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::RawPort;
use overlane_cli::lab::netns::run;
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::process::Process;
use overlane_cli::lab::provision::{change, network_spec, node_spec, with_client};
use overlane_cli::lab::wait;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::wire::protocol;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case::Shared("groups::ping_to_broadcast_is_answered_by_each_of_the_network_and_nobody_else", ping_all),
    Case::Shared("groups::socat_hears_a_group_from_when_it_joins_until_it_leaves", join_and_leave),
    Case::Shared("groups::nobody_hears_their_own_and_each_member_hears_once", once),
    Case::Shared("groups::a_member_hears_only_the_sources_that_it_asked_for", sources),
    Case::Shared("groups::an_interface_is_a_member_by_provisioning_without_a_word_of_its_node", provisioned),
    Case::Shared("groups::a_network_carries_no_broadcast_and_no_group_of_the_link_unless_it_is_to", settings),
    Case::Shared("groups::members_are_members_again_after_their_engine_has_restarted", restart),
    Case::Shared("groups::a_node_without_an_end_of_joining_has_a_bounded_number_of_groups", bounded),
];

const SOON: Duration = Duration::from_secs(20);
const VIDEO: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const PORT: u16 = 5004;
/// How long it is listened for what must not come.
const SILENCE: Duration = Duration::from_millis(400);

fn nodes_of(lab: &Lab, network: &str) -> Vec<Node> {
    lab.plan().nodes.into_iter().filter(|node| node.network == network).collect()
}

fn ping_all(lab: &Lab) -> Result<()> {
    let nodes = nodes_of(lab, "acme-net");
    for node in &nodes {
        // Stock Linux leaves them unanswered.
        lab.namespace(&node.id).sysctl(&[("ipv4/icmp_echo_ignore_broadcasts", "0")])?;
    }
    let others = nodes_of(lab, "globex-net");
    for node in &others {
        lab.namespace(&node.id).sysctl(&[("ipv4/icmp_echo_ignore_broadcasts", "0")])?;
    }
    let outcome = (|| {
        let from = nodes.first().context("a node")?;
        for to in ["10.0.0.255", "255.255.255.255"] {
            let mut ping = lab.namespace(&from.id).command("ping");
            ping.args(["-b", "-n", "-c", "5", "-i", "0.2", "-W", "2", "-I", NODE_DEVICE, to]);
            let output = ping.output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let mut answers: BTreeMap<Ipv4Addr, u32> = BTreeMap::new();
            for line in text.lines().filter(|line| line.contains("bytes from")) {
                let address = line.split("from ").nth(1).and_then(|rest| rest.split(':').next());
                *answers.entry(address.context(line.to_owned())?.parse()?).or_default() += 1;
            }
            // ping ends with the first answer to its last request, so of the last one some may be missing.
            let expected = nodes.iter().filter(|node| node.id != from.id).map(|node| node.ipv4);
            for address in expected.clone() {
                let count = answers.get(&address).copied().unwrap_or_default();
                ensure!((4..=5).contains(&count), "{address} answered {count} of 5:\n{text}");
            }
            // Its own kernel answers it by itself.
            let strangers: Vec<_> =
                answers.keys().filter(|answered| !nodes.iter().any(|node| node.ipv4 == **answered)).collect();
            ensure!(strangers.is_empty(), "{strangers:?} answered too:\n{text}");
        }
        Ok(())
    })();
    for node in nodes.iter().chain(&others) {
        lab.namespace(&node.id).sysctl(&[("ipv4/icmp_echo_ignore_broadcasts", "1")])?;
    }
    outcome
}

/// Who is a member, as the service tells.
fn members(lab: &Lab, network: &str) -> Result<Vec<Membership>> {
    let path = format!("/v1/networks/{network}/groups");
    let page: Page<Membership> = with_client(lab, async |client: Client| client.get(&path).await)?;
    Ok(page.items)
}

/// Waits until just these nodes are members of the group, and all engines know.
fn wait_members(lab: &Lab, expected: &[&str]) -> Result<()> {
    wait::until_ok("the members", SOON, || {
        let told = members(lab, "acme-net")?;
        let mut nodes: Vec<&str> = told
            .iter()
            .filter(|one| one.group == VIDEO.to_string())
            .filter_map(|one| one.interface.split('/').next())
            .collect();
        nodes.sort_unstable();
        ensure!(nodes == expected, "{nodes:?} instead of {expected:?}");
        Ok(())
    })?;
    lab.wait_healthy(SOON)
}

/// A socket of a node's kernel.
fn socket(lab: &Lab, node: &Node, port: u16) -> Result<UdpSocket> {
    lab.namespace(&node.id).enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.set_multicast_ttl_v4(1)?;
        socket.set_broadcast(true)?;
        Ok(socket)
    })
}

/// Sends numbered datagrams to a group.
fn send(socket: &UdpSocket, group: Ipv4Addr, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers {
        socket.send_to(&number.to_be_bytes(), (group, PORT)).context("sending to the group")?;
    }
    Ok(())
}

/// The numbers that came, until so many have, or nothing comes any more.
fn heard(socket: &UdpSocket, count: usize) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let mut bytes = [0; 16];
    let deadline = Instant::now() + SOON;
    loop {
        let patience = if numbers.len() < count { Duration::from_secs(3) } else { SILENCE };
        socket.set_read_timeout(Some(patience))?;
        match socket.recv(&mut bytes) {
            Ok(4) => numbers.extend(bytes.first_chunk().map(|number| u32::from_be_bytes(*number))),
            Ok(other) => bail!("{other} bytes came"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        ensure!(Instant::now() < deadline, "it does not end: {}", numbers.len());
    }
    Ok(numbers)
}

fn route(lab: &Lab, node: &Node) -> Result<()> {
    lab.namespace(&node.id).ip(&format!("route replace 224.0.0.0/4 dev {NODE_DEVICE}"))
}

fn join_and_leave(lab: &Lab) -> Result<()> {
    let [from, near, far] = ["acme-1", "acme-2", "acme-3"].map(|id| lab.node(id));
    let (from, near, far) = (from?, near?, far?);
    let listen = |node: &Node| -> Result<(Process, std::path::PathBuf)> {
        let file = lab.state().file(&format!("heard-{}", node.id));
        std::fs::write(&file, "")?;
        let mut socat = lab.namespace(&node.id).command("socat");
        socat.arg("-u");
        socat.arg(format!("UDP4-RECV:{PORT},ip-add-membership={VIDEO}:{NODE_DEVICE}"));
        socat.arg(format!("OPEN:{},append", file.display()));
        Ok((Process::start(lab.state().path(), &format!("socat-{}", node.id), socat)?, file))
    };
    let say = |text: &str| -> Result<()> {
        let mut socat = lab.namespace(&from.id).command("sh");
        let way = format!("UDP4-DATAGRAM:{VIDEO}:{PORT},so-bindtodevice={NODE_DEVICE}");
        socat.arg("-c").arg(format!("echo {text} | socat -u - {way}"));
        run(&mut socat).map(|_| ())
    };
    let wait_for = |file: &std::path::Path, expected: &str| {
        wait::until_ok("the datagram", SOON, || {
            let text = std::fs::read_to_string(file)?;
            ensure!(text == expected, "{text:?} instead of {expected:?}");
            Ok(())
        })
    };
    route(lab, &from)?;
    let (mut one, one_heard) = listen(&near)?;
    let (mut two, two_heard) = listen(&far)?;
    let outcome = (|| {
        wait_members(lab, &["acme-2", "acme-3"])?;
        say("first")?;
        wait_for(&one_heard, "first\n")?;
        wait_for(&two_heard, "first\n")?;
        // It leaves with its end.
        two.signal(Signal::SIGTERM)?;
        wait_members(lab, &["acme-2"])?;
        let before = engine::scrape(lab, &far.host)?;
        say("second")?;
        wait_for(&one_heard, "first\nsecond\n")?;
        ensure!(std::fs::read_to_string(&two_heard)? == "first\n", "it hears what it has left");
        // What came to a host without members would be dropped there.
        let drops = engine::scrape(lab, &far.host)?.drops_since(&before);
        ensure!(drops.is_empty(), "it is carried to a host where nobody hears it: {drops:?}");
        one.signal(Signal::SIGTERM)?;
        wait_members(lab, &[])?;
        expect_drops(lab, &from.host, &[(DropReason::GroupNoMembers, 3)], || {
            (0..3).try_for_each(|_| say("third"))
        })
        .map(|_| ())
    })();
    one.kill()?;
    two.kill()?;
    outcome
}

fn once(lab: &Lab) -> Result<()> {
    const COUNT: u32 = 200;
    let nodes = nodes_of(lab, "acme-net");
    let sockets: Vec<(Node, UdpSocket)> = nodes
        .iter()
        .map(|node| {
            let socket = socket(lab, node, PORT)?;
            socket.join_multicast_v4(&VIDEO, &node.ipv4)?;
            // What its own kernel gives back is not the network's doing.
            socket.set_multicast_loop_v4(false)?;
            Ok((node.clone(), socket))
        })
        .collect::<Result<_>>()?;
    for node in &nodes {
        route(lab, node)?;
    }
    let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    wait_members(lab, &ids)?;
    // A namesake in another network listens too.
    let stranger = lab.node("globex-2")?;
    let deaf = socket(lab, &stranger, PORT)?;
    deaf.join_multicast_v4(&VIDEO, &stranger.ipv4)?;
    let all: Vec<u32> = (0..COUNT).collect();
    for (from, to_all) in &sockets {
        for group in [VIDEO, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255)] {
            // Broadcast comes back from the sender's own kernel.
            let own = if group == VIDEO { 0 } else { COUNT as usize };
            for start in (0..COUNT).step_by(50) {
                send(to_all, group, start..start + 50)?;
                std::thread::sleep(Duration::from_millis(5));
            }
            for (node, socket) in &sockets {
                let expected = if node.id == from.id { own } else { COUNT as usize };
                let mut numbers = heard(socket, expected)?;
                numbers.sort_unstable();
                let is_right = if expected == 0 { numbers.is_empty() } else { numbers == all };
                ensure!(is_right, "{} heard {} of {} to {group}", node.id, numbers.len(), from.id);
            }
        }
    }
    let numbers = heard(&deaf, 0)?;
    ensure!(numbers.is_empty(), "{} of another network heard {}", stranger.id, numbers.len());
    drop(sockets);
    wait_members(lab, &[])
}

/// Joins a group to hear one source only, as `IP_ADD_SOURCE_MEMBERSHIP` does, prints what it hears, and leaves on SIGTERM.
const LISTENER: &str = "
import socket, struct, sys
group, own, source, port = sys.argv[1:5]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', int(port)))
s.setsockopt(socket.IPPROTO_IP, 39, socket.inet_aton(group) + socket.inet_aton(own) + socket.inet_aton(source))
print('ready', flush=True)
while True:
    data, (sender, _) = s.recvfrom(64)
    print(sender, flush=True)
";

fn sources(lab: &Lab) -> Result<()> {
    let [wanted, other, listener] = ["acme-1", "acme-2", "acme-3"].map(|id| lab.node(id));
    let (wanted, other, listener) = (wanted?, other?, listener?);
    route(lab, &wanted)?;
    route(lab, &other)?;
    let script = lab.state().write("listener.py", LISTENER)?;
    let mut python = lab.namespace(&listener.id).command("python3");
    python.arg(&script).args([VIDEO.to_string(), listener.ipv4.to_string(), wanted.ipv4.to_string()]);
    python.arg(PORT.to_string());
    let mut process = Process::start(lab.state().path(), "listener", python)?;
    let outcome = (|| {
        wait_members(lab, &["acme-3"])?;
        // On the wire to the node, so that it is not its kernel that keeps the other source away.
        let port = RawPort::open(&lab.namespace(&listener.id), NODE_DEVICE)?;
        let is_from = |frame: &[u8], node: &Node| {
            frame.get(23) == Some(&protocol::UDP)
                && frame.get(26..30) == Some(&node.ipv4.octets()[..])
                && frame.get(30..34) == Some(&VIDEO.octets()[..])
        };
        let (from_wanted, from_other) = (socket(lab, &wanted, 0)?, socket(lab, &other, 0)?);
        send(&from_other, VIDEO, 0..20)?;
        send(&from_wanted, VIDEO, 0..20)?;
        let came = port.arrived(SOON, |frame| is_from(frame, &wanted) || is_from(frame, &other))?;
        let came = came.context("nothing came")?;
        ensure!(is_from(&came, &wanted), "what it has not asked for came");
        let unwanted = port.arrived(SILENCE, |frame| is_from(frame, &other))?;
        ensure!(unwanted.is_none(), "what it has not asked for came");
        Ok(())
    })();
    process.kill()?;
    wait_members(lab, &[])?;
    outcome
}

fn provisioned(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    route(lab, &from)?;
    let path = format!("/v1/nodes/{}", to.id);
    let put = |groups: &[&str]| -> Result<()> {
        let mut spec = node_spec(&to, AttachmentKind::Veth);
        for interface in &mut spec.interfaces {
            interface.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        }
        let (_, _): (bool, NodeResource) =
            change(lab, async |client: Client| client.put(&path, &spec).await)?;
        Ok(())
    };
    put(&["239.1.2.3"])?;
    let outcome = (|| {
        wait_members(lab, &["acme-3"])?;
        let told = members(lab, "acme-net")?;
        ensure!(told.iter().all(|one| one.provisioned && !one.joined), "{told:?}");
        let port = RawPort::open(&lab.namespace(&to.id), NODE_DEVICE)?;
        send(&socket(lab, &from, 0)?, VIDEO, 7..8)?;
        let came = port.arrived(SOON, |frame| frame.get(30..34) == Some(&VIDEO.octets()[..]))?;
        let came = came.context("nothing came")?;
        ensure!(came.get(..6) == Some(&[0x01, 0, 0x5e, 1, 2, 3][..]), "{came:02x?}");
        ensure!(came.get(22) == Some(&1), "its TTL is {:?}: it may be forwarded", came.get(22));
        Ok(())
    })();
    put(&[])?;
    wait_members(lab, &[])?;
    outcome
}

fn settings(lab: &Lab) -> Result<()> {
    let hello = Ipv4Addr::new(224, 0, 0, 5);
    let (from, near, far) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    route(lab, &from)?;
    let plan = lab.plan();
    let network = plan.networks.iter().find(|network| network.id == from.network).context("its network")?;
    let put = |groups: GroupSettings| -> Result<()> {
        let spec = NetworkSpec { groups, ..network_spec(network) };
        let path = format!("/v1/networks/{}", network.id);
        let (_, _): (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        lab.wait_healthy(SOON)
    };
    let ears = [&near, &far].map(|node| RawPort::open(&lab.namespace(&node.id), NODE_DEVICE));
    let [near_ear, far_ear] = ears;
    let (near_ear, far_ear) = (near_ear?, far_ear?);
    let hears = |port: &RawPort, to: Ipv4Addr, patience| -> Result<bool> {
        let is = |frame: &[u8]| {
            frame.get(30..34) == Some(&to.octets()[..]) && frame.get(23) == Some(&protocol::UDP)
        };
        Ok(port.arrived(patience, is)?.is_some())
    };
    let socket = socket(lab, &from, 0)?;
    send(&socket, hello, 0..1)?;
    ensure!(hears(&near_ear, hello, SOON)?, "a neighbour on the host does not hear a group of the link");
    ensure!(!hears(&far_ear, hello, SILENCE)?, "a group of the link has left its host");
    put(GroupSettings { broadcast: false, confined: Vec::new() })?;
    let outcome = (|| {
        send(&socket, hello, 1..2)?;
        ensure!(hears(&far_ear, hello, SOON)?, "a group of the link that may leave its host does not");
        expect_drops(lab, &from.host, &[(DropReason::BroadcastOff, 4)], || {
            send(&socket, Ipv4Addr::BROADCAST, 0..4)
        })?;
        ensure!(!hears(&near_ear, Ipv4Addr::BROADCAST, SILENCE)?, "broadcast is carried");
        Ok(())
    })();
    put(GroupSettings::default())?;
    outcome
}

fn restart(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    route(lab, &from)?;
    let ear = socket(lab, &to, PORT)?;
    ear.join_multicast_v4(&VIDEO, &to.ipv4)?;
    wait_members(lab, &["acme-3"])?;
    lab.with_process(&engine::process_name(&to.host), |process| process.kill())?;
    lab.start_engine(&to.host)?;
    lab.wait_healthy(SOON)?;
    // The engine asks; nobody has to join anew.
    let voice = socket(lab, &from, 0)?;
    let mut number = 0;
    wait::until("the member to hear again", SOON, || {
        send(&voice, VIDEO, number..number + 1)?;
        number += 1;
        let mut bytes = [0; 16];
        ear.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(ear.recv(&mut bytes).ok())
    })?;
    wait_members(lab, &["acme-3"])?;
    drop(ear);
    wait_members(lab, &[])
}

/// Joins as many groups as the kernel lets it, again and again.
const JOINER: &str = "
import socket, sys
own = sys.argv[1]
sockets = []
for n in range(200):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                 socket.inet_aton('239.7.0.%d' % n) + socket.inet_aton(own))
    sockets.append(s)
print('ready', flush=True)
sys.stdin.read()
";

fn bounded(lab: &Lab) -> Result<()> {
    let greedy = lab.node("globex-1")?;
    let script = lab.state().write("joiner.py", JOINER)?;
    let mut python = lab.namespace(&greedy.id).command("python3");
    python.arg(&script).arg(greedy.ipv4.to_string()).stdin(std::process::Stdio::piped());
    let mut python = python.spawn()?;
    let outcome = wait::until_ok("as many groups as one may have", SOON, || {
        let told = members(lab, "globex-net")?;
        ensure!(told.len() == 64, "{} groups", told.len());
        Ok(())
    });
    python.kill()?;
    python.wait()?;
    outcome?;
    // Its neighbours are none the worse, and what it has left is forgotten.
    wait::until_ok("the groups to be left", Duration::from_secs(30), || {
        let told = members(lab, "globex-net")?;
        ensure!(told.is_empty(), "{} groups", told.len());
        Ok(())
    })
}
