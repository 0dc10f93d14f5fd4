//! What fails, and what it costs the others.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::resource::InterfaceState;
use overlane_cli::lab::attack::{expect_drops, repeat, substrate_port};
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::{Lab, find_binary};
use overlane_cli::lab::inject::{Macs, RawPort, udp4, udp6};
use overlane_cli::lab::netns::{Namespace, run};
use overlane_cli::lab::plan::{GATEWAY, NODE_DEVICE};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::provision;
use overlane_cli::lab::service;
use overlane_cli::lab::session::{DatagramStream, EchoSession};
use overlane_cli::lab::{wait, wiring};
use overlane_dataplane::drop::DropReason;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("traffic_goes_on_while_the_service_is_killed_and_started_again", service_killed),
    Case::Shared("an_engine_killed_while_the_service_is_away_forwards_from_its_own_disk", engine_killed),
    Case::Shared("a_device_deleted_and_made_again_is_attached_again_and_disturbs_nobody", device_again),
    Case::Shared("a_node_that_is_not_live_neither_gets_packets_nor_sends_any", not_live),
    Case::Shared("a_stuck_node_costs_others_nothing", stuck),
    Case::Shared("a_live_connection_survives_its_node_moving_there_and_back", moved),
    Case::Shared("a_host_is_drained_of_its_nodes_whose_connections_go_on", drained),
];

const SOON: Duration = Duration::from_secs(10);

fn session(lab: &Lab, from: &str, to: &str) -> Result<EchoSession> {
    EchoSession::start(&lab.namespace(from), &lab.namespace(to), lab.node(to)?.ipv4)
}

fn reaches(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let result = ping(&lab.namespace(from), lab.node(to)?.ipv4, 2)?;
    ensure!(result.is_complete(), "{from} to {to}: {} of {} answered", result.received, result.sent);
    Ok(())
}

fn soon_reaches(lab: &Lab, from: &str, to: &str) -> Result<()> {
    wait::until_ok(&format!("{from} to reach {to}"), SOON, || reaches(lab, from, to))
}

fn service_killed(lab: &Lab) -> Result<()> {
    let session = session(lab, "acme-1", "acme-3")?;
    session.advance(20, SOON)?;
    lab.with_process(service::NAME, |process| process.kill())?;
    let outcome = (|| {
        session.advance(100, SOON)?;
        // What was not talked about before works as well.
        reaches(lab, "globex-2", "globex-3")?;
        // An engine without its service is live, and ready to forward.
        let alive = engine::ask(lab, "host-a", "GET", "/livez", "")?;
        ensure!(alive.status == 200, "/livez answers {}", alive.status);
        Ok(())
    })();
    lab.start_service()?;
    outcome?;
    lab.wait_healthy(Duration::from_secs(20))?;
    session.advance(20, SOON)?;
    let report = session.finish()?;
    ensure!(report.longest_gap < Duration::from_millis(500), "a pause of {:?}", report.longest_gap);
    Ok(())
}

fn engine_killed(lab: &Lab) -> Result<()> {
    let (through, local) = (session(lab, "acme-3", "acme-1")?, session(lab, "globex-1", "globex-2")?);
    through.advance(20, SOON)?;
    local.advance(20, SOON)?;
    lab.with_process(service::NAME, |process| process.kill())?;
    let outcome = (|| {
        lab.with_process(&engine::process_name("host-a"), |process| process.kill())?;
        ensure!(reaches(lab, "globex-1", "globex-3").is_err(), "something forwards without an engine");
        lab.start_engine("host-a")?;
        // Everything that was there is there again, without the service having been asked.
        for (from, to) in [("acme-1", "acme-3"), ("globex-3", "globex-1"), ("acme-1", "acme-2")] {
            soon_reaches(lab, from, to)?;
        }
        through.advance(20, SOON)?;
        local.advance(20, SOON)
    })();
    lab.start_service()?;
    outcome?;
    lab.wait_healthy(Duration::from_secs(20))?;
    through.finish()?;
    local.finish()?;
    Ok(())
}

/// The state that the service has of a node's interface.
fn state(lab: &Lab, node: &str) -> Result<InterfaceState> {
    let node = provision::node(lab, node)?;
    Ok(node.interfaces.first().context("no interface")?.state)
}

pub(crate) fn wait_state(lab: &Lab, node: &str, wanted: &[InterfaceState]) -> Result<()> {
    wait::until_ok(&format!("{node} to be {wanted:?}"), SOON, || {
        let state = state(lab, node)?;
        ensure!(wanted.contains(&state), "it is {state}");
        Ok(())
    })
}

fn device_again(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let node = lab.node("acme-2")?;
    let (local, through) = (session(lab, "globex-1", "globex-2")?, session(lab, "acme-1", "acme-3")?);
    local.advance(20, SOON)?;
    through.advance(20, SOON)?;
    for _ in 0..3 {
        wiring::disconnect_node(&plan, &node)?;
        wait_state(lab, &node.id, &[InterfaceState::Gone, InterfaceState::Defined])?;
        wiring::connect_node(&plan, &node)?;
        wait_state(lab, &node.id, &[InterfaceState::Live])?;
        soon_reaches(lab, "acme-1", "acme-2")?;
        soon_reaches(lab, "acme-3", "acme-2")?;
    }
    for (name, session) in [("within the host", local), ("across hosts", through)] {
        let report = session.finish()?;
        ensure!(
            report.longest_gap < Duration::from_millis(500),
            "{name} a pause of {:?}",
            report.longest_gap
        );
    }
    crate::malformed::wait_mempool_full(lab, &node.host)
}

fn not_live(lab: &Lab) -> Result<()> {
    const FRAMES: u64 = 20;
    let plan = lab.plan();
    let (gone, near, far) = (lab.node("acme-2")?, lab.node("acme-1")?, lab.node("acme-3")?);
    wiring::disconnect_node(&plan, &gone)?;
    let outcome = (|| {
        wait_state(lab, &gone.id, &[InterfaceState::Gone, InterfaceState::Defined])?;
        provision_in_step(lab)?;
        for sender in [&near, &far] {
            let port = RawPort::open(&lab.namespace(&sender.id), NODE_DEVICE)?;
            let frame = udp4(Macs::between(sender, &gone)?, sender.ipv4, gone.ipv4, b"anybody there?")?;
            expect_drops(lab, &sender.host, &[(DropReason::DstNotLive, FRAMES)], || {
                repeat(&port, &frame, FRAMES)
            })
            .with_context(|| format!("from {}", sender.id))?;
        }
        // Somebody in its place on the substrate.
        let (port, macs) = substrate_port(lab, &far.host)?;
        let frame = udp6(macs, plan.substrate_address(&gone)?, plan.substrate_address(&far)?, b"it is me")?;
        expect_drops(lab, &far.host, &[(DropReason::SrcNotLive, FRAMES)], || repeat(&port, &frame, FRAMES))
            .map(|_| ())
    })();
    wiring::connect_node(&plan, &gone)?;
    wait_state(lab, &gone.id, &[InterfaceState::Live])?;
    outcome?;
    soon_reaches(lab, "acme-3", "acme-2")
}

/// Waits until the engines forward by what the service knows.
fn provision_in_step(lab: &Lab) -> Result<()> {
    wait::until_ok("the engines to be in step", SOON, || {
        let status = provision::status(lab)?;
        ensure!(status.hosts_in_step == status.hosts, "{} of {}", status.hosts_in_step, status.hosts);
        Ok(())
    })
}

fn stuck(lab: &Lab) -> Result<()> {
    const AT_ONCE: u64 = 16;
    const TURNS: u64 = 200;
    let (flooder, victim) = (lab.node("acme-1")?, lab.node("acme-2")?);
    let namespace = lab.namespace(&victim.id);
    let port = RawPort::open(&lab.namespace(&flooder.id), NODE_DEVICE)?;
    let frame = udp4(Macs::between(&flooder, &victim)?, flooder.ipv4, victim.ipv4, &[0; 1000])?;
    let local = session(lab, "globex-1", "globex-2")?;
    let datagrams = DatagramStream::start(
        &lab.namespace("globex-1"),
        &lab.namespace("globex-3"),
        lab.node("globex-3")?.ipv4,
    )?;
    local.advance(20, SOON)?;
    datagrams.advance(20, SOON)?;
    // Somebody sends to the stuck node while the others talk on.
    let flood = |turns| {
        let before = local.turns();
        while local.turns() < before + turns {
            repeat(&port, &frame, AT_ONCE)?;
            local.advance(1, SOON)?;
        }
        datagrams.advance(turns / 2, SOON)
    };
    // It takes nothing any more.
    namespace.ip(&format!("link set {NODE_DEVICE} down"))?;
    let outcome = flood(TURNS);
    // Its address stayed, its routes did not.
    namespace.ip(&format!("link set {NODE_DEVICE} up\nroute add default via {GATEWAY}"))?;
    outcome?;
    wait_state(lab, &victim.id, &[InterfaceState::Live])?;
    soon_reaches(lab, "acme-1", "acme-2")?;

    never_reads(&namespace)?;
    let outcome = (|| {
        let before = engine::scrape(lab, &victim.host)?;
        wait::until_ok("the port to take no more", SOON, || {
            repeat(&port, &frame, 4 * AT_ONCE)?;
            let drops = engine::scrape(lab, &victim.host)?.drops_since(&before);
            ensure!(drops.contains_key(DropReason::TxQueueFull.name()), "only {drops:?}");
            Ok(())
        })?;
        // What was on its way to the port is there by now.
        crate::malformed::wait_mempool_full(lab, &victim.host)?;
        let others = [DropReason::HandoffFull, DropReason::TxRefused, DropReason::NoBuffer];
        let expected = [(DropReason::TxQueueFull, 64 * AT_ONCE)].into_iter();
        let expected: Vec<_> = expected.chain(others.map(|reason| (reason, 0))).collect();
        expect_drops(lab, &victim.host, &expected, || {
            (0..64).try_for_each(|_| {
                repeat(&port, &frame, AT_ONCE)?;
                local.advance(1, SOON)
            })
        })?;
        flood(TURNS)
    })();
    reads_again(&namespace)?;
    outcome?;

    let (local, datagrams) = (local.finish()?, datagrams.finish()?);
    ensure!(local.longest_gap < Duration::from_millis(500), "a pause of {:?}", local.longest_gap);
    // The last ones may still have been under way.
    ensure!(datagrams.lost <= 5, "{} of {} datagrams lost", datagrams.lost, datagrams.turns + datagrams.lost);
    wait_state(lab, &victim.id, &[InterfaceState::Live])?;
    soon_reaches(lab, "acme-1", "acme-2")?;
    crate::malformed::wait_mempool_full(lab, &victim.host)
}

/// Has a node put whatever comes in into a queue that nobody empties, as long as it likes: packets of its engine's,
/// still counted against the socket that sent them.
fn never_reads(node: &Namespace) -> Result<()> {
    tc(
        node,
        &format!(
            "qdisc add dev {NODE_DEVICE} root tbf rate 8bit burst 2000 limit 1gb\n\
             qdisc add dev {NODE_DEVICE} clsact\n\
             filter add dev {NODE_DEVICE} ingress protocol ip u32 match u32 0 0 \
             action mirred egress redirect dev {NODE_DEVICE}"
        ),
    )
}

/// The queue goes, with what is in it.
fn reads_again(node: &Namespace) -> Result<()> {
    tc(node, &format!("qdisc del dev {NODE_DEVICE} clsact\nqdisc del dev {NODE_DEVICE} root"))
}

/// Runs commands of tc, one per line.
fn tc(node: &Namespace, commands: &str) -> Result<()> {
    commands.lines().try_for_each(|line| run(node.command("tc").args(line.split_whitespace())).map(|_| ()))
}

/// Drains a host by the command, while its devices are carried over as an orchestrator does.
fn drained(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let (from, to) = ("host-b", "host-a");
    let leaving: Vec<_> = plan.nodes.iter().filter(|node| node.host == from).cloned().collect();
    let session = session(lab, "acme-1", "acme-3")?;
    session.advance(20, SOON)?;
    let mut command = plan.service().command(find_binary("overlane")?);
    command.arg("--config").arg(lab.state().file("conf/cli.toml"));
    command.args(["host", "drain", from, "--to", to, "--at-once", "2", "--timeout", "30"]);
    let drain = std::thread::spawn(move || command.output());
    for node in &leaving {
        wait::until_ok(&format!("{} to be on its way", node.id), SOON, || {
            ensure!(provision::node(lab, &node.id)?.moving.is_some(), "it is not moving");
            Ok(())
        })?;
        wiring::carry_over(&plan, &node.device, from, to)?;
    }
    let output = drain.join().map_err(|_| anyhow::anyhow!("the command panicked"))??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome = (|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{said}{complaint}");
        for node in &leaving {
            ensure!(said.contains(&node.id), "{} is not among them: {said}", node.id);
            let there = provision::node(lab, &node.id)?;
            ensure!(there.host == to, "{} is on {}", node.id, there.host);
            let slot = there.interfaces.first().context("it has no interface")?.slot;
            lab.relocate(&node.id, to, u8::try_from(slot)?)?;
        }
        session.advance(50, SOON).context("a connection during the drain")?;
        session.finish().map(|_| ())
    })();
    for node in &leaving {
        provision::move_node(lab, &node.id, from)?;
    }
    outcome
}

fn moved(lab: &Lab) -> Result<()> {
    let (near, far) = (session(lab, "acme-1", "acme-2")?, session(lab, "acme-3", "acme-2")?);
    for to in ["host-b", "host-a"] {
        near.advance(20, SOON)?;
        far.advance(20, SOON)?;
        provision::move_node(lab, "acme-2", to)?;
        near.advance(50, SOON).with_context(|| format!("from acme-1 after the move to {to}"))?;
        far.advance(50, SOON).with_context(|| format!("from acme-3 after the move to {to}"))?;
    }
    for report in [near.finish()?, far.finish()?] {
        ensure!(report.longest_gap < Duration::from_secs(5), "a pause of {:?}", report.longest_gap);
    }
    Ok(())
}
