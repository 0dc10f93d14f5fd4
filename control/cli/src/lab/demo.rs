//! `overlane lab demo`: the whole system shown in a few minutes, one chapter for each thing that it does.

use super::attack;
use super::attack_classes;
use super::capture::{self, Capture};
use super::certificates;
use super::checks::describe;
use super::demo_outside;
use super::demo_routed;
use super::handle::{Lab, LabOptions};
use super::plan::{NODE_DEVICE, Node};
use super::probe::{IperfServer, Load, ping};
use super::progress::Progress;
use super::provision;
use super::results::Results;
use super::service;
use super::session::{self, EchoSession};
use super::shape::Shape;
use super::state::Mode;
use super::wait;
use crate::client::Client;
use anyhow::{Context, Result, bail, ensure};
use overlane_api::event::{Event, EventKind};
use overlane_api::group::Membership;
use overlane_api::pki::Kind;
use overlane_api::policy::{Action, DefaultAction, Direction, Peering, PeeringSpec, Rule};
use overlane_api::resource::Page;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// Seconds that each iperf3 run lasts.
const LOAD_SECONDS: u32 = 2;
/// How long it is looked whether a connection is cut: a hundred round trips in good times.
const MOMENT: Duration = Duration::from_millis(300);
/// Frames sent in each attack.
const ATTEMPTS: u64 = 20;

/// Runs the demo in a lab of its own, which is taken down at the end.
///
/// # Errors
/// If the lab could not be made or taken down; what failed within it is in the results.
pub fn run(name: &str, progress: &dyn Progress) -> Result<Results> {
    let began = Instant::now();
    super::handle::down(name, progress)?;
    chapter("A lab of two hosts, a plain IPv6 router, the service, and eight nodes of three tenants");
    let options =
        LabOptions { name: name.to_owned(), mode: Mode::Service, owned: true, shape: Shape::default() };
    let lab = Lab::up(&options, progress)?;
    progress.done(&format!("up after {:.1} s", began.elapsed().as_secs_f32()));
    super::status::show(&lab)?;
    let mut results = Results::default();
    for (what, show) in CHAPTERS {
        chapter(what);
        let outcome = show(&lab);
        match &outcome {
            Ok(detail) => println!("  => {detail}"),
            Err(error) => println!("  => FAILED: {error:#}"),
        }
        results.note(*what, outcome);
    }
    if !results.all_passed() {
        println!("\n{}", lab.last_words());
    }
    chapter(LAST);
    results.note(LAST, take_down(lab, progress));
    progress.done(&format!("{:.0} s in all", began.elapsed().as_secs_f32()));
    Ok(results)
}

type Show = fn(&Lab) -> Result<String>;

const CHAPTERS: &[(&str, Show)] = &[
    ("ping across hosts and within a host, in both networks at once", pings),
    ("TCP (iperf3) across hosts and within a host, in both networks at once", tcp),
    ("on the router: plain TCP over IPv6, virtual addresses inside, no encapsulation", wire),
    ("a node calls everybody in its network, and those who have joined a group", called),
    ("a node is a router for a network behind it, and for no other", demo_routed::show),
    ("a plain IPv6 host without an engine and a node fetch from each other by curl", demo_outside::show),
    ("a node spoofs its neighbour's address", spoofing),
    ("a forged IPv6 packet on the substrate", forgery),
    ("a node tries to reach its host's own kernel", host_kernel),
    ("an attack of every other class, and the counter that tells of it", attacks),
    ("what an operator hears of it: events", events),
    ("an entity's token reaches for what is another entity's", token),
    ("an engine's certificate is stolen, and revoked", stolen),
    ("two entities peer their networks, and end it", peered),
    ("a rule cuts a live connection", ruled),
    ("the service is killed, and traffic goes on", service_killed),
    ("a node moves to the other host, and its connection survives", node_moved),
];

const LAST: &str = "the lab is taken down and leaves nothing behind";

fn take_down(lab: Lab, progress: &dyn Progress) -> Result<String> {
    let name = lab.plan().name;
    lab.down(progress)?;
    let left = super::traces::of(&name)?;
    ensure!(left.is_empty(), "still there: {}", left.join("; "));
    Ok("no namespace, no process, no file".to_owned())
}

fn chapter(title: &str) {
    println!("\n== {title}");
}

/// The pairs that are looked at: within a host and across hosts, in both networks.
fn pairs(lab: &Lab) -> Result<Vec<(Node, Node)>> {
    let names =
        [("acme-1", "acme-2"), ("globex-1", "globex-2"), ("acme-1", "acme-3"), ("globex-1", "globex-3")];
    names.into_iter().map(|(from, to)| Ok((lab.node(from)?, lab.node(to)?))).collect()
}

/// Does `work` for all pairs at the same time and prints a line for each.
fn at_once<T: Send>(
    pairs: &[(Node, Node)],
    work: impl Fn(&Node, &Node) -> Result<T> + Sync,
    line: impl Fn(&T) -> String,
) -> Result<Vec<T>> {
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let threads: Vec<_> = pairs.iter().map(|(from, to)| scope.spawn(|| work(from, to))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
            .collect()
    });
    let mut values = Vec::new();
    for ((from, to), outcome) in pairs.iter().zip(outcomes) {
        let value = outcome.with_context(|| format!("{} to {}", from.id, to.id))?;
        let place = if from.host == to.host { "within a host" } else { "across hosts" };
        println!(
            "  {:<9} -> {:<9} {:<14} {} -> {}: {}",
            from.id,
            to.id,
            place,
            from.ipv4,
            to.ipv4,
            line(&value)
        );
        values.push(value);
    }
    Ok(values)
}

fn pings(lab: &Lab) -> Result<String> {
    let all = at_once(
        &pairs(lab)?,
        |from, to| {
            let result = ping(&lab.namespace(&from.id), to.ipv4, 5)?;
            ensure!(result.is_complete(), "{} of {} answered", result.received, result.sent);
            Ok(result)
        },
        |ping| format!("{} of {} answered, {:.2} ms", ping.received, ping.sent, ping.average_ms),
    )?;
    Ok(format!("{} pairs, every request answered", all.len()))
}

fn tcp(lab: &Lab) -> Result<String> {
    let all = at_once(
        &pairs(lab)?,
        |from, to| {
            let server = IperfServer::start(lab.state().path(), &to.id, &lab.namespace(&to.id), 5201)?;
            let result = server.load(&lab.namespace(&from.id), to.ipv4, Load::Tcp, LOAD_SECONDS)?;
            ensure!(result.bytes > 0, "nothing arrived");
            Ok(result)
        },
        describe,
    )?;
    let sum: f64 = all.iter().map(|result| result.bits_per_second).sum();
    Ok(format!("{} connections side by side, {:.2} Gbit/s together", all.len(), sum / 1e9))
}

fn wire(lab: &Lab) -> Result<String> {
    let plan = lab.plan();
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let (source, destination) = (plan.substrate_address(&from)?, plan.substrate_address(&to)?);
    let capture = Capture::start(&plan, lab.state().path(), &to.host, "tcp")?;
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    session.advance(3, Duration::from_secs(5))?;
    session.finish()?;
    let frames = capture.finish(10)?;
    let packets: Vec<_> = frames.iter().filter_map(|frame| capture::decode(frame)).collect();
    for packet in packets.iter().take(4) {
        println!("  {}", packet.describe(&plan));
    }
    ensure!(packets.len() == frames.len(), "{} frames are not plain", frames.len() - packets.len());
    let between = |packet: &capture::Decoded| {
        [(source, destination), (destination, source)].contains(&(packet.source, packet.destination))
    };
    ensure!(
        !packets.is_empty() && packets.iter().all(|p| p.is_tcp && between(p)),
        "other packets than expected"
    );
    Ok(format!("{} packets, each Ethernet, IPv6, TCP and nothing between them", packets.len()))
}

/// Where the nodes of a chapter wait to be called: by broadcast, and as members of a group.
const CALLED: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 1, 2, 3), 5004);

fn called(lab: &Lab) -> Result<String> {
    let (group, port) = CALLED;
    let from = lab.node("acme-1")?;
    let socket = |node: &Node, port: u16| {
        lab.namespace(&node.id).enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            socket.set_broadcast(true)?;
            Ok(socket)
        })
    };
    let plan = lab.plan();
    let listeners = plan.nodes.iter().filter(|node| node.id != from.id);
    let listeners = listeners.map(|node| Ok((node, socket(node, port)?))).collect::<Result<Vec<_>>>()?;
    let heard = |text: &str| -> Vec<String> {
        let hears = |(node, socket): &&(&Node, UdpSocket)| {
            let mut bytes = [0; 64];
            let read = socket.recv(&mut bytes);
            let hears = read.is_ok_and(|length| bytes.get(..length) == Some(text.as_bytes()));
            println!("  {} of {}: {}", node.id, node.network, if hears { text } else { "hears nothing" });
            hears
        };
        listeners.iter().filter(hears).map(|(node, _)| node.id.clone()).collect()
    };
    lab.namespace(&from.id).ip(&format!("route replace 224.0.0.0/4 dev {NODE_DEVICE}"))?;
    let voice = socket(&from, 0)?;
    voice.send_to(b"to all", (Ipv4Addr::BROADCAST, port))?;
    let all = heard("to all");
    ensure!(all == ["acme-2", "acme-3"], "{all:?} heard it");
    for (node, socket) in
        listeners.iter().filter(|(node, _)| ["acme-3", "globex-3"].contains(&node.id.as_str()))
    {
        socket.join_multicast_v4(&group, &node.ipv4)?;
    }
    let members = |network: &str| -> Result<usize> {
        let path = format!("/v1/networks/{network}/groups");
        let page: Page<Membership> =
            provision::with_client(lab, async |client: Client| client.get(&path).await)?;
        Ok(page.items.len())
    };
    wait::until_ok("the service to hear of the members", Duration::from_secs(10), || {
        ensure!(members("acme-net")? == 1 && members("globex-net")? == 1, "they are not known yet");
        Ok(())
    })?;
    lab.wait_healthy(Duration::from_secs(10))?;
    voice.send_to(b"to members", (group, port))?;
    let members = heard("to members");
    ensure!(members == ["acme-3"], "{members:?} heard it");
    Ok("broadcast reached the network's nodes on both hosts, the group its one member, globex nobody"
        .to_owned())
}

fn spoofing(lab: &Lab) -> Result<String> {
    let (attacker, victim, target) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    println!("  {} sends {ATTEMPTS} packets to {} as {}", attacker.id, target.id, victim.ipv4);
    attack::spoof_ipv4(lab, &attacker, victim.ipv4, &target, ATTEMPTS)
}

fn forgery(lab: &Lab) -> Result<String> {
    let (victim, target) = (lab.node("acme-3")?, lab.node("acme-1")?);
    println!(
        "  the router sends {ATTEMPTS} packets to {} as {}, from a prefix where it does not live",
        target.id, victim.id
    );
    attack::forge_prefix(lab, &victim, &target, ATTEMPTS)
}

fn host_kernel(lab: &Lab) -> Result<String> {
    let node = lab.node("globex-1")?;
    println!(
        "  {} pings {} of {} by the hardware address of the host",
        node.id,
        attack::HOST_IPV4,
        node.host
    );
    attack::reach_host_kernel(lab, &node, ATTEMPTS)
}

fn attacks(lab: &Lab) -> Result<String> {
    let stopped = attack_classes::all(lab, ATTEMPTS)?;
    Ok(format!("{stopped} attacks, each stopped by its own reason, and by no other"))
}

fn events(lab: &Lab) -> Result<String> {
    let told = wait::until("the service to have been told", Duration::from_secs(20), || {
        let page: Page<Event> =
            provision::with_client(lab, async |client: Client| client.get("/v1/events?limit=100").await)?;
        let of = |kind| page.items.iter().any(|event: &Event| event.kind == kind);
        let both = of(EventKind::VerificationFailed) && of(EventKind::NodeSpoofing);
        Ok(both.then_some(page.items))
    })?;
    for event in &told {
        let from = event.prefix.as_ref().or(event.interface.as_ref()).map_or("", String::as_str);
        let host = event.host.as_deref().unwrap_or_default();
        println!(
            "  {:<20} {:<20} from {from}, told by {host}, {} times",
            event.kind.name(),
            event.reason,
            event.count
        );
    }
    Ok(format!("{} events, each with where it came from", told.len()))
}

/// Round trips of a session in a moment in which there should be none.
fn silence(session: &EchoSession) -> u64 {
    let before = session.turns();
    std::thread::sleep(MOMENT);
    session.turns() - before
}

fn token(lab: &Lab) -> Result<String> {
    let (own, other) = (lab.node("initech-1")?, lab.node("acme-1")?);
    let turned_away = || -> Result<f64> {
        Ok(service::scrape(lab)?.sum("overlane_control_api_refusals_total", &[("reason", "forbidden")]))
    };
    let before = turned_away()?;
    provision::with_token_of(lab, &own, |token| {
        let as_entity = |path: String| {
            let answer: Result<serde_json::Value> =
                provision::with_token(lab, token, async |client: Client| client.get(&path).await);
            match &answer {
                Ok(_) => println!("  GET {path}: answered"),
                Err(error) => println!("  GET {path}: {error:#}"),
            }
            answer
        };
        as_entity(format!("/v1/nodes/{}", own.id))?;
        let others =
            ["nodes", "networks", "entities"].into_iter().zip([&other.id, &other.network, &other.entity]);
        for (kind, id) in others {
            ensure!(as_entity(format!("/v1/{kind}/{id}")).is_err(), "{id} is shown");
        }
        ensure!(as_entity("/v1/hosts".to_owned()).is_err(), "hosts are shown");
        let networks = vec![own.network.clone(), other.network.clone()];
        let spec = PeeringSpec { networks, default_action: DefaultAction::Allow };
        let peering: Result<(bool, Peering)> = provision::with_token(lab, token, async |client: Client| {
            client.put("/v1/peerings/demo", &spec).await
        });
        let Err(refusal) = peering else { bail!("a peering with {} is made", other.network) };
        println!("  PUT /v1/peerings/demo: {refusal:#}");
        Ok(())
    })?;
    let counted = turned_away()? - before;
    ensure!(counted == 1.0, "{counted} requests are counted as turned away at the door");
    let pinged = ping(&lab.namespace(&own.id), other.ipv4, 2)?;
    ensure!(pinged.received == 0, "{} reaches {}", own.id, other.id);
    Ok("its own is all there is for it, hosts are not for it, and no way has opened".to_owned())
}

fn stolen(lab: &Lab) -> Result<String> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    let read =
        |name: &str, labels: &[(&str, &str)]| Ok::<_, anyhow::Error>(service::scrape(lab)?.sum(name, labels));
    let soon = Duration::from_secs(20);
    let issue = || -> Result<_> {
        let issued = certificates::authority(lab)?.issue_for(Kind::Host, &[&to.host], soon * 180)?;
        certificates::place(lab, &to.host, &issued)?;
        Ok(issued.serial)
    };
    let before = read("overlane_control_sync_streams_total", &[])?;
    let serial = issue()?;
    wait::until("the engine to come with it", soon, || {
        Ok((read("overlane_control_sync_streams_total", &[])? > before).then_some(()))
    })?;
    lab.wait_healthy(soon)?;
    println!("  the engine of {} has got another certificate, and gone over to it without a pause", to.host);
    certificates::revoke(lab, 2, &[serial])?;
    let cut = [("reason", "revoked")];
    wait::until("it to be cut off", soon, || {
        Ok((read("overlane_control_connections_cut_total", &cut)? >= 1.0).then_some(()))
    })?;
    println!("  revoked: its stream is cut, overlane_control_connections_cut_total{{reason=\"revoked\"}} 1");
    let refused = [("listener", "sync"), ("reason", "revoked")];
    wait::until("it to be refused", soon, || {
        Ok((read("overlane_control_handshakes_refused_total", &refused)? >= 1.0).then_some(()))
    })?;
    println!("  it tries again and again, and gets through no handshake");
    session.advance(50, soon)?;
    issue()?;
    lab.wait_healthy(soon)?;
    println!("  a new certificate brings it back");
    let report = session.finish()?;
    Ok(format!("{} round trips meanwhile: what is forwarded does not depend on the stream", report.turns))
}

fn peered(lab: &Lab) -> Result<String> {
    let (from, to) = (lab.node("acme-1")?, lab.node("initech-3")?);
    let reaches = || Ok::<_, anyhow::Error>(ping(&lab.namespace(&from.id), to.ipv4, 2)?.is_complete());
    ensure!(!reaches()?, "{} reaches {} before", from.id, to.id);
    println!("  {} ({}) and {} ({}) have nothing to do with each other", from.id, from.ipv4, to.id, to.ipv4);
    let networks = vec![from.network.clone(), to.network.clone()];
    let spec = PeeringSpec { networks, default_action: DefaultAction::Allow };
    let path = "/v1/peerings/demo";
    let _: (bool, Peering) = provision::change(lab, async |client: Client| client.put(path, &spec).await)?;
    ensure!(reaches()?, "{} does not reach {} in a peering", from.id, to.id);
    println!(
        "  {} and {} are peers: they reach each other, and a connection is made",
        from.network, to.network
    );
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    session.advance(50, Duration::from_secs(5))?;
    let turns = session.turns();
    provision::change(lab, async |client: Client| client.delete(path).await)?;
    let late = silence(&session);
    ensure!(late <= 1, "{late} round trips after the end of the peering");
    ensure!(!reaches()?, "{} reaches {} afterwards", from.id, to.id);
    session.abandon();
    Ok(format!("{turns} round trips while they were peers, none since"))
}

fn ruled(lab: &Lab) -> Result<String> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    session.advance(50, Duration::from_secs(5))?;
    let spec = provision::rule_about(&to, Direction::Ingress, Action::Reject);
    let path = "/v1/rules/demo";
    let _: (bool, Rule) = provision::change(lab, async |client: Client| client.put(path, &spec).await)?;
    println!("  from now on nobody may reach {}: the rule is acknowledged by both engines", to.id);
    let late = silence(&session);
    let refused = session::connect(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4);
    provision::change(lab, async |client: Client| client.delete(path).await)?;
    ensure!(late <= 1, "{late} round trips after the rule");
    ensure!(refused.is_err(), "a new connection was made");
    println!("  the connection stands still, and a new one is refused; the rule is taken back");
    let fresh = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    fresh.advance(50, Duration::from_secs(5))?;
    fresh.finish()?;
    session.abandon();
    Ok("cut at once, refused while the rule was there, possible again without it".to_owned())
}

fn service_killed(lab: &Lab) -> Result<String> {
    let (from, to) = (lab.node("globex-1")?, lab.node("globex-3")?);
    let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    session.advance(50, Duration::from_secs(5))?;
    lab.with_process(service::NAME, |process| process.kill())?;
    println!("  service killed; {} and {} go on talking", from.id, to.id);
    session.advance(500, Duration::from_secs(10))?;
    // A connection made without the service: nothing was only kept alive.
    let fresh = ping(&lab.namespace("acme-2"), lab.node("acme-3")?.ipv4, 5)?;
    ensure!(fresh.is_complete(), "{} of {} pings answered without the service", fresh.received, fresh.sent);
    lab.start_service()?;
    lab.wait_healthy(Duration::from_secs(20))?;
    println!("  service started again; both engines are in step with it");
    session.advance(50, Duration::from_secs(5))?;
    let report = session.finish()?;
    Ok(format!("{} round trips, none later than {} ms", report.turns, report.longest_gap.as_millis()))
}

fn node_moved(lab: &Lab) -> Result<String> {
    let (still, mover) = (lab.node("acme-1")?, lab.node("acme-2")?);
    let to = "host-b";
    ensure!(mover.host != to, "{} is on {to} already", mover.id);
    let session = EchoSession::start(&lab.namespace(&still.id), &lab.namespace(&mover.id), mover.ipv4)?;
    session.advance(50, Duration::from_secs(5))?;
    provision::move_node(lab, &mover.id, to)?;
    let moved = lab.node(&mover.id)?;
    println!(
        "  {} went from {} to {to}; substrate address now {}",
        mover.id,
        mover.host,
        lab.plan().substrate_address(&moved)?
    );
    session.advance(200, Duration::from_secs(10))?;
    let report = session.finish()?;
    Ok(format!(
        "{} round trips on one connection, longest pause {} ms",
        report.turns,
        report.longest_gap.as_millis()
    ))
}
