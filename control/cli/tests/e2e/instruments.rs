//! The lab's own instruments, on plain kernel links: what they say of engines is worth what they say here.

use crate::fixture::{Case, lab_name, up, up_shaped};
use anyhow::{Context, Result, ensure};
use overlane_cli::lab::capture::{self, Capture};
use overlane_cli::lab::inject::{Macs, RawPort, udp4};
use overlane_cli::lab::netns::{Namespace, run};
use overlane_cli::lab::plan::{NODE_DEVICE, UPLINK};
use overlane_cli::lab::probe::{IperfServer, Load, ping};
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::session::{DatagramStream, EchoSession, is_silent, transfer};
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::state::Mode;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("instruments_agree_with_a_plain_link", plain_link),
    Case::Alone("instruments_notice_a_link_that_is_interrupted", interrupted_link),
    Case::Alone("captures_on_the_router_are_read_back", captured),
    Case::Alone("links_have_the_mtus_and_offloads_that_a_lab_asks_for", shaped),
];

const LEFT: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 2);

/// Two namespaces with a veth pair between them.
fn with_link(work: impl FnOnce(&Namespace, &Namespace) -> Result<()>) -> Result<()> {
    let (left, right) = (
        Namespace::named(format!("{}-left", lab_name("instr"))),
        Namespace::named(format!("{}-right", lab_name("instr"))),
    );
    let outcome = (|| {
        left.create()?;
        right.create()?;
        left.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {right}\naddr add {LEFT}/24 dev eth0\nlink set eth0 up"
        ))?;
        right.ip(&format!("addr add {RIGHT}/24 dev eth0\nlink set eth0 up"))?;
        work(&left, &right)
    })();
    left.delete()?;
    right.delete()?;
    outcome
}

fn plain_link() -> Result<()> {
    with_link(|left, right| {
        let answered = ping(left, RIGHT, 3)?;
        ensure!(answered.is_complete() && answered.average_ms > 0.0, "{answered:?}");
        ensure!(ping(left, "10.9.9.77", 1)?.received == 0, "nobody answered");
        transfer(left, right, RIGHT, 3 << 20)?;

        let session = EchoSession::start(left, right, RIGHT)?;
        session.advance(50, Duration::from_secs(5))?;
        let report = session.finish()?;
        ensure!(report.turns >= 50 && report.longest_gap < Duration::from_secs(1), "{report:?}");
        let stream = DatagramStream::start(left, right, RIGHT)?;
        stream.advance(50, Duration::from_secs(5))?;
        let report = stream.finish()?;
        ensure!(report.turns >= 50 && report.lost == 0, "{report:?}");

        let logs = tempfile::tempdir()?;
        std::fs::create_dir(logs.path().join("logs"))?;
        std::fs::create_dir(logs.path().join("pids"))?;
        for load in [Load::Tcp, Load::TcpReverse, Load::Udp(5), Load::UdpReverse(5)] {
            let server = IperfServer::start(logs.path(), "right", right, 5201)?;
            let result = server.load(left, RIGHT, load, 1)?;
            ensure!(result.bytes > 0 && result.bits_per_second > 0.0, "{load:?}: {result:?}");
        }

        let (near, far) = (RawPort::open(left, "eth0")?, RawPort::open(right, "eth0")?);
        let frame =
            udp4(Macs { source: near.mac(), destination: far.mac() }, LEFT, RIGHT, b"between instruments")?;
        near.send(&frame)?;
        let seen = far.receive(Duration::from_secs(2), |seen| seen == frame)?;
        ensure!(seen.is_some(), "a frame did not arrive as it was sent");
        // The kernel refuses a connection to a closed port: that is no silence.
        ensure!(!is_silent(left, (RIGHT, 9).into(), Duration::from_millis(300))?, "a refusal is an answer");
        ensure!(is_silent(left, "10.9.9.77:9".parse()?, Duration::from_millis(300))?, "nobody answered");
        Ok(())
    })
}

fn interrupted_link() -> Result<()> {
    with_link(|left, right| {
        let (session, stream) =
            (EchoSession::start(left, right, RIGHT)?, DatagramStream::start(left, right, RIGHT)?);
        session.advance(20, Duration::from_secs(5))?;
        stream.advance(20, Duration::from_secs(5))?;
        right.ip("link set eth0 down")?;
        ensure!(session.advance(5, Duration::from_millis(300)).is_err(), "the session went on");
        right.ip("link set eth0 up")?;
        session.advance(5, Duration::from_secs(10))?;
        stream.advance(5, Duration::from_secs(10))?;
        let (session, stream) = (session.finish()?, stream.finish()?);
        ensure!(session.longest_gap >= Duration::from_millis(300), "{session:?}");
        ensure!(stream.longest_gap >= Duration::from_millis(300) && stream.lost > 50, "{stream:?}");
        Ok(())
    })
}

fn captured() -> Result<()> {
    let lab = up("instr", Mode::Wires)?;
    let outcome = (|| {
        let plan = lab.plan();
        let target = plan.host("host-b")?.kernel();
        let capture = Capture::start(&plan, lab.state().path(), "host-b", "tcp")?;
        let listener = lab.namespace("host-b").enter(|| Ok(TcpListener::bind((target, 0))?))?;
        let address = listener.local_addr()?;
        let mut client = lab.namespace("host-a").enter(|| Ok(TcpStream::connect(address)?))?;
        client.write_all(b"captured")?;
        let (accepted, _) = listener.accept()?;
        drop((client, accepted));
        let frames = capture.finish(4)?;
        for frame in &frames {
            let packet = capture::decode(frame).context("not plain TCP over IPv6")?;
            ensure!(packet.is_tcp && (packet.source == target || packet.destination == target), "{packet:?}");
        }
        let opening = frames.first().and_then(|frame| capture::decode(frame)).context("no frame")?;
        ensure!(opening.transport.ends_with(" SYN") && opening.length > 60, "{opening:?}");
        Ok(())
    })();
    lab.down(&Silent)?;
    outcome
}

fn shaped() -> Result<()> {
    let link_mtus = BTreeMap::from([("host-b".to_owned(), 1300)]);
    let shape = Shape { mtu: 9000, link_mtus, node_mtu: Some(1500), offloads: false, ..Shape::default() };
    let lab = up_shaped("shape", Mode::Wires, shape)?;
    let check = |on: bool| -> Result<()> {
        let (node, uplink) = (lab.node("acme-1")?, |host: &str| lab.namespace(host));
        for (namespace, device, mtu) in [
            (lab.namespace(&node.id), NODE_DEVICE, 1500),
            (uplink(&node.host), &*node.device, 1500),
            (uplink("host-a"), UPLINK, 9000),
            (lab.namespace("router"), "host-a", 9000),
            (uplink("host-b"), UPLINK, 1300),
            (lab.namespace("router"), "host-b", 1300),
        ] {
            let told = run(namespace.command("cat").arg(format!("/sys/class/net/{device}/mtu")))?;
            ensure!(told.trim() == mtu.to_string(), "{device} in {namespace}: {told}");
            let told = run(namespace.command("ethtool").args(["-k", device]))?;
            for feature in ["tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload"] {
                let wanted = format!("{feature}: {}", if on { "on" } else { "off" });
                ensure!(told.contains(&wanted), "{device} in {namespace}, not {wanted}: {told}");
            }
        }
        Ok(())
    };
    let outcome = check(false).and_then(|()| lab.set_offloads(true)).and_then(|()| check(true));
    lab.down(&Silent)?;
    outcome
}
