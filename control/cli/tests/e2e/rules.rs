//! Rules and peerings on real parts: what they stop, what they let pass, and when.

use crate::fixture::{Case, in_lab};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use overlane_api::policy::{
    Action, DefaultAction, Direction, Peering, PeeringSpec, Rule, RuleSpec, Selector,
};
use overlane_api::resource::Node as NodeResource;
use overlane_cli::client::Client;
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort, tcp4};
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision::{self, change, node_spec, rule_about, with_client};
use overlane_cli::lab::session::{EchoSession, is_silent};
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::wait;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::wire::tcp;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_rule_cuts_a_live_connection_and_its_end_lets_new_ones_pass", cut),
    Case::Shared("replies_pass_where_nothing_may_come_in_by_itself", replies),
    Case::Shared("a_rejected_connection_is_refused_at_once_within_a_host_and_across", rejected),
    Case::Shared("a_rule_about_a_tag_follows_whoever_carries_it", tags),
    Case::Shared("a_peering_lets_two_networks_talk_and_its_end_cuts_what_was_open", peering),
    Case::Shared("the_answer_to_a_rule_test_is_what_happens", tested),
    Case::Shared(
        "rules_that_change_under_traffic_let_nothing_pass_that_neither_the_old_nor_the_new_allow",
        changing,
    ),
    Case::Shared("no_rule_no_arp_for_those_with_whom_nothing_may_be_exchanged", unresolved),
    Case::Alone("a_flood_of_connections_from_one_node_leaves_others_their_room", flood),
    Case::Alone("a_site_file_with_rules_is_kept_to_and_read_again", from_file),
];

const SOON: Duration = Duration::from_secs(10);

fn about(peer: &str) -> Selector {
    Selector { node: Some(peer.to_owned()), ..Selector::default() }
}

fn rule(lab: &Lab, on: &str, direction: Direction, action: Action) -> Result<RuleSpec> {
    Ok(rule_about(&lab.node(on)?, direction, action))
}

fn put_rule(lab: &Lab, id: &str, spec: &RuleSpec) -> Result<Rule> {
    let path = format!("/v1/rules/{id}");
    let (_, made): (bool, Rule) = change(lab, async |client: Client| client.put(&path, spec).await)?;
    Ok(made)
}

fn delete(lab: &Lab, path: &str) -> Result<()> {
    change(lab, async |client: Client| client.delete(path).await)
}

/// Does `work` while rules are in force.
fn under<T>(lab: &Lab, rules: &[(&str, RuleSpec)], work: impl FnOnce() -> Result<T>) -> Result<T> {
    for (id, spec) in rules {
        put_rule(lab, id, spec)?;
    }
    let outcome = work();
    for (id, _) in rules {
        delete(lab, &format!("/v1/rules/{id}"))?;
    }
    outcome
}

fn is_answered(lab: &Lab, from: &Node, to: &Node) -> Result<bool> {
    Ok(ping(&lab.namespace(&from.id), to.ipv4, 2)?.is_complete())
}

fn cut(lab: &Lab) -> Result<()> {
    // The sender's rule, across hosts; the receiver's, within one.
    for (from, to, spec, reason) in [
        (
            "acme-1",
            "acme-3",
            RuleSpec { peer: about("acme-3"), ..rule(lab, "acme-1", Direction::Egress, Action::Deny)? },
            DropReason::EgressDenied,
        ),
        (
            "acme-1",
            "acme-2",
            rule(lab, "acme-2", Direction::Ingress, Action::Deny)?,
            DropReason::IngressDenied,
        ),
    ] {
        let (from, to) = (lab.node(from)?, lab.node(to)?);
        let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
        session.advance(50, SOON)?;
        let before = lab_drops(lab, &from.host, reason)?;
        under(lab, &[("cut", spec)], || {
            // After the acknowledgement nothing passes: whatever was on its way had its time.
            let turns = session.turns();
            wait::until("a segment to be dropped", SOON, || {
                Ok((lab_drops(lab, &from.host, reason)? > before).then_some(()))
            })?;
            ensure!(session.turns() <= turns + 1, "{} turns after the rule", session.turns() - turns);
            ensure!(!is_answered(lab, &from, &to)?, "{} answers {}", to.id, from.id);
            Ok(())
        })?;
        // TCP has not given up: the flow is taken up in the middle.
        session.advance(50, Duration::from_secs(20))?;
        session.finish()?;
        ensure!(is_answered(lab, &from, &to)?, "{} does not answer {}", to.id, from.id);
    }
    Ok(())
}

fn lab_drops(lab: &Lab, host: &str, reason: DropReason) -> Result<u64> {
    use overlane_cli::lab::metrics::Metrics;
    use overlane_cli::lab::plan::TELEMETRY;
    let metrics = Metrics::scrape(&lab.namespace(host), TELEMETRY)?;
    Ok(metrics.sum("overlane_drops_total", &[("reason", reason.name())]) as u64)
}

fn replies(lab: &Lab) -> Result<()> {
    let closed = lab.node("acme-1")?;
    under(lab, &[("closed", rule(lab, "acme-1", Direction::Ingress, Action::Deny)?)], || {
        for other in ["acme-2", "acme-3"] {
            let other = lab.node(other)?;
            ensure!(is_answered(lab, &closed, &other)?, "{} does not answer {}", other.id, closed.id);
            let session =
                EchoSession::start(&lab.namespace(&closed.id), &lab.namespace(&other.id), other.ipv4)?;
            session.advance(20, SOON)?;
            expect_drops(lab, &closed.host, &[(DropReason::IngressDenied, 2)], || {
                ensure!(!is_answered(lab, &other, &closed)?, "{} reaches {}", other.id, closed.id);
                Ok(())
            })?;
            session.advance(20, SOON)?;
            session.finish()?;
        }
        Ok(())
    })
}

/// How an attempt to connect ends.
fn connect(lab: &Lab, from: &Node, to: SocketAddr) -> Result<std::io::Result<TcpStream>> {
    lab.namespace(&from.id).enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))))
}

fn rejected(lab: &Lab) -> Result<()> {
    let from = lab.node("acme-1")?;
    for to in ["acme-2", "acme-3"] {
        let target = lab.node(to)?;
        let spec = RuleSpec {
            protocol: Some("tcp".to_owned()),
            ports: Some("1-1023".to_owned()),
            ..rule(lab, to, Direction::Ingress, Action::Reject)?
        };
        under(lab, &[("no-low-ports", spec)], || {
            let began = Instant::now();
            let refused = connect(lab, &from, (target.ipv4, 22).into())?;
            ensure!(
                refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused),
                "{to}: {refused:?}"
            );
            ensure!(began.elapsed() < Duration::from_secs(1), "after {:?}", began.elapsed());
            let session = EchoSession::start(&lab.namespace(&from.id), &lab.namespace(to), target.ipv4)?;
            session.advance(10, SOON)?;
            session.finish().map(|_| ())
        })?;
        // Other than TCP is answered by ICMP, as nodes see it.
        under(
            lab,
            &[(
                "no-icmp",
                RuleSpec {
                    protocol: Some("icmp".to_owned()),
                    ..rule(lab, to, Direction::Ingress, Action::Reject)?
                },
            )],
            || {
                let mut command = lab.namespace(&from.id).command("ping");
                let output = command.args(["-n", "-c", "1", "-W", "2", &target.ipv4.to_string()]).output()?;
                let said = String::from_utf8_lossy(&output.stdout);
                let prohibited =
                    said.contains("Packet filtered") || said.contains("Destination Host Prohibited");
                ensure!(prohibited, "{to}: {said}");
                Ok(())
            },
        )?;
    }
    Ok(())
}

fn tags(lab: &Lab) -> Result<()> {
    let (from, friend) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let marked = |node: &Node, tags: &[&str]| {
        let mut spec = node_spec(node, overlane_api::resource::AttachmentKind::Veth);
        spec.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        spec
    };
    let put = |node: &Node, tags: &[&str]| -> Result<()> {
        let (path, spec) = (format!("/v1/nodes/{}", node.id), marked(node, tags));
        let _: (bool, NodeResource) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
        Ok(())
    };
    let spec = RuleSpec {
        peer: Selector { tag: Some("outcast".to_owned()), ..Selector::default() },
        ..rule(lab, "acme-1", Direction::Egress, Action::Deny)?
    };
    under(lab, &[("outcasts", spec)], || {
        ensure!(is_answered(lab, &from, &friend)?, "before it has the tag");
        put(&friend, &["outcast"])?;
        let outcome = expect_drops(lab, &from.host, &[(DropReason::EgressDenied, 2)], || {
            ensure!(!is_answered(lab, &from, &friend)?, "with the tag");
            Ok(())
        });
        put(&friend, &[])?;
        outcome?;
        ensure!(is_answered(lab, &from, &friend)?, "when the tag is gone");
        Ok(())
    })
}

fn peering(lab: &Lab) -> Result<()> {
    let pairs = [("acme-1", "initech-1"), ("acme-1", "initech-3"), ("initech-1", "acme-3")];
    let spec = PeeringSpec {
        networks: vec!["initech-net".to_owned(), "acme-net".to_owned()],
        default_action: DefaultAction::Allow,
    };
    let (from, to) = (lab.node("acme-1")?, lab.node("initech-3")?);
    ensure!(!is_answered(lab, &from, &to)?, "without a peering");
    let path = "/v1/peerings/acme-initech";
    let (_, made): (bool, Peering) = change(lab, async |client: Client| client.put(path, &spec).await)?;
    ensure!(made.open, "{made:?}");
    let talk = || -> Result<EchoSession> {
        for (from, to) in pairs {
            let (from, to) = (lab.node(from)?, lab.node(to)?);
            ensure!(is_answered(lab, &from, &to)?, "{} does not answer {}", to.id, from.id);
        }
        // A network that has the same addresses as the peer is none.
        let stranger = lab.node("globex-1")?;
        ensure!(!is_answered(lab, &stranger, &to)?, "{} reaches {}", stranger.id, to.id);
        EchoSession::start(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)
    };
    let session = talk();
    let closed = session.and_then(|session| session.advance(50, SOON).map(|()| session));
    delete(lab, path)?;
    let session = closed?;
    let turns = session.turns();
    ensure!(!is_answered(lab, &from, &to)?, "after the peering");
    ensure!(session.turns() <= turns + 1, "{} turns after the peering's end", session.turns() - turns);
    // Opened again, the connection goes on; then both leave the lab as it was.
    let _: (bool, Peering) = change(lab, async |client: Client| client.put(path, &spec).await)?;
    let again = session.advance(20, Duration::from_secs(20)).and_then(|()| session.finish());
    delete(lab, path)?;
    again.map(|_| ())
}

fn tested(lab: &Lab) -> Result<()> {
    use overlane_api::policy::{RuleTest, RuleVerdict};
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let spec = RuleSpec {
        protocol: Some("tcp".to_owned()),
        ports: Some("7".to_owned()),
        ..rule(lab, "acme-3", Direction::Ingress, Action::Reject)?
    };
    under(lab, &[("no-echo", spec)], || {
        for port in [7u16, 8] {
            let asked = RuleTest {
                from: from.id.clone(),
                to: to.id.clone(),
                protocol: "tcp".to_owned(),
                port: Some(port.into()),
                source_port: None,
                icmp: None,
                size: None,
            };
            let verdict: RuleVerdict =
                with_client(lab, async |client: Client| client.post("/v1/rules/test", &asked).await)?;
            let drops = if verdict.passes { 0 } else { 1 };
            ensure!(verdict.passes == (port == 8) && verdict.obstacles.is_empty(), "{verdict:?}");
            let before = lab_drops(lab, &to.host, DropReason::IngressDenied)?;
            // Nobody listens: both are refused, one of them by the engine.
            let refused = connect(lab, &from, (to.ipv4, port).into())?;
            ensure!(refused.is_err(), "somebody listens at {port}");
            let dropped = lab_drops(lab, &to.host, DropReason::IngressDenied)? - before;
            ensure!(dropped == drops, "{port}: {dropped} drops and {verdict:?}");
        }
        Ok(())
    })
}

fn unresolved(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let both = |direction| RuleSpec { peer: about("acme-3"), ..rule_about(&from, direction, Action::Deny) };
    under(lab, &[("no-out", both(Direction::Egress)), ("no-in", both(Direction::Ingress))], || {
        lab.namespace(&from.id).ip("neigh flush all")?;
        let silent = is_silent(&lab.namespace(&from.id), (to.ipv4, 9).into(), Duration::from_millis(500))?;
        ensure!(silent, "something answers");
        wait::until("ARP to go without an answer", SOON, || {
            let output = lab
                .namespace(&from.id)
                .command("ip")
                .args(["neigh", "show", &to.ipv4.to_string()])
                .output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok((said.contains("FAILED") || said.contains("INCOMPLETE")).then_some(()))
        })
    })?;
    lab.namespace(&from.id).ip("neigh flush all")?;
    ensure!(is_answered(lab, &from, &to)?, "{} does not answer {} afterwards", to.id, from.id);
    Ok(())
}

/// Numbered datagrams to several ports of a node, as fast as they go, and what arrives at each.
struct Stream {
    sent: Arc<AtomicU64>,
    /// By port: how many have arrived, and the highest number among them.
    arrived: Vec<Arc<[AtomicU64; 2]>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    fn start(lab: &Lab, from: &Node, to: &Node, ports: &[u16]) -> Result<Self> {
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (mut arrived, mut threads) = (Vec::new(), Vec::new());
        for port in ports {
            let socket = lab.namespace(&to.id).enter(|| Ok(UdpSocket::bind((to.ipv4, *port))?))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            let counts = Arc::<[AtomicU64; 2]>::default();
            arrived.push(counts.clone());
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || {
                let mut number = [0; 8];
                while !stop.load(Relaxed) {
                    if socket.recv(&mut number).is_ok() {
                        let [count, highest] = &*counts;
                        highest.fetch_max(u64::from_be_bytes(number), Relaxed);
                        count.fetch_add(1, Relaxed);
                    }
                }
            }));
        }
        let socket = lab.namespace(&from.id).enter(|| Ok(UdpSocket::bind((from.ipv4, 0))?))?;
        let targets: Vec<SocketAddr> = ports.iter().map(|port| (to.ipv4, *port).into()).collect();
        let (counter, stopped) = (sent.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                for target in &targets {
                    // Counted first: what is counted later was sent later.
                    let number = counter.fetch_add(1, Relaxed) + 1;
                    let _ = socket.send_to(&number.to_be_bytes(), target);
                }
                // Some 30,000 a second, which two processors can carry and receive.
                std::thread::sleep(Duration::from_micros(50));
            }
        }));
        Ok(Self { sent, arrived, stop, threads })
    }

    fn count(&self, place: usize) -> u64 {
        self.arrived.get(place).map_or(0, |counts| counts[0].load(Relaxed))
    }

    fn highest(&self, place: usize) -> u64 {
        self.arrived.get(place).map_or(0, |counts| counts[1].load(Relaxed))
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn changing(lab: &Lab) -> Result<()> {
    const PORTS: [u16; 3] = [7001, 7002, 7003];
    let from = lab.node("acme-1")?;
    // Within the host, and across.
    for to in ["acme-2", "acme-3"] {
        let target = lab.node(to)?;
        let udp = |ports: Option<u16>, priority, action| -> Result<RuleSpec> {
            let ports = ports.map(|port| port.to_string());
            let all = rule(lab, to, Direction::Ingress, action)?;
            Ok(RuleSpec { protocol: Some("udp".to_owned()), ports, priority, ..all })
        };
        let rules = [("open", udp(Some(PORTS[0]), 1, Action::Allow)?), ("rest", udp(None, 2, Action::Deny)?)];
        under(lab, &rules, || {
            let stream = Stream::start(lab, &from, &target, &PORTS)?;
            let outcome = (1..=20usize).try_for_each(|round| {
                let (open, closed) = (round % 2, 1 - round % 2);
                let port = PORTS.get(open).copied();
                put_rule(lab, "open", &udp(port, 1, Action::Allow)?)?;
                // Every engine has acknowledged it: what is sent from now on is judged by it.
                let after = stream.sent.load(Relaxed);
                wait::until("what is open now to arrive", SOON, || {
                    Ok((stream.highest(open) > after + 300).then_some(()))
                })?;
                let late = stream.highest(closed);
                ensure!(
                    late <= after,
                    "{to}, round {round}: number {late} came by the old rule, after {after}"
                );
                Ok(())
            });
            let never = stream.count(2);
            stream.end();
            outcome?;
            ensure!(never == 0, "{to}: {never} datagrams came that no rule has ever let pass");
            Ok(())
        })?;
    }
    Ok(())
}

fn flood() -> Result<()> {
    const FLOWS: u64 = 2048;
    let engine = format!("[flows]\ncapacity = {}\nper_node = {FLOWS}\n", 4 * FLOWS);
    in_lab("flood", Shape { engine, ..Shape::default() }, |lab| {
        // Their networks go by flows, as with rules.
        let site = provision::static_file(&lab.plan())?;
        provide(lab, &site.replace("\n[[network]]\n", "\n[[network]]\nstateful = true\n"))?;
        let (attacker, target) = (lab.node("acme-1")?, lab.node("acme-3")?);
        let flows =
            || -> Result<u64> { Ok(engine::scrape(lab, &attacker.host)?.sum("overlane_flows", &[]) as u64) };
        wait::until("flows to be noted", SOON, || {
            ensure!(is_answered(lab, &attacker, &target)?, "{} does not answer", target.id);
            Ok((flows()? > 0).then_some(()))
        })?;
        let port = RawPort::open(&lab.namespace(&attacker.id), NODE_DEVICE)?;
        let mut syn = tcp4(Macs::between(&attacker, &target)?, attacker.ipv4, target.ipv4, b"")?;
        syn[47] = tcp::flag::SYN;
        let mut attack = |numbers: std::ops::Range<u64>| -> Result<()> {
            for number in numbers {
                syn[34..36].copy_from_slice(&(number as u16).to_be_bytes());
                port.send(&syn)?;
            }
            Ok(())
        };
        attack(0..FLOWS)?;
        wait::until("its flows to be all there are for it", SOON, || Ok((flows()? >= FLOWS).then_some(())))?;
        let before = lab_drops(lab, &attacker.host, DropReason::FlowLimit)?;
        attack(FLOWS..FLOWS + 500)?;
        let friend = lab.node("acme-2")?;
        let listener = lab.namespace(&target.id).enter(|| Ok(TcpListener::bind((target.ipv4, 0))?))?;
        let to = listener.local_addr()?;
        let accepting =
            std::thread::spawn(move || listener.incoming().take(1000).filter(Result::is_ok).count());
        for number in 0..1000 {
            connect(lab, &friend, to)?.with_context(|| format!("connection {number}"))?;
        }
        ensure!(accepting.join().is_ok_and(|accepted| accepted == 1000), "not all were accepted");
        let dropped = lab_drops(lab, &attacker.host, DropReason::FlowLimit)? - before;
        // As many as it had no room for, but for those whose place came free meanwhile.
        ensure!((400..=600).contains(&dropped), "{dropped} of 500 dropped");
        Ok(())
    })
}

fn from_file() -> Result<()> {
    in_lab("rules", Shape::default(), |lab| {
        let good = provision::static_file(&lab.plan())?;
        let (closed, other) = (lab.node("acme-1")?, lab.node("acme-3")?);
        let rule = "\n[[rule]]\nid = \"closed\"\npriority = 1\ndirection = \"ingress\"\non = { node = \"acme-1\" }\n\
                    action = \"deny\"\n";
        provide(lab, &format!("{good}{rule}"))?;
        wait::until("the rule", SOON, || Ok((!is_answered(lab, &other, &closed)?).then_some(())))?;
        ensure!(is_answered(lab, &closed, &other)?, "replies do not pass");
        provide(lab, &good)?;
        wait::until("the rule's end", SOON, || Ok(is_answered(lab, &other, &closed)?.then_some(())))
    })
}

/// Gives every engine another site file.
fn provide(lab: &Lab, site: &str) -> Result<()> {
    lab.state().write(provision::FILE, site)?;
    for host in &lab.plan().hosts {
        lab.with_process(&engine::process_name(&host.id), |process| process.signal(Signal::SIGHUP))?;
    }
    Ok(())
}
