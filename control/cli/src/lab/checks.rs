//! `overlane lab test`: does everything that should reach one another do so, and nothing else?

use super::handle::Lab;
use super::inject::RawPort;
use super::plan::{NODE_DEVICE, Node};
use super::probe::{IperfServer, Load, Throughput, ping};
use super::progress::Progress;
use super::results::Results;
use super::session::transfer;
use anyhow::{Context, Result, ensure};
use std::net::UdpSocket;
use std::time::Duration;

/// Seconds that each iperf3 run lasts.
const LOAD_SECONDS: u32 = 1;
/// What a UDP run sends: far below what two engines on two shared cores carry, so that a loss means something.
const UDP_MEGABITS: u32 = 20;
/// The loss that a UDP run may have on a machine that others share, in percent.
const UDP_LOSS: f64 = 2.0;

/// Runs all checks.
///
/// # Errors
/// If the lab is not the standard one.
pub fn run(lab: &Lab, progress: &dyn Progress) -> Result<Results> {
    let plan = lab.plan();
    let mut results = Results::default();
    for network in &plan.networks {
        let nodes: Vec<&Node> = plan.nodes.iter().filter(|node| node.network == network.id).collect();
        for (index, from) in nodes.iter().enumerate() {
            for to in nodes.iter().skip(index + 1) {
                progress.step(&format!("ping {} and {}", from.id, to.id));
                results.note(
                    format!("ping {} - {} ({})", from.id, to.id, relation(from, to)),
                    ping_both_ways(lab, from, to),
                );
            }
        }
    }
    for network in &plan.networks {
        let nodes: Vec<&Node> = plan.nodes.iter().filter(|node| node.network == network.id).collect();
        let Some((from, others)) = nodes.split_first() else { continue };
        for to in others {
            let pair = format!("{} - {} ({})", from.id, to.id, relation(from, to));
            for (name, load) in [
                ("TCP", Load::Tcp),
                ("TCP back", Load::TcpReverse),
                ("UDP", Load::Udp(UDP_MEGABITS)),
                ("UDP back", Load::UdpReverse(UDP_MEGABITS)),
            ] {
                progress.step(&format!("{name} {pair}"));
                results.note(format!("{name} {pair}"), iperf(lab, from, to, load));
            }
            progress.step(&format!("comparing bytes {pair}"));
            results.note(format!("bytes intact {pair}"), intact(lab, from, to));
        }
    }
    for (one, other) in [("acme", "globex"), ("globex", "acme")] {
        progress.step(&format!("isolation of {other} from {one}"));
        for number in ["2", "3"] {
            let [from, to, stranger] =
                [format!("{one}-1"), format!("{one}-{number}"), format!("{other}-{number}")];
            results
                .note(format!("{from} reaches {to}, not {stranger}"), isolated(lab, &from, &to, &stranger));
        }
    }
    Ok(results)
}

fn relation(from: &Node, to: &Node) -> &'static str {
    if from.host == to.host { "one host" } else { "across hosts" }
}

fn ping_both_ways(lab: &Lab, from: &Node, to: &Node) -> Result<String> {
    let there = ping(&lab.namespace(&from.id), to.ipv4, 3)?;
    let back = ping(&lab.namespace(&to.id), from.ipv4, 3)?;
    ensure!(
        there.is_complete() && back.is_complete(),
        "{} of {} answered there, {} of {} back",
        there.received,
        there.sent,
        back.received,
        back.sent
    );
    Ok(format!("{:.2} ms, {:.2} ms", there.average_ms, back.average_ms))
}

/// Runs iperf3 between two nodes.
///
/// # Errors
/// If it fails, nothing arrives, or more UDP is lost than may be.
pub fn iperf(lab: &Lab, from: &Node, to: &Node, load: Load) -> Result<String> {
    let server = IperfServer::start(lab.state().path(), &to.id, &lab.namespace(&to.id), 5201)?;
    let result = server.load(&lab.namespace(&from.id), to.ipv4, load, LOAD_SECONDS)?;
    ensure!(result.bytes > 0, "nothing arrived");
    ensure!(result.lost_percent <= UDP_LOSS, "{:.1} % lost", result.lost_percent);
    Ok(describe(&result))
}

/// Bits a second, and the loss if there is any.
#[must_use]
pub fn describe(result: &Throughput) -> String {
    let megabits = result.bits_per_second / 1e6;
    let loss = if result.lost_percent > 0.0 {
        format!(", {:.1} % lost", result.lost_percent)
    } else {
        String::new()
    };
    if megabits < 1000.0 {
        format!("{megabits:.0} Mbit/s{loss}")
    } else {
        format!("{:.2} Gbit/s{loss}", megabits / 1e3)
    }
}

fn intact(lab: &Lab, from: &Node, to: &Node) -> Result<String> {
    let bytes = 4 << 20;
    let took = transfer(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4, bytes)?;
    Ok(format!("{} MiB each way in {} ms", bytes >> 20, took.as_millis()))
}

/// Shows that a packet reaches its destination and not the node of another network that has the same address.
///
/// # Errors
/// If it does not arrive, or does where it must not.
pub fn isolated(lab: &Lab, from: &str, to: &str, stranger: &str) -> Result<String> {
    let (from, to, stranger) = (lab.node(from)?, lab.node(to)?, lab.node(stranger)?);
    ensure!(to.ipv4 == stranger.ipv4 && to.network != stranger.network, "the two are not namesakes");
    let peer = lab.plan().nodes.into_iter().find(|n| n.network == stranger.network && n.id != stranger.id);
    let peer = peer.context("the stranger is alone in its network")?;
    let near = RawPort::open(&lab.namespace(&to.id), NODE_DEVICE)?;
    let far = RawPort::open(&lab.namespace(&stranger.id), NODE_DEVICE)?;
    let secret = format!("for {} alone", to.id);
    let marker = format!("for {} alone", stranger.id);
    say(lab, &from, &to, &secret)?;
    let arrived = near.receive(Duration::from_secs(2), |frame| contains(frame, &secret))?;
    ensure!(arrived.is_some(), "a datagram to {} did not arrive", to.id);
    // What the stranger sees up to the marker is all that it can have seen of the secret.
    say(lab, &peer, &stranger, &marker)?;
    let seen =
        far.receive(Duration::from_secs(2), |frame| contains(frame, &secret) || contains(frame, &marker))?;
    let seen = seen.with_context(|| format!("a datagram to {} did not arrive", stranger.id))?;
    ensure!(!contains(&seen, &secret), "{} received what was sent to {}", stranger.id, to.id);
    Ok(format!("{} in both networks", to.ipv4))
}

/// Sends one datagram from a node to another's discard port.
///
/// # Errors
/// If the sender's kernel refuses.
pub fn say(lab: &Lab, from: &Node, to: &Node, what: &str) -> Result<()> {
    let socket = lab.namespace(&from.id).enter(|| Ok(UdpSocket::bind((from.ipv4, 0))?))?;
    socket
        .send_to(what.as_bytes(), (to.ipv4, 9))
        .with_context(|| format!("from {} to {}", from.id, to.id))?;
    Ok(())
}

/// Whether a frame carries this text.
#[must_use]
pub fn contains(frame: &[u8], text: &str) -> bool {
    frame.windows(text.len()).any(|window| window == text.as_bytes())
}
