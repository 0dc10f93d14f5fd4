//! Who hears what is sent to groups: what nodes say, where they are, and what the service tells of other hosts.

use super::*;
use core::net::Ipv4Addr;
use overlane_dataplane::group::{Filter, Group};
use overlane_dataplane::wire::igmp;

const VIDEO: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

/// A report of version 2 of the node, in its frame.
fn join() -> Vec<u8> {
    let [a, b, c, d] = VIDEO.octets();
    let mut message = vec![0x16, 0, 0, 0, a, b, c, d];
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message).ones_complement();
    message[2..4].copy_from_slice(&sum.to_ne_bytes());
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 5], [1, 0, 0x5e, 1, 2, 3]);
    let mut frame = Vec::new();
    let builder = builder.ipv4([10, 0, 0, 5], VIDEO.octets(), 1);
    builder.write(&mut frame, etherparse::IpNumber::IGMP, &message).unwrap();
    frame
}

fn group(bench: &Bench, group: Ipv4Addr) -> Option<Group> {
    let seen = bench.fake.seen.lock();
    seen.snapshots.last().and_then(|snapshot| snapshot.groups.get(vnet_id(), group).cloned())
}

#[tokio::test]
async fn what_a_node_wants_to_hear_is_in_the_snapshot_and_reported() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    let mut site = site(1);
    let other = HostPrefix::parse(Layout::Slot64, "fd00:0:0:b::/64").unwrap();
    let target = Target { vnet: vnet_id(), ipv4: VIDEO };
    let put = What::PutGroup(target, vec![other].into());
    site.apply(Change { revision: 1, what: put }).unwrap();
    bench.snapshot(site).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    let port = PortId::new(1).unwrap();
    bench
        .until("a question", |bench| {
            let seen = bench.fake.seen.lock();
            seen.injected.iter().any(|(to, frame)| *to == port && frame.len() == 14 + 24 + igmp::QUERY_LENGTH)
        })
        .await;
    assert!(group(&bench, VIDEO).unwrap().members.is_empty());
    assert_eq!(group(&bench, Ipv4Addr::BROADCAST).unwrap().members.len(), 1, "it hears broadcast anyway");

    bench.punts.send((port, join())).await.unwrap();
    bench.until("a member", |bench| group(bench, VIDEO).is_some_and(|group| group.members.len() == 1)).await;
    let heard = group(&bench, VIDEO).unwrap();
    assert_eq!((heard.members[0].port, &heard.members[0].filter), (port, &Filter::ALL));
    assert_eq!(heard.hosts[..], [other]);
    let reported = |bench: &Bench| bench.reports.borrow().get("n1/eth0").map(|report| report.groups.clone());
    bench.until("the report", |bench| reported(bench) == Some(vec![VIDEO])).await;

    // Nobody hears any more when the network says so, and the vnet takes its groups along.
    bench.delta(2, vec![What::DeleteGroup(target)]).await;
    bench.until("no host", |bench| group(bench, VIDEO).is_some_and(|group| group.hosts.is_empty())).await;
    bench.links.send(LinkEvent::Gone(4)).await.unwrap();
    bench.until("no member", |bench| group(bench, VIDEO).is_none()).await;
    bench.until("no report", |bench| reported(bench) == Some(Vec::new())).await;
}

#[tokio::test]
async fn a_node_that_moves_hears_groups_where_packets_for_it_go() {
    let mut bench = start(settings());
    bench.link(4, "veth-n1", true).await;
    bench.snapshot(site(1)).await;
    bench.until("local", |bench| bench.local_of(5) == Some(1)).await;
    let members = |bench: &Bench| group(bench, Ipv4Addr::BROADCAST).map_or(0, |group| group.members.len());
    bench.until("a member", |bench| members(bench) == 1).await;
    bench.delta(2, vec![What::PutMapping(target(5), elsewhere(3))]).await;
    bench.applied(2).await;
    bench.until("none", |bench| members(bench) == 0).await;
    bench.delta(3, vec![What::PutMapping(target(5), here(0))]).await;
    bench.until("a member again", |bench| members(bench) == 1).await;
}
