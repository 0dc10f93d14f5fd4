//! Makes the namespaces, links, addresses and routes of a plan: all of it plain Linux.

use super::attack::HOST_IPV4;
use super::netns::Namespace;
use super::plan::{
    GATEWAY, Host, NODE_DEVICE, NODE_MTU, Node, Plan, SUBSTRATE_MTU, UPLINK, service_address, service_router,
};
use anyhow::Result;

/// Addresses are usable at once, and none come from router advertisements.
const IPV6_SETTINGS: [(&str, &str); 4] = [
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
    link_to_router(plan, &service, "svc")?;
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
    link_to_router(plan, &namespace, &host.id)?;
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

fn link_to_router(plan: &Plan, namespace: &Namespace, name: &str) -> Result<()> {
    namespace.ip(&format!(
        "link add {UPLINK} mtu {SUBSTRATE_MTU} type veth peer name {name} mtu {SUBSTRATE_MTU} netns {}\n\
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
    let namespace = plan.namespace(&node.id);
    namespace.ip(&format!(
        "link add {NODE_DEVICE} address {} mtu {NODE_MTU} type veth peer name {} mtu {NODE_MTU} netns {}",
        node.mac,
        node.device,
        plan.namespace(&node.host)
    ))?;
    configure_node(&namespace, node)?;
    plan.namespace(&node.host).ip(&format!("link set {} up", node.device))
}

/// Gives a node's device its addresses and route.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn configure_node(namespace: &Namespace, node: &Node) -> Result<()> {
    namespace.ip(&format!(
        "addr add {}/24 dev {NODE_DEVICE}\nlink set {NODE_DEVICE} up\nroute add default via {GATEWAY}",
        node.ipv4
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
