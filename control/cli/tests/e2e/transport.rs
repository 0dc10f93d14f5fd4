//! What runs over IPv4, between kernels' own stacks: every size of datagram, TCP with its options, volume and speed.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use etherparse::{LaxPacketHeaders, TcpHeader, TcpOptionElement, TransportHeader};
use overlane_cli::lab::capture::Capture;
use overlane_cli::lab::checks::describe;
use overlane_cli::lab::datagrams::{DatagramPair, Fragmenting, LARGEST};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::loss::Loss;
use overlane_cli::lab::netns::run;
use overlane_cli::lab::probe::{IperfServer, Load, Throughput};
use overlane_cli::lab::session::{connect, exchange};
use std::net::TcpStream;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("tcp_under_loss_recovers_by_sack_and_keeps_timestamps", sack_and_timestamps),
    Case::Shared("datagrams_of_the_internet_mix_arrive_in_order_and_unchanged", internet_mix),
    Case::Shared("datagrams_of_every_size_arrive_with_df_and_without", every_size),
    Case::Shared("datagrams_that_a_kernel_was_given_at_once_arrive_one_by_one", at_once),
    Case::Shared("a_gigabyte_arrives_bit_for_bit", gigabyte),
    Case::Shared("offloads_make_tcp_at_least_three_times_as_fast", offloads),
];

/// A socket pair between two nodes.
pub(crate) fn datagrams(lab: &Lab, from: &str, to: &str, fragmenting: Fragmenting) -> Result<DatagramPair> {
    let (near, far) = (lab.namespace(from), lab.namespace(to));
    DatagramPair::open((&near, lab.node(from)?.ipv4), (&far, lab.node(to)?.ipv4), fragmenting)
}

/// What the sender's kernel knows of a connection.
pub(crate) fn socket_information(lab: &Lab, from: &str, stream: &TcpStream) -> Result<String> {
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

/// Every size at which something changes: the smallest, both sides of an odd byte, of what one packet holds with and without
/// a fragment header, of two and of more fragments, and the largest.
const SIZES: [usize; 24] = [
    1, 2, 3, 7, 8, 9, 64, 512, 1231, 1232, 1233, 1444, 1445, 1451, 1452, 1453, 1472, 2904, 2912, 4000, 9000,
    20_000, 65_000, LARGEST,
];

fn every_size(lab: &Lab) -> Result<()> {
    for to in ["acme-2", "acme-3"] {
        for fragmenting in [Fragmenting::Discover, Fragmenting::Allow] {
            let pair = datagrams(lab, "acme-1", to, fragmenting)?;
            for size in SIZES {
                pair.exchange(size).with_context(|| format!("acme-1 and {to}, {fragmenting:?}"))?;
            }
        }
    }
    Ok(())
}

fn at_once(lab: &Lab) -> Result<()> {
    // Kernels leave cutting to their devices: what was given at once stays whole from node to node.
    for to in ["globex-2", "globex-3"] {
        let pair = datagrams(lab, "globex-1", to, Fragmenting::Discover)?;
        for (size, segment) in [(20_000, 1000), (20_001, 1452), (64_000, 1200), (1200, 1200), (100, 7)] {
            pair.exchange_at_once(size, segment).with_context(|| format!("globex-1 and {to}"))?;
        }
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

/// What a transfer has to gain by offloads.
const GAIN: f64 = 3.0;
/// Rounds at least and at most.
const ROUNDS: (usize, usize) = (2, 6);

fn offloads(lab: &Lab) -> Result<()> {
    let (from, to) = (lab.namespace("globex-1"), lab.node("globex-3")?);
    let server = IperfServer::start(lab.state().path(), &to.id, &lab.namespace(&to.id), 5201)?;
    let mut best: [Option<Throughput>; 2] = [None; 2];
    let mut figures = String::new();
    // By turns, and the best of several either way: the machine may do something else meanwhile, which only ever makes a
    // transfer slower.
    for round in 1..=ROUNDS.1 {
        for (kept, on) in best.iter_mut().zip([true, false]) {
            lab.set_offloads(on)?;
            let measured = server.load(&from, to.ipv4, Load::Tcp, 2);
            lab.set_offloads(true)?;
            let measured = measured?;
            if kept.is_none_or(|kept| measured.bits_per_second > kept.bits_per_second) {
                *kept = Some(measured);
            }
        }
        let [Some(with), Some(without)] = best else { anyhow::bail!("nothing was measured") };
        let gain = with.bits_per_second / without.bits_per_second;
        figures = format!(
            "{} with offloads, {} without: {gain:.1} times, by the best of {round}",
            describe(&with),
            describe(&without)
        );
        if gain >= GAIN && round >= ROUNDS.0 {
            println!("{figures}");
            return Ok(());
        }
    }
    anyhow::bail!("{figures}")
}
