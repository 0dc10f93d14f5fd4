//! Links of other sizes: a path that is narrower than what nodes think, and jumbo frames.

use crate::fixture::{Case, in_lab};
use crate::transport::{datagrams, socket_information};
use anyhow::{Context, Result, ensure};
use overlane_cli::lab::capture::{self, Capture};
use overlane_cli::lab::datagrams::{Fragmenting, LARGEST};
use overlane_cli::lab::engine;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::netns::run;
use overlane_cli::lab::path::{DontFragment, SizedPing, ping_sized, tracepath};
use overlane_cli::lab::plan::GATEWAY;
use overlane_cli::lab::session::{connect, exchange, transfer};
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::wait;
use overlane_dataplane::drop::DropReason;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("engine_and_router_tell_a_ping_that_is_too_large_which_mtu_fits", || narrow(too_large)),
    Case::Alone("tracepath_finds_a_narrow_link_behind_the_router", patiently_traced),
    Case::Alone("tcp_finds_the_mtu_of_a_narrow_path_both_ways", || narrow(tcp)),
    Case::Alone("an_mss_clamp_spares_tcp_the_discovery_of_a_narrow_path", mss_clamp),
    Case::Alone("datagrams_with_df_find_the_mtu_of_a_narrow_path", || narrow(with_df)),
    Case::Alone("datagrams_without_df_are_fragmented_by_the_engine_to_a_learned_path_mtu", || {
        narrow(without_df)
    }),
    Case::Alone("jumbo_frames_pass_end_to_end", jumbo),
];

/// The link between the router and `host-b`, in bytes of IPv6, and what it carries of IPv4.
const NARROW: u16 = 1300;
const NARROW_IPV4: u32 = 1280;
/// What `host-a`'s uplink carries of IPv4; nodes believe that they can send 20 more.
const UPLINK_IPV4: u32 = 1480;

/// A lab in which nobody knows of any path's MTU yet.
fn narrow(work: fn(&Lab) -> Result<()>) -> Result<()> {
    let link_mtus = BTreeMap::from([("host-b".to_owned(), NARROW)]);
    in_lab("thin", Shape { link_mtus, node_mtu: Some(1500), ..Shape::default() }, work)
}

fn mss_clamp() -> Result<()> {
    let link_mtus = BTreeMap::from([("host-b".to_owned(), NARROW)]);
    let engine = "[translate]\ntcp_mss_clamp = true\n".to_owned();
    // Without offloads: what the engine would cut is not seen to be too large.
    in_lab(
        "clamp",
        Shape { link_mtus, node_mtu: Some(1500), offloads: false, engine, ..Shape::default() },
        clamped,
    )
}

/// The MTU that a node's kernel has learned for the way to `to`, if any.
fn learned(lab: &Lab, node: &str, to: Ipv4Addr) -> Result<Option<u32>> {
    let text = run(lab.namespace(node).command("ip").args(["route", "get"]).arg(to.to_string()))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    Ok(words.next().map(str::parse).transpose()?)
}

/// One ping with DF and `size` bytes of IPv4.
fn whole(lab: &Lab, from: &str, to: &str, size: u32) -> Result<SizedPing> {
    ping_sized(&lab.namespace(from), lab.node(to)?.ipv4, 1, size - 28, DontFragment::Always)
}

/// What an engine knows of the path to another host.
fn known_path(lab: &Lab, host: &str, to: &str) -> Result<Option<u64>> {
    let answer = engine::ask(lab, host, "GET", "/status", "")?;
    let status: serde_json::Value = serde_json::from_str(&answer.body)?;
    let prefix = lab.plan().host(to)?.prefix()?.to_string();
    let mut paths = status.get("paths").and_then(|paths| paths.as_array()).into_iter().flatten();
    let path = paths.find(|path| path.get("host").is_some_and(|host| *host == *prefix));
    Ok(path.and_then(|path| path.get("mtu")?.as_u64()))
}

/// Packets from nodes that an engine itself found too large for their way.
fn too_big(lab: &Lab, host: &str) -> Result<u64> {
    Ok(engine::scrape(lab, host)?.drops().get(DropReason::PacketTooBig.name()).copied().unwrap_or_default())
}

fn too_large(lab: &Lab) -> Result<()> {
    // The engine's own uplink; the router, by way of the engine; and then the sender knows.
    for (size, mtu, by_engine) in [(1500, UPLINK_IPV4, 1), (UPLINK_IPV4, NARROW_IPV4, 0)] {
        let before = too_big(lab, "host-a")?;
        let result = whole(lab, "acme-1", "acme-3", size)?;
        ensure!(result.too_large == [(GATEWAY, mtu)], "{size} bytes: {result:?}");
        ensure!(too_big(lab, "host-a")? - before == by_engine, "{size} bytes were refused by another");
        ensure!(
            learned(lab, "acme-1", lab.node("acme-3")?.ipv4)? == Some(mtu),
            "nothing was learned of {mtu}"
        );
    }
    let result = whole(lab, "acme-1", "acme-3", NARROW_IPV4 + 1)?;
    ensure!(result.refused == Some(NARROW_IPV4), "{result:?}");
    let result = whole(lab, "acme-1", "acme-3", NARROW_IPV4)?;
    ensure!(result.ping.is_complete(), "{result:?}");
    // The engine has heard it as well, and tells others before the router has to.
    wait::until_ok("the engine to know the path's MTU", Duration::from_secs(5), || {
        let known = known_path(lab, "host-a", "host-b")?;
        ensure!(known == Some(NARROW.into()), "it knows {known:?}");
        Ok(())
    })?;
    let before = too_big(lab, "host-a")?;
    let result = whole(lab, "acme-2", "acme-3", NARROW_IPV4 + 1)?;
    ensure!(result.too_large == [(GATEWAY, NARROW_IPV4)], "{result:?}");
    ensure!(
        too_big(lab, "host-a")? - before == 1,
        "the engine let a packet pass that is too large for the path"
    );
    // From the other side it is the engine's own uplink that is narrow.
    let result = whole(lab, "globex-3", "globex-1", NARROW_IPV4 + 1)?;
    ensure!(result.too_large == [(GATEWAY, NARROW_IPV4)], "{result:?}");
    let result = whole(lab, "globex-3", "globex-1", NARROW_IPV4)?;
    ensure!(result.ping.is_complete(), "{result:?}");
    // Within a host nothing is narrow.
    let result = whole(lab, "acme-1", "acme-2", 1500)?;
    ensure!(result.ping.is_complete(), "{result:?}");
    Ok(())
}

/// tracepath waits a second for an answer, and one that comes later spoils what it prints: on a machine that is shared, and
/// stood still just then, the same is tried again, in a lab that has learned nothing.
fn patiently_traced() -> Result<()> {
    for attempt in 1..3 {
        match narrow(traced) {
            Ok(()) => return Ok(()),
            Err(error) => println!("attempt {attempt}: {error:#}"),
        }
    }
    narrow(traced)
}

fn traced(lab: &Lab) -> Result<()> {
    for (from, to, mtus) in [
        ("acme-1", "acme-3", [1500, UPLINK_IPV4, NARROW_IPV4].as_slice()),
        ("globex-3", "globex-1", &[1500, NARROW_IPV4]),
    ] {
        let path = tracepath(&lab.namespace(from), lab.node(to)?.ipv4)?;
        ensure!((path.mtu, path.hops) == (NARROW_IPV4, Some(4)), "{from}: {path:?}");
        let found: Vec<u32> = path.lowered.iter().map(|(_, mtu)| *mtu).collect();
        ensure!(found == mtus, "{from}: {path:?}");
    }
    Ok(())
}

fn tcp(lab: &Lab) -> Result<()> {
    let (near, far) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let transfer = || transfer(&lab.namespace(&near.id), &lab.namespace(&far.id), far.ipv4, 4 << 20);
    // What nodes have cut into segments is refused until it is small enough.
    lab.set_offloads(false)?;
    let capture = Capture::start(&lab.plan(), lab.state().path(), "host-b", "tcp")?;
    transfer().context("without offloads")?;
    let frames = capture.finish(10)?;
    for (from, to) in [(&near, &far), (&far, &near)] {
        let known = learned(lab, &from.id, to.ipv4)?;
        ensure!(known == Some(NARROW_IPV4), "{} has learned {known:?}", from.id);
    }
    // TCP is never in fragments.
    for frame in frames {
        let packet = capture::decode(&frame).context("not plain TCP")?;
        ensure!(packet.is_tcp && packet.length <= NARROW.into(), "{packet:?}");
    }
    // What they have not cut engines cut to what the way carries: nodes, who have forgotten it, need not know.
    lab.set_offloads(true)?;
    for node in [&near, &far] {
        lab.namespace(&node.id).ip("route flush cache")?;
    }
    transfer().context("with offloads")?;
    Ok(())
}

fn clamped(lab: &Lab) -> Result<()> {
    let to = lab.node("acme-3")?;
    let before = too_big(lab, "host-b")?;
    let (near, far) = connect(&lab.namespace("acme-1"), &lab.namespace(&to.id), to.ipv4)?;
    exchange(&near, &far, [1 << 20, 1 << 20])?;
    // The narrow uplink's engine lowers what both say: 1,280 bytes less both headers, and the timestamps.
    for (node, stream) in [("acme-1", &near), ("acme-3", &far)] {
        let known = socket_information(lab, node, stream)?;
        ensure!(known.contains(" mss:1228 "), "{node}: {known}");
    }
    ensure!(too_big(lab, "host-b")? == before, "packets were too large in spite of it");
    ensure!(learned(lab, "acme-1", to.ipv4)?.is_none(), "the path's MTU had to be discovered");
    Ok(())
}

fn with_df(lab: &Lab) -> Result<()> {
    // From host-a two say that it is too large: the engine for its uplink, and the router for its link. By then the
    // sender has cut the datagram up, and fragments have 8 bytes less (RFC 7915, 4.1).
    for (from, to, told, mtu) in
        [("acme-1", "acme-3", 2, NARROW_IPV4 - 8), ("globex-3", "globex-1", 1, NARROW_IPV4)]
    {
        let pair = datagrams(lab, from, to, Fragmenting::Discover)?;
        let size = 1500 - 28;
        let lost = first_arrival(|patience| pair.arrives(size, patience))?;
        ensure!((1..=told).contains(&lost), "{from}: {lost} were lost before one arrived");
        let known = learned(lab, from, lab.node(to)?.ipv4)?;
        ensure!(known == Some(mtu), "{from} has learned {known:?}");
        for size in [1, 1244, 1245, 1252, 1253, size, 20_000, LARGEST] {
            ensure!(pair.arrives(size, Duration::from_secs(2))?, "{from}: {size} bytes did not arrive");
        }
    }
    Ok(())
}

/// How many were lost before the first arrived.
fn first_arrival(mut arrives: impl FnMut(Duration) -> Result<bool>) -> Result<u32> {
    for lost in 0..10 {
        if arrives(Duration::from_millis(200))? {
            return Ok(lost);
        }
    }
    anyhow::bail!("none of ten arrived")
}

fn without_df(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    for (from, to) in [("acme-1", "acme-3"), ("globex-3", "globex-1")] {
        // The node hears nothing of MTUs: it goes on sending what is too large.
        lab.namespace(from).sysctl(&[("ipv4/ip_no_pmtu_disc", "2")])?;
        let pair = datagrams(lab, from, to, Fragmenting::Allow)?;
        let size = 1500 - 28;
        let lost = first_arrival(|patience| pair.arrives(size, patience))?;
        ensure!(lost <= 1, "{from}: {lost} were lost before one arrived");
        let source = plan.substrate_address(&lab.node(from)?)?;
        let capture = Capture::start(&plan, lab.state().path(), "host-b", &format!("src host {source}"))?;
        for _ in 0..5 {
            ensure!(pair.arrives(size, Duration::from_secs(1))?, "{from}: {size} bytes did not arrive");
        }
        let frames = capture.finish(10)?;
        for frame in &frames {
            // Next header 44 is the fragment header (RFC 8200, 4.5).
            ensure!(frame.get(20) == Some(&44), "not a fragment: {frame:02x?}");
            let length = frame.get(18..20).and_then(|l| l.first_chunk()).map(|l| u16::from_be_bytes(*l));
            ensure!(length.is_some_and(|length| length + 40 <= NARROW), "a payload of {length:?} bytes");
        }
        ensure!(learned(lab, from, lab.node(to)?.ipv4)?.is_none(), "{from} has learned an MTU");
        for size in [1, 1244, 1245, 1253, 20_000, LARGEST] {
            ensure!(pair.arrives(size, Duration::from_secs(2))?, "{from}: {size} bytes did not arrive");
        }
    }
    Ok(())
}

fn jumbo() -> Result<()> {
    in_lab("jumbo", Shape { mtu: 9000, ..Shape::default() }, |lab| {
        let plan = lab.plan();
        for to in ["acme-2", "acme-3"] {
            let result = whole(lab, "acme-1", to, 8980)?;
            ensure!(result.ping.is_complete(), "{to}: {result:?}");
            let result = whole(lab, "acme-1", to, 8981)?;
            ensure!(result.refused == Some(8980), "{to}: {result:?}");
            for fragmenting in [Fragmenting::Discover, Fragmenting::Allow] {
                let pair = datagrams(lab, "acme-1", to, fragmenting)?;
                for size in [1, 1452, 8952, 8953, 20_000, LARGEST] {
                    pair.exchange(size).with_context(|| format!("{to}, {fragmenting:?}"))?;
                }
            }
            let to = lab.node(to)?;
            let (near, far) = connect(&lab.namespace("acme-1"), &lab.namespace(&to.id), to.ipv4)?;
            exchange(&near, &far, [32 << 20, 32 << 20]).with_context(|| to.id.clone())?;
            // 8,980 bytes less both headers and the timestamps.
            let known = socket_information(lab, "acme-1", &near)?;
            ensure!(known.contains(" mss:8928 "), "{}: {known}", to.id);
        }
        // Whole frames of the substrate's MTU, with nothing that could join or cut them.
        lab.set_offloads(false)?;
        let capture = Capture::start(&plan, lab.state().path(), "host-b", "tcp")?;
        let to = lab.node("acme-3")?;
        transfer(&lab.namespace("acme-1"), &lab.namespace(&to.id), to.ipv4, 8 << 20)?;
        let frames = capture.finish(100)?;
        let longest =
            frames.iter().filter_map(|frame| capture::decode(frame)).map(|packet| packet.length).max();
        ensure!(longest == Some(9000), "the longest packet has {longest:?} bytes");
        Ok(())
    })
}
