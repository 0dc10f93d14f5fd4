//! The engine's way to the substrate: its router, and its own address.

use crate::fixture::{Case, up};
use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::{Lab, find_binary};
use overlane_cli::lab::inject::RawPort;
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::process::Process;
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::session::EchoSession;
use overlane_cli::lab::state::Mode;
use overlane_cli::lab::wait;
use overlane_dataplane::mac::MacAddr;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_router_that_changes_its_mac_is_found_again", router_changes_mac),
    Case::Alone("an_engine_takes_its_address_from_router_advertisements", advertised_address),
];

const SOON: Duration = Duration::from_secs(10);

fn router_changes_mac(lab: &Lab) -> Result<()> {
    let router = lab.namespace("router");
    let before = RawPort::open(&router, "host-a")?.mac();
    let session =
        EchoSession::start(&lab.namespace("acme-1"), &lab.namespace("acme-3"), lab.node("acme-3")?.ipv4)?;
    session.advance(20, SOON)?;
    // As a router that takes over does: it announces its addresses (RFC 4861, 7.2.6). One that says nothing is found by
    // neighbour unreachability detection, which takes the half minute that an entry counts as reachable.
    router.sysctl(&[("ipv6/conf/host-a/ndisc_notify", "1")])?;
    for mac in ["0a:00:00:00:ff:01".to_owned(), before.to_string()] {
        router.ip(&format!("link set host-a address {mac}"))?;
        // A router that takes over knows no neighbours yet.
        router.ip("neigh flush dev host-a")?;
        wait::until_ok("traffic through the changed router", SOON, || {
            let result = ping(&lab.namespace("acme-3"), lab.node("acme-1")?.ipv4, 1)?;
            ensure!(result.is_complete(), "no answer to ping");
            Ok(())
        })?;
        session.advance(5, Duration::from_secs(15))?;
    }
    session.finish()?;
    Ok(())
}

/// A router advertisement (RFC 4861, 4.2) of a default router and of one on-link prefix to make addresses in.
fn advertisement(router: MacAddr, link_local: Ipv6Addr, prefix: Ipv6Addr) -> Result<Vec<u8>> {
    let mut options = vec![0; 8];
    options.extend([1, 1]);
    options.extend(router.0);
    // Prefix information: length 64, on-link and autonomous, valid and preferred for an hour.
    options.extend([3, 4, 64, 0xc0]);
    options.extend(3600u32.to_be_bytes());
    options.extend(3600u32.to_be_bytes());
    options.extend([0; 4]);
    options.extend(prefix.octets());
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let [high, low] = 1800u16.to_be_bytes();
    let builder = PacketBuilder::ethernet2(router.0, [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(link_local.octets(), all_nodes.octets(), 255)
        .icmpv6_raw(134, 0, [64, 0, high, low]);
    let mut frame = Vec::with_capacity(builder.size(options.len()));
    builder.write(&mut frame, &options)?;
    Ok(frame)
}

/// The address that a neighbour solicitation asks for, if the frame is one.
fn solicited(frame: &[u8]) -> Option<Ipv6Addr> {
    (frame.get(54) == Some(&135)).then_some(())?;
    Some(Ipv6Addr::from(*frame.get(62..78)?.first_chunk::<16>()?))
}

fn advertised_address() -> Result<()> {
    let lab = up("adv", Mode::File)?;
    let outcome = advertise(&lab);
    let words = lab.last_words();
    lab.down(&Silent)?;
    outcome.with_context(|| words)
}

fn advertise(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let host = plan.host("host-b")?;
    let name = engine::process_name(&host.id);
    lab.with_process(&name, |process| process.stop(SOON))?;
    let text = engine::configuration(lab.state(), &plan, Mode::File, host)?;
    let configured = format!("address = \"{}/64\"\ngateway = \"{}\"\n", host.engine(), host.router());
    ensure!(text.contains(&configured), "nothing to change");
    let file = lab.state().write("conf/auto.toml", &text.replace(&configured, "address = \"auto\"\n"))?;
    let mut command = plan.namespace(&host.id).command(find_binary(engine::PROGRAM)?);
    command.arg("--config").arg(file);

    let router = plan.router();
    let (port, listener) = (RawPort::open(&router, &host.id)?, RawPort::open(&router, &host.id)?);
    let link_local = "fe80::1".parse()?;
    router.ip(&format!("addr add {link_local}/64 dev {} nodad", host.id))?;
    let frame = advertisement(port.mac(), link_local, host.link_address(0))?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A router repeats itself; ours does so often.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = port.send(&frame);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let outcome = (|| {
            let mut process = Process::start(lab.state().path(), "engine-auto", command)?;
            let outcome = (|| {
                // It asks whether somebody has the address before it takes it (RFC 4862, 5.4).
                let prefix = u128::from_be_bytes(host.link_address(0).octets()) >> 64;
                let probed = listener.receive(SOON, |frame| {
                    solicited(frame).is_some_and(|address| {
                        address.to_bits() >> 64 == prefix
                            && address != host.router()
                            && address != host.kernel()
                    })
                })?;
                let address =
                    probed.as_deref().and_then(solicited).context("the engine probed for no address")?;
                router.ip(&format!("route replace {} via {address}", host.prefix()?))?;
                wait::until_ok("traffic by the advertised router", SOON, || {
                    let result = ping(&lab.namespace("acme-1"), lab.node("acme-3")?.ipv4, 2)?;
                    ensure!(result.is_complete(), "{} of {} answered", result.received, result.sent);
                    Ok(())
                })
            })();
            process.stop(SOON)?;
            outcome
        })();
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}
