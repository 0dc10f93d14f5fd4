//! What must not pass, tried: each attempt sends real frames and tells which counter they ended in.

use super::engine;
use super::handle::Lab;
use super::inject::{self, Macs, RawPort};
use super::metrics::Metrics;
use super::netns::Namespace;
use super::plan::{LAYOUT, NODE_DEVICE, Node, UPLINK};
use super::wait;
use anyhow::{Context, Result, ensure};
use overlane_dataplane::address::{Delivery, HostPrefix, SubstrateAddress};
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::mac::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How long a counter may lag behind the frames.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends frames and requires that the engine of `host` drops exactly them, by exactly these reasons.
///
/// # Errors
/// If a counter does not reach its number, or goes beyond it.
pub fn expect_drops(
    lab: &Lab,
    host: &str,
    expected: &[(DropReason, u64)],
    send: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let before = engine::scrape(lab, host)?;
    send()?;
    let counted = |now: &Metrics, reason: DropReason| {
        now.drops_since(&before).get(reason.name()).copied().unwrap_or_default()
    };
    let reached = wait::until_ok("the drops to be counted", PATIENCE, || {
        let now = engine::scrape(lab, host)?;
        for (reason, count) in expected {
            ensure!(
                counted(&now, *reason) >= *count,
                "{} went up by {} instead of {count}; all drops since: {:?}",
                reason.name(),
                counted(&now, *reason),
                now.drops_since(&before)
            );
        }
        Ok(now)
    })?;
    let mut lines = Vec::new();
    for (reason, count) in expected {
        let more = counted(&reached, *reason);
        ensure!(more == *count, "{} went up by {more} instead of {count}", reason.name());
        let total = reached.drops().get(reason.name()).copied().unwrap_or_default();
        lines.push(format!(
            "overlane_drops_total{{reason=\"{}\"}} {} -> {total}",
            reason.name(),
            total - more
        ));
    }
    Ok(lines.join(", "))
}

/// `attacker` sends `count` datagrams to `to` with `pretended` as their source.
///
/// # Errors
/// If they are not dropped, each counted as `src_ipv4_spoofed`.
pub fn spoof_ipv4(lab: &Lab, attacker: &Node, pretended: Ipv4Addr, to: &Node, count: u64) -> Result<String> {
    let port = RawPort::open(&lab.namespace(&attacker.id), NODE_DEVICE)?;
    let frame = inject::udp4(Macs::between(attacker, to)?, pretended, to.ipv4, b"spoofed")?;
    expect_drops(lab, &attacker.host, &[(DropReason::SrcIpv4Spoofed, count)], || repeat(&port, &frame, count))
}

/// Sends the same frame `count` times.
///
/// # Errors
/// If the kernel does not take it.
pub fn repeat(port: &RawPort, frame: &[u8], count: u64) -> Result<()> {
    (0..count).try_for_each(|_| port.send(frame))
}

/// The router's socket towards a host, and the hardware addresses of the link.
///
/// # Errors
/// If a device is missing.
pub fn substrate_port(lab: &Lab, host: &str) -> Result<(RawPort, Macs)> {
    let port = RawPort::open(&lab.namespace("router"), host)?;
    let destination = RawPort::open(&lab.namespace(host), UPLINK)?.mac();
    let macs = Macs { source: port.mac(), destination };
    Ok((port, macs))
}

/// A substrate address that anybody could write, with every field chosen freely.
///
/// # Errors
/// If a field is none of its kind.
pub fn forge(prefix: &str, slot: u8, vnet: u32, ipv4: Ipv4Addr) -> Result<Ipv6Addr> {
    Ok(LAYOUT.encode(&SubstrateAddress {
        prefix: HostPrefix::parse(LAYOUT, prefix)?,
        slot: Slot::new(slot)?,
        delivery: Delivery::Owner,
        vnet: VnetId::new(vnet)?,
        ipv4,
    })?)
}

/// Somebody on the substrate sends `count` packets to `to` in the name of `pretended`, from a prefix where that node
/// does not live.
///
/// # Errors
/// If they are not dropped, each counted as `src_prefix_mismatch`.
pub fn forge_prefix(lab: &Lab, pretended: &Node, to: &Node, count: u64) -> Result<String> {
    let source = forge("fd00:0:0:c::/64", pretended.slot, pretended.vnet, pretended.ipv4)?;
    let (port, macs) = substrate_port(lab, &to.host)?;
    let frame = inject::udp6(macs, source, lab.plan().substrate_address(to)?, b"forged")?;
    expect_drops(lab, &to.host, &[(DropReason::SrcPrefixMismatch, count)], || repeat(&port, &frame, count))
}

/// `node` sends `count` echo requests to its host's kernel: to the hardware address of the host's side of the veth
/// pair, for an IPv4 address that the kernel owns.
///
/// # Errors
/// If the kernel saw one, or they are not counted as `unknown_dst_mac`.
pub fn reach_host_kernel(lab: &Lab, node: &Node, count: u64) -> Result<String> {
    let host = lab.namespace(&node.host);
    let macs = Macs { source: node.mac()?, destination: RawPort::open(&host, &node.device)?.mac() };
    ensure!(macs.destination != MacAddr::ZERO, "{} has no hardware address", node.device);
    let port = RawPort::open(&lab.namespace(&node.id), NODE_DEVICE)?;
    let frame = inject::ping4(macs, node.ipv4, HOST_IPV4)?;
    let seen = || kernel_count(&host, "Icmp", "InEchos");
    let before = seen()?;
    let counted = expect_drops(lab, &node.host, &[(DropReason::UnknownDstMac, count)], || {
        repeat(&port, &frame, count)
    })?;
    let after = seen()?;
    ensure!(before == after, "the host's kernel received {} echo requests", after - before);
    Ok(format!("{counted}; the kernel of {} saw none of {count}", node.host))
}

/// An IPv4 address that every host's kernel has, for intruders to aim at.
pub const HOST_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What the kernel of `namespace` has counted by itself, as `/proc/net/snmp` and `snmp6` name it: `Icmp` and `InEchos`,
/// `Ip` and `ForwDatagrams`, `Ip6` and `OutForwDatagrams`, and so on.
///
/// # Errors
/// If it counts no such thing.
pub fn kernel_count(namespace: &Namespace, protocol: &str, name: &str) -> Result<u64> {
    let (four, six) = namespace.enter(|| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        Ok((read("snmp")?, read("snmp6").unwrap_or_default()))
    })?;
    let found = counted4(&four, protocol, name).or_else(|| counted6(&six, protocol, name));
    let value = found.with_context(|| format!("the kernel of {namespace} counts no {protocol} {name}"))?;
    Ok(value.parse()?)
}

/// A count out of `/proc/net/snmp`: of each protocol a line of names and one of values.
fn counted4<'a>(snmp: &'a str, protocol: &str, name: &str) -> Option<&'a str> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next()?, lines.next()?);
    names.split(' ').zip(values.split(' ')).find_map(|(known, value)| (known == name).then_some(value))
}

/// A count out of `/proc/net/snmp6`: a line for each, with protocol and name in one word.
fn counted6<'a>(snmp6: &'a str, protocol: &str, name: &str) -> Option<&'a str> {
    let mut lines = snmp6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    lines.find_map(|(known, value)| (known.strip_prefix(protocol)? == name).then_some(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str =
        "Ip: Forwarding\nIp: 1\nIcmp: InMsgs InErrors InEchos\nIcmp: 9 1 7\nIcmpMsg: InType8\nIcmpMsg: 3\n";
    const SNMP6: &str = "Ip6InReceives                   \t12\nIcmp6InEchos                    \t5\n";

    #[test]
    fn kernels_counts_are_found_by_protocol_and_name() {
        assert_eq!(counted4(SNMP, "Icmp", "InEchos"), Some("7"));
        assert_eq!(counted4(SNMP, "IcmpMsg", "InType8"), Some("3"));
        assert_eq!(counted6(SNMP6, "Icmp6", "InEchos"), Some("5"));
        assert_eq!((counted4(SNMP, "Icmp", "InType8"), counted4(SNMP, "Icmp6", "InEchos")), (None, None));
        assert_eq!(counted6(SNMP6, "Icmp", "InEchos"), None);
    }
}
