//! What runs over IPv4, between kernels' own stacks: mixed datagrams, TCP with its options, and volume.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use etherparse::{LaxPacketHeaders, TcpHeader, TcpOptionElement, TransportHeader};
use overlane_cli::lab::capture::Capture;
use overlane_cli::lab::datagrams::{DatagramPair, Fragmenting};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::loss::Loss;
use overlane_cli::lab::netns::run;
use overlane_cli::lab::session::{connect, exchange};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("tcp_under_loss_recovers_by_sack_and_keeps_timestamps", sack_and_timestamps),
    Case::Shared("datagrams_of_the_internet_mix_arrive_in_order_and_unchanged", internet_mix),
    Case::Shared("a_gigabyte_arrives_bit_for_bit", gigabyte),
];

/// A socket pair between two nodes.
fn datagrams(lab: &Lab, from: &str, to: &str, fragmenting: Fragmenting) -> Result<DatagramPair> {
    let (near, far) = (lab.namespace(from), lab.namespace(to));
    DatagramPair::open((&near, lab.node(from)?.ipv4), (&far, lab.node(to)?.ipv4), fragmenting)
}

/// What the sender's kernel knows of a connection.
fn socket_information(lab: &Lab, from: &str, stream: &TcpStream) -> Result<String> {
    let port = format!(":{}", stream.local_addr()?.port());
    let text = run(lab.namespace(from).command("ss").args(["-tinoOH", "sport", "=", &port]))?;
    ensure!(text.lines().count() == 1, "not one connection: {text}");
    Ok(text)
}

/// What the router loses, one in so many.
const LOST_ONE_IN: u32 = 50;

fn sack_and_timestamps(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let router = plan.router();
    let (from, to) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let capture = Capture::start(&plan, lab.state().path(), &from.host, "tcp")?;
    let (near, far) = connect(&lab.namespace(&from.id), &lab.namespace(&to.id), to.ipv4)?;
    let loss = Loss::start(&router, &to.host, LOST_ONE_IN)?;
    let mut rounds = 0;
    while loss.lost()? < 10 {
        ensure!(rounds < 100, "the router lost {} packets only", loss.lost()?);
        exchange(&near, &far, [1 << 20, 0])?;
        rounds += 1;
    }
    drop(loss);
    let known = socket_information(lab, &from.id, &near)?;
    let words: Vec<&str> = known.split_whitespace().collect();
    ensure!(words.contains(&"ts") && words.contains(&"sack"), "not negotiated: {known}");
    ensure!(known.contains(" retrans:0/"), "nothing is told of retransmissions: {known}");
    drop((near, far));

    let frames = capture.finish(10)?;
    let target = plan.substrate_address(&to)?;
    let mut sacks = 0;
    for frame in &frames {
        let (source, tcp) = tcp_of(frame).with_context(|| format!("not plain TCP: {frame:02x?}"))?;
        let options = tcp.options_iterator().collect::<Result<Vec<_>, _>>()?;
        let has = |wanted: fn(&TcpOptionElement) -> bool| options.iter().any(wanted);
        let timed = has(|option| matches!(option, TcpOptionElement::Timestamp(_, _)));
        ensure!(timed || tcp.rst, "no timestamps in {tcp:?}");
        let permitted = has(|option| *option == TcpOptionElement::SelectiveAcknowledgementPermitted);
        ensure!(permitted == tcp.syn, "SACK permitted, or not, in {tcp:?}");
        let sack = has(|option| matches!(option, TcpOptionElement::SelectiveAcknowledgement(_, _)));
        sacks += usize::from(sack && source == target);
    }
    ensure!(sacks > 0, "no selective acknowledgement in {} packets", frames.len());
    Ok(())
}

/// The source and the TCP header of a captured frame.
fn tcp_of(frame: &[u8]) -> Option<(std::net::Ipv6Addr, TcpHeader)> {
    let packet = LaxPacketHeaders::from_ethernet(frame).ok()?;
    let (header, extensions) = packet.net?.ipv6_ref().map(|(h, e)| (h.clone(), e.is_empty()))?;
    let Some(TransportHeader::Tcp(tcp)) = packet.transport else { return None };
    extensions.then_some((header.source.into(), tcp))
}

fn internet_mix(lab: &Lab) -> Result<()> {
    let mtu = lab.plan().shape.node_mtu().into();
    for to in ["globex-2", "globex-3"] {
        let pair = datagrams(lab, "globex-1", to, Fragmenting::Discover)?;
        pair.mix(400, mtu).with_context(|| format!("globex-1 and {to}"))?;
    }
    Ok(())
}

/// A billion bytes, and more than 32 bits can count in bits.
const GIGABYTE: usize = 1_000_000_000;

fn gigabyte(lab: &Lab) -> Result<()> {
    let to = lab.node("acme-3")?;
    let (near, far) = connect(&lab.namespace("acme-1"), &lab.namespace(&to.id), to.ipv4)?;
    let took = exchange(&near, &far, [GIGABYTE, 0])?;
    ensure!(took < Duration::from_secs(60), "it took {took:?}");
    println!("in {:.1} s", took.as_secs_f32());
    Ok(())
}
