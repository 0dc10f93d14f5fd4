//! The host's kernel on real interfaces: what the engine sees of it, and what it no longer sees of tenants.

#[allow(dead_code, reason = "shared between test binaries, each of which uses a part")]
mod common;

use common::{Node, attempt, in_netns, run};
use overlane_dataplane::address::{HostPrefix, Layout};
use overlane_engine::kernel::{Kernel, LinkChange, LinkEvent, Watch};
use std::time::Duration;

fn main() {
    let arguments = libtest_mimic::Arguments::from_args();
    let tests = vec![
        in_netns("tenant_cannot_reach_the_hosts_kernel_and_can_after_release", tenant),
        in_netns("isolation_survives_the_engine_and_is_idempotent", idempotent),
        in_netns("isolation_of_an_interface_that_does_not_exist_fails", no_interface),
        in_netns("isolation_behind_a_foreign_filter_comes_first", foreign_filter),
        in_netns("packets_to_our_prefix_are_kept_from_the_kernel_and_others_pass", prefix),
        in_netns("interfaces_coming_changing_moving_and_going_are_told", watch),
        in_netns("link_settings_are_applied_and_refusals_name_them", settings),
    ];
    libtest_mimic::run(&arguments, tests).exit();
}

/// A veth pair: `host0` here with 10.9.0.1 and fd00::1, `eth0` in the node with .2.
fn veth() -> Node {
    let node = Node::new();
    run(&format!("ip link add host0 type veth peer name eth0 netns {}", node.pid()));
    run("ip addr add 10.9.0.1/24 dev host0; ip -6 addr add fd00::1/64 dev host0 nodad; ip link set host0 up");
    node.run(
        "ip addr add 10.9.0.2/24 dev eth0; ip -6 addr add fd00::2/64 dev eth0 nodad; ip link set eth0 up",
    );
    node
}

/// Whether one of three pings is answered: a kernel that has just asked for its neighbour in vain asks again within a
/// second or two, and until then holds packets back.
fn reaches(node: &Node, address: &str) -> bool {
    (0..3).any(|_| node.attempt(&format!("ping -c 1 -W 1 {address}")).0)
}

async fn tenant() {
    let node = veth();
    assert!(reaches(&node, "10.9.0.1") && reaches(&node, "fd00::1"));
    let kernel = Kernel::connect().unwrap();
    let link = kernel.link_by_name("host0").await.unwrap();
    let isolation = kernel.isolate_tenant(link.ifindex).await.unwrap();
    assert!(!run("ip addr show dev host0").contains("inet"));
    assert_eq!(run("cat /proc/sys/net/ipv6/conf/host0/disable_ipv6").trim(), "1");
    // Even with its addresses back, the kernel hears nothing.
    run("ip addr add 10.9.0.1/24 dev host0");
    assert!(!reaches(&node, "10.9.0.1"));
    kernel.release_tenant(&isolation).await.unwrap();
    assert!(!run("tc qdisc show dev host0").contains("clsact"));
    assert_eq!(run("cat /proc/sys/net/ipv6/conf/host0/disable_ipv6").trim(), "0");
    assert!(reaches(&node, "10.9.0.1"));
    run("ip link del host0");
    kernel.release_tenant(&isolation).await.unwrap();
}

async fn idempotent() {
    let node = veth();
    let first = Kernel::connect().unwrap();
    let link = first.link_by_name("host0").await.unwrap();
    let isolation = first.isolate_tenant(link.ifindex).await.unwrap();
    drop(first);
    assert!(!reaches(&node, "10.9.0.1"));
    let second = Kernel::connect().unwrap();
    second.isolate_tenant(link.ifindex).await.unwrap();
    assert_eq!(run("tc filter show dev host0 ingress").matches("direct-action").count(), 1);
    second.release_tenant(&isolation).await.unwrap();
}

async fn no_interface() {
    let error = Kernel::connect().unwrap().isolate_tenant(4711).await.unwrap_err();
    assert!(error.is_no_interface(), "{error}");
    assert!(error.to_string().contains("4711"), "{error}");
}

async fn foreign_filter() {
    let node = veth();
    // Accepts everything, at the very preference that ours has.
    run("tc qdisc add dev host0 clsact");
    run("tc filter add dev host0 ingress pref 1 bpf da bytecode \"1,6 0 0 0\"");
    let kernel = Kernel::connect().unwrap();
    let link = kernel.link_by_name("host0").await.unwrap();
    let isolation = kernel.isolate_tenant(link.ifindex).await.unwrap();
    run("ip addr add 10.9.0.1/24 dev host0");
    assert!(!reaches(&node, "10.9.0.1"));
    kernel.release_tenant(&isolation).await.unwrap();
    assert_eq!(run("tc filter show dev host0 ingress").matches("direct-action").count(), 1);
    assert!(reaches(&node, "10.9.0.1"));
}

async fn prefix() {
    let node = veth();
    run("ip -6 addr add fd00:0:0:a::5/64 dev host0 nodad; ip -6 addr add fd00:0:0:b::5/64 dev host0 nodad");
    run("ip -6 addr add fd00::9/64 dev host0 nodad");
    node.run("ip -6 route add fd00:0:0:a::/64 via fd00::1; ip -6 route add fd00:0:0:b::/64 via fd00::1");
    assert!(reaches(&node, "fd00:0:0:a::5") && reaches(&node, "fd00:0:0:b::5") && reaches(&node, "fd00::9"));
    let kernel = Kernel::connect().unwrap();
    let ifindex = kernel.link_by_name("host0").await.unwrap().ifindex;
    let parse = |text| Some(HostPrefix::parse(Layout::Slot64, text).unwrap());
    let own = ["fd00::9".parse().unwrap()];
    kernel.isolate_prefix(ifindex, parse("fd00:0:0:a::/64"), &own).await.unwrap();
    let seen =
        ["fd00:0:0:a::5", "fd00:0:0:b::5", "fd00::9", "fd00::1", "10.9.0.1"].map(|to| reaches(&node, to));
    assert_eq!(seen, [false, true, false, true, true]);
    kernel.isolate_prefix(ifindex, parse("fd00:0:0:b::/64"), &[]).await.unwrap();
    let seen = ["fd00:0:0:a::5", "fd00:0:0:b::5", "fd00::9"].map(|to| reaches(&node, to));
    assert_eq!(seen, [true, false, true]);
    kernel.release_prefix(ifindex).await.unwrap();
    assert!(reaches(&node, "fd00:0:0:b::5"));
    assert!(!run("tc qdisc show dev host0").contains("clsact"));
}

/// The next event about `name` that is as wanted; others may come between.
async fn wait_for(watch: &mut Watch, name: &str, wanted: impl Fn(&LinkChange) -> bool) -> LinkEvent {
    let event = async {
        loop {
            let event = watch.next().await.unwrap();
            if event.name == name && wanted(&event.change) {
                return event;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), event).await.unwrap()
}

async fn watch() {
    let node = Node::new();
    run("ip link add there0 type veth peer name there1");
    let kernel = Kernel::connect().unwrap();
    let mut watch = kernel.watch().await.unwrap();
    let is_new = |change: &LinkChange| matches!(change, LinkChange::New { .. });
    let there = wait_for(&mut watch, "there0", is_new).await;
    assert_eq!(kernel.link_by_name("there0").await.unwrap().ifindex, there.ifindex);
    run("ip link add new0 type veth peer name new1");
    wait_for(&mut watch, "new0", is_new).await;
    run("ip link set new0 up; ip link set new1 up");
    wait_for(&mut watch, "new0", |change| matches!(change, LinkChange::New { running: true, .. })).await;
    run("ip link set new0 mtu 1400");
    wait_for(&mut watch, "new0", |change| matches!(change, LinkChange::New { mtu: 1400, .. })).await;
    run("ip link set new0 name other0");
    wait_for(&mut watch, "other0", is_new).await;
    run(&format!("ip link set other0 netns {}", node.pid()));
    wait_for(&mut watch, "other0", |change| *change == LinkChange::Gone { moved: true }).await;
    run("ip link del there0");
    let gone = wait_for(&mut watch, "there0", |change| *change == LinkChange::Gone { moved: false }).await;
    assert_eq!(gone.ifindex, there.ifindex);
}

async fn settings() {
    run("ip link add set0 type veth peer name set1");
    let kernel = Kernel::connect().unwrap();
    let ifindex = kernel.link_by_name("set0").await.unwrap().ifindex;
    kernel.set_mtu(ifindex, 1400).await.unwrap();
    kernel.set_mac(ifindex, "02:00:00:00:00:07".parse().unwrap()).await.unwrap();
    kernel.set_up(ifindex, true).await.unwrap();
    let link = kernel.link_by_index(ifindex).await.unwrap();
    assert_eq!((link.mtu, link.mac.to_string().as_str(), link.up), (1400, "02:00:00:00:00:07", true));
    let error = kernel.set_mtu(ifindex, 1_000_000).await.unwrap_err().to_string();
    assert!(error.contains("1000000"), "{error}");
    let (_, text) = attempt("ip -br link show dev set0");
    assert!(text.contains("02:00:00:00:00:07"), "{text}");
}
