//! Nodes as routers: stock Linux kernels with networks behind them, several for one network, and networks whose subnets are
//! joined with no machine in between.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::policy::{Action, Direction, RuleSpec, Selector};
use overlane_api::resource::{AttachmentKind, Network, NetworkSpec, Node as NodeResource, Page, Subnet};
use overlane_api::route::Route;
use overlane_cli::client::Client;
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::behind::Behind;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::netns::Namespace;
use overlane_cli::lab::path::{DontFragment, Probe, ping_sized, traceroute};
use overlane_cli::lab::plan::{GATEWAY, NODE_DEVICE, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision::{change, move_node, network_spec, node_spec, rule_about, with_client};
use overlane_cli::lab::session::{EchoSession, transfer};
use overlane_cli::lab::wait;
use overlane_cli::lab::wiring::configure_node;
use overlane_dataplane::drop::DropReason;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case::Shared("routers::a_linux_router_joins_two_networks_behind_it_to_its_own", two_networks),
    Case::Shared("routers::machines_behind_two_routers_reach_each_other", between),
    Case::Shared("routers::a_path_behind_a_router_has_its_hops_and_its_mtu", path),
    Case::Shared("routers::what_is_not_behind_a_router_it_cannot_send_nor_get", foreign),
    Case::Shared("routers::what_a_router_sends_back_is_counted_and_goes_nowhere", sent_back),
    Case::Shared("routers::rules_about_a_network_behind_a_router_hold", ruled),
    Case::Shared("routers::two_routers_share_flows_and_one_that_falls_silent_gets_none", shared),
    Case::Shared("routers::connections_through_a_router_live_on_while_it_moves", moved),
    Case::Shared("routers::subnets_of_a_network_are_joined_with_no_machine_in_between", phantom),
];

const SOON: Duration = Duration::from_secs(20);

/// Has a node be a router for these networks.
fn route(lab: &Lab, node: &Node, routes: &[&str], transit: &[&str]) -> Result<()> {
    let mut spec = node_spec(node, AttachmentKind::Veth);
    for interface in &mut spec.interfaces {
        interface.routes = routes.iter().map(|net| (*net).to_owned()).collect();
        interface.transit = transit.iter().map(|net| (*net).to_owned()).collect();
    }
    let path = format!("/v1/nodes/{}", node.id);
    let _: (bool, NodeResource) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    Ok(())
}

/// Does `work` while a node is a router for these networks.
fn with_routes<T>(lab: &Lab, node: &Node, routes: &[&str], work: impl FnOnce() -> Result<T>) -> Result<T> {
    route(lab, node, routes, &[])?;
    let outcome = work();
    // Where it is by now.
    route(lab, &lab.node(&node.id)?, &[], &[])?;
    outcome
}

fn reaches(from: &Namespace, to: Ipv4Addr) -> Result<()> {
    let result = ping(from, to, 5)?;
    ensure!(result.is_complete(), "{from} to {to}: {} of {} answered", result.received, result.sent);
    Ok(())
}

/// What comes from a machine, and goes there, by ping and TCP, each from either end.
fn talk(lab: &Lab, node: &Node, machine: &Behind) -> Result<()> {
    let from = lab.namespace(&node.id);
    reaches(&from, machine.address())?;
    reaches(machine.machine(), node.ipv4)?;
    transfer(&from, machine.machine(), machine.address(), 2 << 20)?;
    transfer(machine.machine(), &from, node.ipv4, 2 << 20).map(|_| ())
}

const NINE: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 2);
const TWENTY: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);

fn two_networks(lab: &Lab) -> Result<()> {
    // On the other host for one of the nodes that talk to what is behind it, on the same for the other.
    for (router, near, far) in [("acme-3", "acme-1", "acme-2"), ("acme-2", "acme-1", "acme-3")] {
        let router = lab.node(router)?;
        let machines = [Behind::make(lab, &router, 1, NINE)?, Behind::make(lab, &router, 2, TWENTY)?];
        with_routes(lab, &router, &["192.168.9.0/24", "172.20.0.0/16"], || {
            for machine in &machines {
                for node in [near, far] {
                    talk(lab, &lab.node(node)?, machine)
                        .with_context(|| format!("{node} by {}", router.id))?;
                }
            }
            // Its own address there, and itself.
            reaches(&lab.namespace(near), Ipv4Addr::new(192, 168, 9, 1))?;
            reaches(&lab.namespace(near), router.ipv4)?;
            // By the router itself, as a route of the node's own says.
            let near = lab.namespace(near);
            near.ip(&format!("route add 192.168.9.0/24 via {}", router.ipv4))?;
            let outcome = reaches(&near, NINE);
            near.ip("route del 192.168.9.0/24")?;
            outcome
        })?;
        let result = ping(&lab.namespace(near), NINE, 1)?;
        ensure!(result.received == 0, "what was behind {} still answers", router.id);
    }
    Ok(())
}

fn between(lab: &Lab) -> Result<()> {
    let (one, two) = (lab.node("acme-2")?, lab.node("acme-3")?);
    let (near, far) = (Behind::make(lab, &one, 1, NINE)?, Behind::make(lab, &two, 2, TWENTY)?);
    with_routes(lab, &one, &["192.168.9.0/24"], || {
        with_routes(lab, &two, &["172.20.0.0/16"], || {
            reaches(near.machine(), TWENTY)?;
            transfer(near.machine(), far.machine(), TWENTY, 2 << 20)?;
            transfer(far.machine(), near.machine(), NINE, 2 << 20).map(|_| ())
        })
    })
}

fn path(lab: &Lab) -> Result<()> {
    let router = lab.node("acme-3")?;
    let machine = Behind::make(lab, &router, 1, NINE)?;
    with_routes(lab, &router, &["192.168.9.0/24"], || {
        let from = lab.namespace("acme-1");
        // The engine, the substrate's router, the other engine; the node; the machine.
        let expected = [GATEWAY, GATEWAY, GATEWAY, router.ipv4, NINE].map(Some);
        for probe in [Probe::Udp, Probe::Icmp] {
            let found = traceroute(&from, NINE, probe)?;
            ensure!(found == expected, "by {probe:?}: {found:?}");
        }
        let back = traceroute(machine.machine(), lab.node("acme-1")?.ipv4, Probe::Udp)?;
        let [first, .., last] = &back[..] else { anyhow::bail!("{back:?}") };
        ensure!(
            (*first, *last) == (Some(Ipv4Addr::new(192, 168, 9, 1)), Some(lab.node("acme-1")?.ipv4)),
            "{back:?}"
        );
        ensure!(back.len() == 5 && back.iter().all(Option::is_some), "{back:?}");
        // The machine's own link carries more than the nodes': its router says what goes on.
        let large = ping_sized(machine.machine(), lab.node("acme-1")?.ipv4, 2, 1453, DontFragment::Always)?;
        let told = large.too_large.first().copied();
        ensure!(told == Some((Ipv4Addr::new(192, 168, 9, 1), 1480)) && large.ping.received == 0, "{large:?}");
        for size in [1452, 4000, 20_000] {
            let cut = ping_sized(&from, NINE, 2, size, DontFragment::Discover)?;
            ensure!(cut.ping.is_complete(), "{size} bytes: {cut:?}");
        }
        Ok(())
    })
}

fn foreign(lab: &Lab) -> Result<()> {
    let router = lab.node("acme-3")?;
    let machine = Behind::make(lab, &router, 1, NINE)?;
    let other = Behind::make(lab, &router, 2, TWENTY)?;
    let silent = |from: &Namespace, to| -> Result<()> {
        let result = ping(from, to, 3)?;
        ensure!(result.received == 0, "{from} reaches {to}");
        Ok(())
    };
    let target = lab.node("acme-1")?;
    with_routes(lab, &router, &["192.168.9.0/24"], || {
        reaches(machine.machine(), target.ipv4)?;
        // What its kernel forwards for another network, which provisioning does not know, is nobody's.
        expect_drops(lab, &router.host, &[(DropReason::SrcIpv4Spoofed, 3)], || {
            silent(other.machine(), target.ipv4)
        })?;
        expect_drops(lab, &target.host, &[(DropReason::NoMapping, 3)], || {
            silent(&lab.namespace(&target.id), TWENTY)
        })?;
        // Nor in another vnet, where the same addresses are.
        silent(&lab.namespace("globex-1"), NINE)
    })?;
    // It may send from there by a grant alone, and gets nothing for it.
    route(lab, &router, &["192.168.9.0/24"], &["172.20.0.0/16"])?;
    let outcome = (|| {
        let listener = lab.namespace(&target.id).enter(|| Ok(UdpSocket::bind((target.ipv4, 0))?))?;
        listener.set_read_timeout(Some(Duration::from_secs(5)))?;
        let to = listener.local_addr()?;
        let speaker = other.machine().enter(|| Ok(UdpSocket::bind((TWENTY, 4711))?))?;
        speaker.send_to(b"one way", to)?;
        let mut bytes = [0; 16];
        let (length, from) = listener.recv_from(&mut bytes).context("what was sent by a grant of transit")?;
        ensure!(bytes.get(..length) == Some(b"one way") && from.ip() == TWENTY, "{from}");
        silent(&lab.namespace(&target.id), TWENTY)
    })();
    route(lab, &router, &[], &[])?;
    outcome
}

fn sent_back(lab: &Lab) -> Result<()> {
    let router = lab.node("acme-3")?;
    let machine = Behind::make(lab, &router, 1, NINE)?;
    // More than there is: what it has no route for it sends to its gateway.
    with_routes(lab, &router, &["192.168.0.0/16"], || {
        let nowhere = Ipv4Addr::new(192, 168, 77, 7);
        expect_drops(lab, &router.host, &[(DropReason::RouteLoop, 3)], || {
            let result = ping(machine.machine(), nowhere, 3)?;
            ensure!(result.received == 0, "somebody answers for {nowhere}");
            Ok(())
        })?;
        // It would be sent back to where it came from, in the name of somebody who is not behind the router.
        expect_drops(lab, &router.host, &[(DropReason::SrcIpv4Spoofed, 3)], || {
            ping(&lab.namespace("acme-1"), nowhere, 3).map(|_| ())
        })
        .map(|_| ())
    })
}

fn ruled(lab: &Lab) -> Result<()> {
    let (router, from) = (lab.node("acme-3")?, lab.node("acme-1")?);
    let machines = [Behind::make(lab, &router, 1, NINE)?, Behind::make(lab, &router, 2, TWENTY)?];
    let rule = RuleSpec {
        peer: Selector { cidr: Some("192.168.9.0/24".to_owned()), ..Selector::default() },
        ..rule_about(&from, Direction::Egress, Action::Reject)
    };
    with_routes(lab, &router, &["192.168.9.0/24", "172.20.0.0/16"], || {
        let path = "/v1/rules/not-there";
        change(lab, async |client: Client| client.put::<serde_json::Value>(path, &rule).await)?;
        let outcome = (|| {
            expect_drops(lab, &from.host, &[(DropReason::EgressDenied, 2)], || {
                let result = ping(&lab.namespace(&from.id), NINE, 2)?;
                ensure!(result.received == 0, "a rule does not hold");
                Ok(())
            })?;
            talk(lab, &from, &machines[1])?;
            // The other way is nobody's to forbid, and answers belong to it.
            reaches(machines[0].machine(), from.ipv4)
        })();
        change(lab, async |client: Client| client.delete(path).await)?;
        outcome
    })
}

/// An address that more than one node has, behind itself.
const ANYCAST: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const PORT: u16 = 5353;

/// Sends from so many ports, and says how many arrived at each of the listeners.
fn arrivals(from: &Namespace, listeners: &[UdpSocket], ports: u16) -> Result<Vec<usize>> {
    for port in 0..ports {
        from.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 20_000 + port))?;
            Ok(socket.send_to(b"anybody", (ANYCAST, PORT))?)
        })?;
    }
    let count = |listener: &UdpSocket| {
        let mut count = 0;
        while listener.recv(&mut [0; 16]).is_ok() {
            count += 1;
        }
        count
    };
    Ok(listeners.iter().map(count).collect())
}

fn shared(lab: &Lab) -> Result<()> {
    let routers = [lab.node("acme-2")?, lab.node("acme-3")?];
    let from = lab.namespace("acme-1");
    let mut listeners = Vec::new();
    for router in &routers {
        let namespace = lab.namespace(&router.id);
        namespace.ip(&format!("addr add {ANYCAST}/32 dev lo"))?;
        listeners.push(namespace.enter(|| {
            let listener = UdpSocket::bind((ANYCAST, PORT))?;
            listener.set_read_timeout(Some(Duration::from_millis(300)))?;
            Ok(listener)
        })?);
    }
    let mut ports = 64;
    let mut all_arrive = |expected: &dyn Fn(&[usize]) -> bool| -> Result<Vec<usize>> {
        let found = arrivals(&from, &listeners, ports)?;
        ensure!(found.iter().sum::<usize>() == usize::from(ports), "{found:?} of {ports} arrived");
        ensure!(expected(&found), "{found:?}");
        ports = 48;
        Ok(found)
    };
    let outcome = with_routes(lab, &routers[0], &["172.30.0.0/16"], || {
        with_routes(lab, &routers[1], &["172.30.0.0/16"], || {
            all_arrive(&|found| found.iter().all(|count| *count > 8)).context("both live")?;
            // One has no link any more.
            let silenced = lab.namespace(&routers[1].id);
            silenced.ip(&format!("link set {NODE_DEVICE} down"))?;
            let down = wait::until_ok("all flows to take the other", SOON, || {
                all_arrive(&|found| found.get(1) == Some(&0)).map(|_| ())
            });
            silenced.ip(&format!("link set {NODE_DEVICE} up\nroute add default via {GATEWAY}"))?;
            down?;
            wait::until_ok("both to be back", SOON, || {
                all_arrive(&|found| found.iter().all(|count| *count > 4)).map(|_| ())
            })?;
            // One has a link, and does not say a word.
            silenced.sysctl(&[("ipv4/conf/all/arp_ignore", "8")])?;
            let began = Instant::now();
            let silent = wait::until_ok("the silent one to be left out", SOON, || {
                let page: Page<Route> = with_client(lab, async |client: Client| {
                    client.get("/v1/networks/acme-net/routes").await
                })?;
                let silent: Vec<_> =
                    page.items.iter().filter(|route| route.silent).map(|route| &*route.interface).collect();
                ensure!(silent == ["acme-3/eth0"], "{silent:?} are silent");
                Ok(())
            });
            let took = began.elapsed();
            let left = silent.and_then(|()| {
                wait::until_ok("all flows to take the one that answers", SOON, || {
                    all_arrive(&|found| found.get(1) == Some(&0)).map(|_| ())
                })
            });
            silenced.sysctl(&[("ipv4/conf/all/arp_ignore", "0")])?;
            left?;
            ensure!(took < Duration::from_secs(8), "it took {took:?}");
            wait::until_ok("it to be heard again", SOON, || {
                all_arrive(&|found| found.iter().all(|count| *count > 4)).map(|_| ())
            })
        })
    });
    for router in &routers {
        lab.namespace(&router.id).ip(&format!("addr del {ANYCAST}/32 dev lo"))?;
    }
    outcome
}

fn moved(lab: &Lab) -> Result<()> {
    let router = lab.node("acme-3")?;
    let machine = Behind::make(lab, &router, 1, NINE)?;
    with_routes(lab, &router, &["192.168.9.0/24"], || {
        let sessions = ["acme-1", "acme-2"]
            .map(|node| EchoSession::start(&lab.namespace(node), machine.machine(), NINE))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        for to in ["host-a", "host-b"] {
            move_node(lab, &router.id, to)?;
            for session in &sessions {
                session.advance(20, SOON).with_context(|| format!("after the move to {to}"))?;
            }
        }
        sessions.into_iter().try_for_each(|session| session.finish().map(|_| ()))
    })
}

fn phantom(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let network = plan.networks.iter().find(|network| network.id == "acme-net").context("acme-net")?;
    let second = Ipv4Addr::new(10, 44, 0, 254);
    let mut subnets = network_spec(network).subnets;
    subnets.push(Subnet { cidr: "10.44.0.0/24".to_owned(), gateway: Some(second.to_string()) });
    let spec = NetworkSpec { subnets, ..network_spec(network) };
    let path = format!("/v1/networks/{}", network.id);
    let _: (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    // One node beside acme-1 and one on the other host go to the second subnet.
    let guests = [("acme-2", Ipv4Addr::new(10, 44, 0, 2)), ("acme-3", Ipv4Addr::new(10, 44, 0, 3))];
    let settle = |node: &Node| -> Result<()> {
        let (spec, path) = (node_spec(node, AttachmentKind::Veth), format!("/v1/nodes/{}", node.id));
        let _: (bool, NodeResource) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        let namespace = lab.namespace(&node.id);
        namespace.ip(&format!("addr flush dev {NODE_DEVICE}"))?;
        configure_node(&namespace, node)
    };
    let outcome = (|| {
        for (id, ipv4) in guests {
            settle(&Node { ipv4, ..lab.node(id)? })?;
        }
        let from = lab.namespace("acme-1");
        for ((id, address), left) in guests.into_iter().zip([63, 61]) {
            // Within the host the gateway is a hop; across hosts the engines and the substrate's router are.
            let result = ping_sized(&from, address, 3, 56, DontFragment::Discover)?;
            ensure!(result.ping.is_complete() && result.ttl == Some(left), "{id}: {result:?}");
            transfer(&from, &lab.namespace(id), address, 1 << 20)?;
        }
        let found = traceroute(&from, guests[0].1, Probe::Udp)?;
        ensure!(found == [Some(GATEWAY), Some(guests[0].1)], "{found:?}");
        let far = Some(Ipv4Addr::new(10, 44, 0, 254));
        let found = traceroute(&lab.namespace("acme-3"), lab.node("acme-1")?.ipv4, Probe::Icmp)?;
        ensure!(found == [far, far, far, Some(lab.node("acme-1")?.ipv4)], "{found:?}");
        reaches(&lab.namespace("acme-2"), guests[1].1)
    })();
    for (id, _) in guests {
        settle(&lab.node(id)?)?;
    }
    let spec = network_spec(network);
    let _: (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    outcome
}
