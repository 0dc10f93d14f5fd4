//! Makes the namespaces, links, addresses and routes of a plan: all of it plain Linux.

use super::attack::HOST_IPV4;
use super::netns::{Namespace, run};
use super::plan::{Host, NODE_DEVICE, Node, Plan, UPLINK, service_address, service_router};
use anyhow::Result;

/// Addresses are usable at once, and none come from router advertisements.
pub(super) const IPV6_SETTINGS: [(&str, &str); 4] = [
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
];

/// The router: an ordinary Linux IPv6 router.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn make_router(plan: &Plan) -> Result<()> {
    let router = plan.router();
    router.create()?;
    router.sysctl(&IPV6_SETTINGS)?;
    router.sysctl(&[("ipv6/conf/all/forwarding", "1"), ("ipv6/conf/default/forwarding", "1")])
}

/// The service's namespace and its link to the router.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn make_service_namespace(plan: &Plan) -> Result<()> {
    let service = plan.service();
    service.create()?;
    service.sysctl(&IPV6_SETTINGS)?;
    link_to_router(plan, &service, "svc", plan.shape.mtu)?;
    plan.router().ip(&format!("addr add {}/64 dev svc nodad", service_router()))?;
    service.ip(&format!(
        "addr add {}/64 dev {UPLINK} nodad\nroute add default via {}",
        service_address(),
        service_router()
    ))
}

/// A host's namespace, its link to the router, and the router's route to its prefix.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn make_host(plan: &Plan, host: &Host) -> Result<()> {
    let namespace = plan.namespace(&host.id);
    namespace.create()?;
    namespace.sysctl(&IPV6_SETTINGS)?;
    link_to_router(plan, &namespace, &host.id, plan.shape.link_mtu(&host.id))?;
    plan.router().ip(&format!(
        "addr add {}/64 dev {} nodad\nroute add {} via {}",
        host.router(),
        host.id,
        host.prefix()?,
        host.engine()
    ))?;
    namespace.ip(&format!(
        "addr add {HOST_IPV4}/32 dev lo\naddr add {}/64 dev {UPLINK} nodad\nroute add default via {}",
        host.kernel(),
        host.router()
    ))
}

fn link_to_router(plan: &Plan, namespace: &Namespace, name: &str, mtu: u16) -> Result<()> {
    namespace.ip(&format!(
        "link add {UPLINK} mtu {mtu} type veth peer name {name} mtu {mtu} netns {}\n\
         link set {UPLINK} up",
        plan.router()
    ))?;
    plan.router().ip(&format!("link set {name} up"))
}

/// A node's namespace and its link to its host.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn make_node(plan: &Plan, node: &Node) -> Result<()> {
    plan.namespace(&node.id).create()?;
    connect_node(plan, node)
}

/// Makes a node's veth pair and configures the node's side, as an orchestrator does.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn connect_node(plan: &Plan, node: &Node) -> Result<()> {
    let (namespace, mtu) = (plan.namespace(&node.id), plan.shape.node_mtu());
    namespace.ip(&format!(
        "link add {NODE_DEVICE} address {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        node.mac,
        node.device,
        plan.namespace(&node.host)
    ))?;
    configure_node(&namespace, node)?;
    let host = plan.namespace(&node.host);
    host.ip(&format!("link set {} up", node.device))?;
    if !plan.shape.offloads {
        offload(&namespace, NODE_DEVICE, false)?;
        offload(&host, &node.device, false)?;
    }
    Ok(())
}

/// Gives a node's device its addresses and route.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn configure_node(namespace: &Namespace, node: &Node) -> Result<()> {
    namespace.ip(&format!(
        "addr add {}/24 dev {NODE_DEVICE}\nlink set {NODE_DEVICE} up\nroute add default via {}",
        node.ipv4,
        node.gateway()
    ))
}

/// Takes a node's veth pair away, as a container runtime does at a container's end.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn disconnect_node(plan: &Plan, node: &Node) -> Result<()> {
    plan.namespace(&node.host).ip(&format!("link del {}", node.device))
}

/// Moves the host's side of a node's veth pair to another host; the node's side notices a moment without carrier.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn carry_over(plan: &Plan, device: &str, from: &str, to: &str) -> Result<()> {
    let (from, to) = (plan.namespace(from), plan.namespace(to));
    from.ip(&format!("link set {device} netns {to}"))?;
    to.ip(&format!("link set {device} up"))
}

/// Turns the offloads of the links of all hosts and nodes on, as Linux has them by default, or off.
///
/// # Errors
/// If a device refuses.
pub fn set_offloads(plan: &Plan, on: bool) -> Result<()> {
    for node in &plan.nodes {
        offload(&plan.namespace(&node.id), NODE_DEVICE, on)?;
        offload(&plan.namespace(&node.host), &node.device, on)?;
    }
    for host in &plan.hosts {
        offload(&plan.namespace(&host.id), UPLINK, on)?;
        offload(&plan.router(), &host.id, on)?;
    }
    Ok(())
}

/// Checksums and segmentation on sending. What is received in one piece stays in one: veth pairs do not join packets
/// unless they are told to.
fn offload(namespace: &Namespace, device: &str, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    let mut command = namespace.command("ethtool");
    command.args(["-K", device, "tx", state, "gso", state, "tso", state, "gro", "off"]);
    run(&mut command).map(|_| ())
}
