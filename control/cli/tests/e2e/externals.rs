//! Systems without an engine: a plain IPv6 Linux host and nodes' stock kernels, by stock programs, both ways.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::external::{External, Externals};
use overlane_api::policy::{Action, Direction, RuleSpec, Selector};
use overlane_api::resource::{Network, NetworkSpec};
use overlane_cli::client::Client;
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::behind::Behind;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::netns::Namespace;
use overlane_cli::lab::outside::Outside;
use overlane_cli::lab::path::{DontFragment, Probe, ping_sized, traceroute};
use overlane_cli::lab::plan::{GATEWAY, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision::{change, network_spec, node_spec, rule_about};
use overlane_cli::lab::web::WebServer;
use overlane_dataplane::drop::DropReason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("externals::curl_fetches_both_ways_between_nodes_and_a_plain_ipv6_host", web),
    Case::Shared("externals::hops_sizes_and_errors_between_nodes_and_a_plain_host_are_as_on_any_path", path),
    Case::Shared("externals::nobody_else_gets_in_and_no_other_network_gets_out", strangers),
    Case::Shared("externals::rules_about_an_external_hold_and_answers_pass", ruled),
    Case::Shared("externals::a_machine_behind_a_router_reaches_an_external", behind),
];

const POOL: &str = "10.255.0.0/24";
/// What nodes know the first of the pool by.
const SEEN: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const PORT: u16 = 8080;

/// Does `work` while nodes of acme exchange packets with a plain host; afterwards they do not.
fn with_outside(lab: &Lab, number: u8, work: impl FnOnce(&Outside) -> Result<()>) -> Result<()> {
    let outside = Outside::make(lab, number)?;
    let set = |externals: Externals| -> Result<Network> {
        let plan = lab.plan();
        let network = plan.networks.iter().find(|network| network.id == "acme-net").context("acme-net")?;
        let spec = NetworkSpec { externals, ..network_spec(network) };
        let path = format!("/v1/networks/{}", network.id);
        let (_, now): (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        Ok(now)
    };
    let system = External { name: "plain".to_owned(), address: outside.address().to_string(), ipv4: None };
    let now = set(Externals { pool: Some(POOL.to_owned()), systems: vec![system] })?;
    let outcome = (|| {
        let known = now.externals.systems.first().and_then(|system| system.ipv4.clone());
        ensure!(known == Some(SEEN.to_string()), "{now:?}");
        work(&outside)
    })();
    set(Externals::default())?;
    outcome
}

fn substrate(lab: &Lab, node: &Node) -> Result<Ipv6Addr> {
    lab.plan().substrate_address(node)
}

fn web(lab: &Lab) -> Result<()> {
    with_outside(lab, 7, |outside| {
        let state = lab.state().path().to_owned();
        let there = WebServer::start(&state, "outside", outside.host(), PORT)?;
        for id in ["acme-1", "acme-3"] {
            let node = lab.node(id)?;
            let namespace = lab.namespace(id);
            there.fetched(&namespace, IpAddr::V4(SEEN)).with_context(|| format!("{id} from outside"))?;
            let here = WebServer::start(&state, id, &namespace, PORT)?;
            let at = IpAddr::V6(substrate(lab, &node)?);
            here.fetched(outside.host(), at).with_context(|| format!("outside from {id}"))?;
            let result = ping(&namespace, SEEN, 5)?;
            ensure!(result.is_complete(), "{id}: {result:?}");
            let result = ping(outside.host(), at, 5)?;
            ensure!(result.is_complete(), "to {id}: {result:?}");
        }
        Ok(())
    })
}

/// Datagrams in fragments, there and back.
fn datagrams(node: &Namespace, outside: &Outside) -> Result<()> {
    let there = outside.host().enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 4000))?))?;
    let here = node.enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    for socket in [&there, &here] {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    }
    for size in [1, 1452, 4000, 20_000] {
        let sent: Vec<u8> = (0..size).map(|place: u32| (place >> 3) as u8 ^ place as u8).collect();
        here.send_to(&sent, (SEEN, 4000))?;
        let mut bytes = vec![0; 65_536];
        let (length, from) = there.recv_from(&mut bytes).with_context(|| format!("{size} bytes there"))?;
        ensure!(bytes.get(..length) == Some(&sent[..]), "{size} bytes came differently");
        there.send_to(&sent, from)?;
        let (length, from) = here.recv_from(&mut bytes).with_context(|| format!("{size} bytes back"))?;
        ensure!(
            bytes.get(..length) == Some(&sent[..]) && from.ip() == SEEN,
            "{size} bytes came differently back"
        );
    }
    Ok(())
}

fn path(lab: &Lab) -> Result<()> {
    with_outside(lab, 7, |outside| {
        let node = lab.node("acme-1")?;
        let namespace = lab.namespace(&node.id);
        for probe in [Probe::Udp, Probe::Icmp, Probe::Tcp] {
            let found = traceroute(&namespace, SEEN, probe)?;
            // The engine and the substrate's router; then the system itself.
            ensure!(found == [Some(GATEWAY), Some(GATEWAY), Some(SEEN)], "by {probe:?}: {found:?}");
        }
        let whole = ping_sized(&namespace, SEEN, 2, 1452, DontFragment::Always)?;
        ensure!(whole.ping.is_complete(), "{whole:?}");
        datagrams(&namespace, outside)?;
        // Of ICMP no part can be translated: an IPv6 host would find its checksum wrong.
        expect_drops(lab, &node.host, &[(DropReason::FragmentIcmp, 3)], || {
            let cut = ping_sized(&namespace, SEEN, 1, 4000, DontFragment::Discover)?;
            ensure!(cut.ping.received == 0, "{cut:?}");
            Ok(())
        })?;
        // A link on the way that carries less: the node hears of it, and its connections go on.
        let router = lab.plan().router();
        let server = WebServer::start(lab.state().path(), "narrow", outside.host(), PORT)?;
        router.ip("link set outside7 mtu 1300")?;
        outside.host().ip("link set eth0 mtu 1300")?;
        server.fetched(&namespace, IpAddr::V4(SEEN))?;
        let told = ping_sized(&namespace, SEEN, 2, 1400, DontFragment::Always)?;
        let mtu = told.too_large.first().map(|(_, mtu)| *mtu).or(told.refused);
        ensure!(mtu == Some(1280), "{told:?}");
        Ok(())
    })
}

fn strangers(lab: &Lab) -> Result<()> {
    let stranger = Outside::make(lab, 8)?;
    let node = lab.node("acme-1")?;
    let silent = |result: overlane_cli::lab::probe::Ping| {
        ensure!(result.received == 0, "{result:?}");
        Ok(())
    };
    with_outside(lab, 7, |outside| {
        let at = substrate(lab, &node)?;
        expect_drops(lab, &node.host, &[(DropReason::SrcAddressInvalid, 3)], || {
            silent(ping(stranger.host(), at, 3)?)
        })?;
        // One that has the other network's leave has none here: the addresses are the same, the networks are not.
        let other = lab.node("globex-1")?;
        expect_drops(lab, &other.host, &[(DropReason::SrcAddressInvalid, 3)], || {
            silent(ping(outside.host(), substrate(lab, &other)?, 3)?)
        })?;
        for (from, to) in [(&other, SEEN), (&node, Ipv4Addr::new(10, 255, 0, 9))] {
            expect_drops(lab, &from.host, &[(DropReason::NoMapping, 3)], || {
                silent(ping(&lab.namespace(&from.id), to, 3)?)
            })?;
        }
        Ok(())
    })?;
    // The pool's addresses are nobody's afterwards.
    silent(ping(&lab.namespace(&node.id), SEEN, 1)?)
}

fn ruled(lab: &Lab) -> Result<()> {
    let node = lab.node("acme-1")?;
    let path = "/v1/rules/no-externals";
    with_outside(lab, 7, |outside| {
        let at = substrate(lab, &node)?;
        // By what nodes know it by, and by its own address.
        for (cidr, network) in [(POOL, None), ("fd00:0:2::/48", Some("acme-net".to_owned()))] {
            let rule = RuleSpec {
                peer: Selector { cidr: Some(cidr.to_owned()), network, ..Selector::default() },
                ..rule_about(&node, Direction::Ingress, Action::Deny)
            };
            change(lab, async |client: Client| client.put::<serde_json::Value>(path, &rule).await)?;
            let outcome = (|| {
                expect_drops(lab, &node.host, &[(DropReason::IngressDenied, 3)], || {
                    let result = ping(outside.host(), at, 3)?;
                    ensure!(result.received == 0, "a rule about {cidr} does not hold: {result:?}");
                    Ok(())
                })?;
                // What the node itself begins is not forbidden, and its answers belong to it.
                let server = WebServer::start(lab.state().path(), "outside", outside.host(), PORT)?;
                server.fetched(&lab.namespace(&node.id), IpAddr::V4(SEEN))
            })();
            change(lab, async |client: Client| client.delete(path).await)?;
            outcome?;
        }
        let result = ping(outside.host(), at, 3)?;
        ensure!(result.is_complete(), "without a rule: {result:?}");
        Ok(())
    })
}

fn behind(lab: &Lab) -> Result<()> {
    let router = lab.node("acme-3")?;
    let machine = Behind::make(lab, &router, 1, Ipv4Addr::new(192, 168, 9, 2))?;
    let put = |routes: &[&str]| -> Result<()> {
        let mut spec = node_spec(&router, overlane_api::resource::AttachmentKind::Veth);
        for interface in &mut spec.interfaces {
            interface.routes = routes.iter().map(|net| (*net).to_owned()).collect();
        }
        let path = format!("/v1/nodes/{}", router.id);
        change(lab, async |client: Client| client.put::<serde_json::Value>(&path, &spec).await).map(|_| ())
    };
    put(&["192.168.9.0/24"])?;
    let outcome = with_outside(lab, 7, |outside| {
        let server = WebServer::start(lab.state().path(), "outside", outside.host(), PORT)?;
        server.fetched(machine.machine(), IpAddr::V4(SEEN))
    });
    put(&[])?;
    outcome
}
