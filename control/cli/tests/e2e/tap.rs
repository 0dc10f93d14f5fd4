//! Nodes on taps, which an engine makes and their nodes' kernels take over.

use crate::faults::wait_state;
use crate::fixture::{Case, up_shaped};
use crate::transport::socket_information;
use anyhow::{Context, Result, ensure};
use overlane_api::resource::{AttachmentKind, InterfaceState, Node as NodeResource};
use overlane_cli::client::Client;
use overlane_cli::lab::capture::{self, Capture};
use overlane_cli::lab::datagrams::{DatagramPair, Fragmenting, LARGEST};
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::netns::{Namespace, run};
use overlane_cli::lab::path::{DontFragment, ping_sized};
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::provision;
use overlane_cli::lab::session::{EchoSession, connect, exchange, transfer};
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::state::Mode;
use overlane_cli::lab::{wait, wiring};
use std::net::Ipv4Addr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_node_on_a_tap_is_a_node_like_any_other", |lab| with_tap(lab, like_any_other)),
    Case::Alone("jumbo_frames_and_packets_to_be_cut_pass_through_a_tap", jumbo),
];

const SOON: Duration = Duration::from_secs(10);

/// A node on a tap, beside the lab's own.
struct Tapped<'lab> {
    lab: &'lab Lab,
    node: Node,
    namespace: Namespace,
}

/// Does `work` with such a node of `acme` on `host-a`; the tap has gone afterwards.
fn with_tap(lab: &Lab, work: fn(&Tapped<'_>) -> Result<()>) -> Result<()> {
    let template = lab.node("acme-1")?;
    let node = Node {
        id: "extra1".to_owned(),
        slot: 40,
        mac: "0a:00:00:00:01:50".to_owned(),
        ipv4: Ipv4Addr::new(10, 0, 0, 50),
        device: "tap-extra1".to_owned(),
        ..template
    };
    let host = lab.namespace(&node.host);
    let tapped = Tapped { lab, namespace: lab.namespace(&node.id), node };
    tapped.namespace.create()?;
    let outcome = tapped.attach(&host).and_then(|()| work(&tapped));
    let deleted = provision::with_client(lab, async |client: Client| client.delete("/v1/nodes/extra1").await);
    outcome?;
    deleted?;
    // The engine made it, and takes it away again, wherever it is by now.
    wait::until_ok("the tap to go", SOON, || {
        for place in [&host, &tapped.namespace] {
            let devices = place.devices()?;
            ensure!(
                !devices.iter().any(|d| *d == tapped.node.device || d == NODE_DEVICE),
                "{place} has {devices:?}"
            );
        }
        Ok(())
    })?;
    tapped.namespace.delete()
}

impl Tapped<'_> {
    fn attach(&self, host: &Namespace) -> Result<()> {
        let Self { lab, node, namespace } = self;
        let spec = provision::node_spec(node, AttachmentKind::Tap);
        provision::with_client(lab, async |client: Client| {
            client.put::<NodeResource>(&format!("/v1/nodes/{}", node.id), &spec).await
        })?;
        // Made and attached: from now on it may go where its node is, which sets it up.
        wait_state(lab, &node.id, &[InterfaceState::Attached])?;
        host.ip(&format!("link set {} netns {namespace}", node.device))?;
        let mtu = lab.plan().shape.node_mtu();
        namespace
            .ip(&format!("link set {} name {NODE_DEVICE} address {} mtu {mtu}", node.device, node.mac))?;
        wiring::configure_node(namespace, node)?;
        wait_state(lab, &node.id, &[InterfaceState::Live])?;
        // The engine sees what MTU the node has given it.
        wait::until_ok("the MTU to be known", SOON, || {
            let known = self.status("mtu")?;
            ensure!(known == mtu, "it is {known}");
            Ok(())
        })
    }

    /// What the engine knows of it.
    fn status(&self, field: &str) -> Result<serde_json::Value> {
        let answer = engine::ask(self.lab, &self.node.host, "GET", "/status", "")?;
        let status: serde_json::Value = serde_json::from_str(&answer.body)?;
        let mut interfaces = status.get("interfaces").and_then(|i| i.as_array()).into_iter().flatten();
        let ours = interfaces.find(|interface| interface.get("kind").is_some_and(|kind| kind == "tap"));
        ours.and_then(|interface| interface.get(field)).cloned().with_context(|| answer.body.clone())
    }

    /// Frames that its kernel has sent and received.
    fn frames(&self) -> Result<(u64, u64)> {
        let count = |which: &str| -> Result<u64> {
            let path = format!("/sys/class/net/{NODE_DEVICE}/statistics/{which}_packets");
            Ok(run(self.namespace.command("cat").arg(path))?.trim().parse()?)
        };
        Ok((count("tx")?, count("rx")?))
    }
}

fn like_any_other(tapped: &Tapped<'_>) -> Result<()> {
    let Tapped { lab, node, namespace } = tapped;
    for peer in ["acme-2", "acme-3"] {
        let there = ping(namespace, lab.node(peer)?.ipv4, 3)?;
        let back = ping(&lab.namespace(peer), node.ipv4, 3)?;
        ensure!(there.is_complete() && back.is_complete(), "{peer}: there {there:?}, back {back:?}");
        let session = EchoSession::start(namespace, &lab.namespace(peer), lab.node(peer)?.ipv4)?;
        session.advance(50, SOON)?;
        session.finish()?;
    }
    // A node that sets its device down is not live, as on a veth.
    namespace.ip(&format!("link set {NODE_DEVICE} down"))?;
    wait_state(lab, &node.id, &[InterfaceState::Attached])?;
    namespace.ip(&format!("link set {NODE_DEVICE} up"))?;
    wait_state(lab, &node.id, &[InterfaceState::Live])?;
    wait::until_ok("the node to be reached again", SOON, || {
        let back = ping(&lab.namespace("acme-3"), node.ipv4, 1)?;
        ensure!(back.is_complete(), "{back:?}");
        Ok(())
    })
}

fn jumbo() -> Result<()> {
    let lab = up_shaped("jtap", Mode::Service, Shape { mtu: 9000, ..Shape::default() })?;
    let outcome = with_tap(&lab, carries_jumbo_frames);
    let words = lab.last_words();
    lab.down(&Silent)?;
    outcome.with_context(|| words)
}

/// Bytes that a connection carries each way.
const BYTES: usize = 32 << 20;

fn carries_jumbo_frames(tapped: &Tapped<'_>) -> Result<()> {
    let Tapped { lab, node, namespace } = tapped;
    for to in ["acme-2", "acme-3"] {
        let to = lab.node(to)?;
        let peer = lab.namespace(&to.id);
        for (from, target) in [(namespace, to.ipv4), (&peer, node.ipv4)] {
            let result = ping_sized(from, target, 1, 8980 - 28, DontFragment::Always)?;
            ensure!(result.ping.is_complete(), "{from}: {result:?}");
        }
        for fragmenting in [Fragmenting::Discover, Fragmenting::Allow] {
            let pair = DatagramPair::open((namespace, node.ipv4), (&peer, to.ipv4), fragmenting)?;
            for size in [1, 1452, 8952, 8953, 20_000, LARGEST] {
                pair.exchange(size).with_context(|| format!("{}, {fragmenting:?}", to.id))?;
            }
        }
        let (near, far) = connect(namespace, &peer, to.ipv4)?;
        let before = tapped.frames()?;
        exchange(&near, &far, [BYTES, BYTES]).with_context(|| to.id.clone())?;
        let after = tapped.frames()?;
        // 8,980 bytes less both headers and the timestamps.
        let known = socket_information(lab, &node.id, &near)?;
        ensure!(known.contains(" mss:8928 "), "{}: {known}", to.id);
        // Both ways what is to be cut crosses the tap whole: fewer frames than segments.
        let segments = (BYTES / 8928) as u64;
        let (sent, received) = (after.0 - before.0, after.1 - before.1);
        ensure!(
            sent < segments && received < segments,
            "{}: {sent} sent and {received} received of {segments} segments",
            to.id
        );
    }
    // Without offloads each segment is a frame, of the largest size that there is.
    lab.set_offloads(false)?;
    run(namespace.command("ethtool").args(["-K", NODE_DEVICE, "tx", "off", "tso", "off", "gso", "off"]))?;
    let capture = Capture::start(&lab.plan(), lab.state().path(), "host-b", "tcp")?;
    let to = lab.node("acme-3")?;
    transfer(namespace, &lab.namespace(&to.id), to.ipv4, 8 << 20)?;
    let frames = capture.finish(100)?;
    let longest = frames.iter().filter_map(|frame| capture::decode(frame)).map(|packet| packet.length).max();
    ensure!(longest == Some(9000), "the longest packet has {longest:?} bytes");
    Ok(())
}
