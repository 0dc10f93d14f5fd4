//! How much a node may send, with kernels that send as much as they can.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::resource::{AttachmentKind, Node as NodeResource, RateLimit};
use overlane_cli::client::Client;
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::plan::Node;
use overlane_cli::lab::probe::{IperfServer, Load, ping};
use overlane_cli::lab::provision::{change, node_spec};
use overlane_dataplane::drop::DropReason;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

pub(crate) const CASES: &[Case] = &[
    Case::Shared("rates::a_node_gets_as_many_packets_through_as_it_may_and_its_neighbour_all", packets),
    Case::Shared("rates::tcp_finds_the_bandwidth_that_a_node_may_have", bandwidth),
];

/// Lets the node send so much while `work` is done; afterwards as much as it likes.
fn limited(lab: &Lab, node: &Node, rate: RateLimit, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let put = |rate: RateLimit| -> Result<()> {
        let mut spec = node_spec(node, AttachmentKind::Veth);
        spec.interfaces.iter_mut().for_each(|interface| interface.rate = rate);
        let path = format!("/v1/nodes/{}", node.id);
        let (_, now): (bool, NodeResource) =
            change(lab, async |client: Client| client.put(&path, &spec).await)?;
        ensure!(now.interfaces.iter().all(|interface| interface.rate == rate), "{now:?}");
        lab.wait_healthy(Duration::from_secs(20))
    };
    put(rate)?;
    let outcome = work();
    put(RateLimit::default())?;
    outcome
}

fn packets(lab: &Lab) -> Result<()> {
    const RATE: u32 = 500;
    let (greedy, neighbour, target) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let rate = RateLimit { packets_per_second: Some(RATE), bits_per_second: None };
    limited(lab, &greedy, rate, || {
        let ear = lab.namespace(&target.id).enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6000))?))?;
        ear.set_read_timeout(Some(Duration::from_millis(300)))?;
        let voice = lab.namespace(&greedy.id).enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        // So that the first datagram finds its way at once.
        ensure!(ping(&lab.namespace(&greedy.id), target.ipv4, 1)?.is_complete(), "the way is not open");
        let before = engine::scrape(lab, &greedy.host)?;
        let counter = std::thread::spawn(move || {
            let (mut count, mut bytes) = (0_u32, [0; 16]);
            while ear.recv(&mut bytes).is_ok() {
                count += 1;
            }
            count
        });
        let (began, mut sent) = (Instant::now(), 0_u32);
        while began.elapsed() < Duration::from_secs(2) {
            voice.send_to(b"more", (target.ipv4, 6000)).context("sending")?;
            sent += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
        let time = began.elapsed().as_secs_f64();
        let pinged = ping(&lab.namespace(&neighbour.id), target.ipv4, 5)?;
        ensure!(pinged.is_complete(), "{} lost something: {pinged:?}", neighbour.id);
        let came = counter.join().map_err(|_| anyhow::anyhow!("the counter panicked"))?;
        let expected = f64::from(RATE) * time;
        let room = f64::from(RATE) / 10.0 + 64.0;
        let (least, most) = (expected * 0.8, expected + room);
        ensure!((least..=most).contains(&came.into()), "{came} of {sent} came in {time} s");
        let drops = engine::scrape(lab, &greedy.host)?.drops_since(&before);
        let exceeded = drops.get(DropReason::RateExceeded.name()).copied().unwrap_or_default();
        // Other frames of the node's kernel, like ARP, may be among them.
        let lost = u64::from(sent - came);
        ensure!((lost..=lost + 8).contains(&exceeded), "{exceeded} are counted, {lost} did not come");
        Ok(())
    })
}

fn bandwidth(lab: &Lab) -> Result<()> {
    const RATE: u64 = 40_000_000;
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let rate = RateLimit { packets_per_second: None, bits_per_second: Some(RATE) };
    limited(lab, &from, rate, || {
        let server = IperfServer::start(lab.state().path(), &to.id, &lab.namespace(&to.id), 5201)?;
        let result = server.load(&lab.namespace(&from.id), to.ipv4, Load::Tcp, 4)?;
        let share = result.bits_per_second / RATE as f64;
        // What may come at once counts for a little more within four seconds.
        ensure!((0.3..1.1).contains(&share), "{:.1} Mbit/s", result.bits_per_second / 1e6);
        Ok(())
    })
}
