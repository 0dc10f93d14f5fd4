//! What nodes see of the way between them: TTL, large packets in fragments, and who is on the way.

use crate::fixture::{Case, in_lab};
use anyhow::{Context, Result, bail, ensure};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::path::{DontFragment, Probe, TracedPath, ping_sized, tracepath, traceroute};
use overlane_cli::lab::plan::GATEWAY;
use overlane_cli::lab::shape::Shape;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("ttl_stays_within_a_host_and_goes_down_at_each_engine_and_router_across_hosts", ttl),
    Case::Shared("large_pings_arrive_in_fragments_with_df_and_without", large_pings),
    Case::Shared("traceroute_lists_engines_router_and_target_by_udp_icmp_and_tcp", hops),
    Case::Alone("routers_without_an_ipv4_address_get_one_of_the_configured_pool", pool),
    Case::Shared("tracepath_finds_the_mtu_and_the_hops_of_a_path", traced),
];

fn ttl(lab: &Lab) -> Result<()> {
    let from = lab.namespace("acme-1");
    // Across hosts: each engine translates and takes one (RFC 7915, 4.1 and 5.1), and so does the router.
    for (to, left) in [("acme-2", 64), ("acme-3", 61)] {
        let result = ping_sized(&from, lab.node(to)?.ipv4, 2, 56, DontFragment::Discover)?;
        ensure!(result.ping.is_complete() && result.ttl == Some(left), "{to}: {result:?}");
    }
    for (to, ttl, arrives) in [("acme-2", "1", true), ("acme-3", "4", true), ("acme-3", "3", false)] {
        let mut command = from.command("ping");
        let target = lab.node(to)?.ipv4.to_string();
        let output = command.args(["-n", "-c", "1", "-W", "1", "-t", ttl, &target]).output()?;
        ensure!(output.status.success() == arrives, "{to} with a TTL of {ttl}: {output:?}");
    }
    Ok(())
}

fn large_pings(lab: &Lab) -> Result<()> {
    let from = lab.namespace("acme-1");
    for to in ["acme-2", "acme-3"] {
        for df in [DontFragment::Discover, DontFragment::Never] {
            for size in [3_000, 20_000, 65_507] {
                let result = ping_sized(&from, lab.node(to)?.ipv4, 3, size, df)?;
                ensure!(result.ping.is_complete(), "{size} bytes to {to}, {df:?}: {result:?}");
            }
        }
    }
    Ok(())
}

fn hops(lab: &Lab) -> Result<()> {
    for (to, between) in [("acme-2", 0), ("acme-3", 3)] {
        let target = lab.node(to)?.ipv4;
        // The engine of the sender, the router, the engine of the receiver.
        let mut expected = vec![Some(GATEWAY); between];
        expected.push(Some(target));
        for probe in [Probe::Udp, Probe::Icmp, Probe::Tcp] {
            let found = traceroute(&lab.namespace("acme-1"), target, probe)?;
            ensure!(found == expected, "to {to} by {probe:?}: {found:?}");
        }
    }
    Ok(())
}

/// Addresses that are for protocols and no host has (RFC 6890).
const POOL: &str = "192.0.0.0/24";

fn pool() -> Result<()> {
    let engine = format!("[translate]\nrouter_source = \"{POOL}\"\n");
    in_lab("pool", Shape { engine, ..Shape::default() }, |lab| {
        let target = lab.node("acme-3")?.ipv4;
        let found = traceroute(&lab.namespace("acme-1"), target, Probe::Icmp)?;
        let [Some(near), Some(router), Some(far), Some(last)] = *found else { bail!("{found:?}") };
        // The sender's engine answers for the gateway, which has an address; the router and the other engine have none.
        ensure!((near, last) == (GATEWAY, target), "{found:?}");
        ensure!([router, far].iter().all(|hop| hop.octets().starts_with(&[192, 0, 0])), "{found:?}");
        Ok(())
    })
}

fn traced(lab: &Lab) -> Result<()> {
    let mtu = lab.plan().shape.node_mtu().into();
    for (to, hops) in [("acme-2", 1), ("acme-3", 4)] {
        let target = lab.node(to)?.ipv4;
        let path = tracepath(&lab.namespace("acme-1"), target).with_context(|| to.to_owned())?;
        let TracedPath { mtu: found, hops: reached, answers, lowered } = &path;
        ensure!((*found, *reached) == (mtu, Some(hops)), "to {to}: {path:?}");
        // Nothing on the way is narrower than what the node itself knows.
        ensure!(lowered == &[(1, mtu)], "to {to}: {path:?}");
        let mut expected: Vec<_> = (1..hops).map(|hop| (hop, GATEWAY)).collect();
        expected.push((hops, target));
        ensure!(expected.iter().all(|answer| answers.contains(answer)), "to {to}: {path:?}");
        ensure!(answers.iter().all(|answer| expected.contains(answer)), "to {to}: {path:?}");
    }
    Ok(())
}
