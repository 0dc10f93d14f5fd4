//! Tells the service (or, in file mode, a file) what the lab consists of, as an operator and an orchestrator would:
//! through the HTTP API, by the client of the `overlane` command.

use super::handle::Lab;
use super::plan::{self, INTERFACE, LAYOUT, Node, Plan};
use super::probe::ping;
use super::service::SERVER_NAME;
use super::state::State;
use super::{wait, wiring};
use crate::client::{Client, Failure};
use crate::settings::Connection;
use anyhow::{Context, Result, ensure};
use overlane_api::access::{Token, TokenRole, TokenSpec};
use overlane_api::external::Externals;
use overlane_api::group::GroupSettings;
use overlane_api::policy::{Action, DefaultAction, Direction, RuleSpec, Selector};
use overlane_api::resource::{
    Attachment, AttachmentKind, Entity, EntitySpec, Host, HostSpec, InterfaceSpec, InterfaceState,
    MappingMode, MoveInterfaceSpec, MoveRequest, Network, NetworkSpec, Node as NodeResource, NodeSpec,
    RateLimit, Status, Subnet,
};
use std::fmt::Write;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// The provisioning file of a lab without service, in its directory.
pub const FILE: &str = "conf/static.toml";

/// Speaks to the lab's service from within its namespace, where its address is the machine's own.
///
/// # Errors
/// If the service refuses or does not answer.
pub fn with_client<T, W>(lab: &Lab, work: impl FnOnce(Client) -> W + Send) -> Result<T>
where
    T: Send,
    W: Future<Output = Result<T, Failure>>,
{
    connected(lab, &lab.state().file("conf/cli.toml"), work)
}

/// The same as whoever has this token, without a certificate.
///
/// # Errors
/// If the service refuses or does not answer.
pub fn with_token<T, W>(lab: &Lab, secret: &str, work: impl FnOnce(Client) -> W + Send) -> Result<T>
where
    T: Send,
    W: Future<Output = Result<T, Failure>>,
{
    let token_file = lab.state().write_secret("conf/token", secret)?;
    let settings = format!(
        "api = \"https://{}\"\nserver_name = \"{SERVER_NAME}\"\nca = {:?}\ntoken_file = {token_file:?}\n",
        lab.plan().api_endpoint(),
        lab.state().file("pki/ca.crt"),
    );
    connected(lab, &lab.state().write("conf/token.toml", &settings)?, work)
}

/// Does `work` with a token of the entity whose node `of` is; it is good for nothing afterwards.
///
/// # Errors
/// If the service does not make or take it back, and what `work` says.
pub fn with_token_of<T>(lab: &Lab, of: &Node, work: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let entity = Some(of.entity.clone());
    let spec = TokenSpec { name: String::new(), role: TokenRole::Entity, entity, expires_in: Some(600) };
    let made: Token = with_client(lab, async |client: Client| client.post("/v1/tokens", &spec).await)?;
    let outcome = made.secret.as_deref().context("a new token has no secret").and_then(work);
    with_client(lab, async |client: Client| client.delete(&format!("/v1/tokens/{}", made.id)).await)?;
    outcome
}

fn connected<T, W>(lab: &Lab, settings: &Path, work: impl FnOnce(Client) -> W + Send) -> Result<T>
where
    T: Send,
    W: Future<Output = Result<T, Failure>>,
{
    let connection = Connection { config: Some(settings.to_owned()), ..Connection::default() };
    let settings = connection.settings()?;
    lab.plan().service().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(&settings)?;
        Ok(runtime.block_on(work(client))?)
    })
}

/// The service at one glance.
///
/// # Errors
/// If the service refuses or does not answer.
pub fn status(lab: &Lab) -> Result<Status> {
    with_client(lab, async |client: Client| client.get("/v1/status").await)
}

/// A node as the service knows it.
///
/// # Errors
/// If the service refuses or does not answer.
pub fn node(lab: &Lab, id: &str) -> Result<NodeResource> {
    with_client(lab, async |client: Client| client.get(&format!("/v1/nodes/{id}")).await)
}

/// Changes something by the API, and waits until every engine goes by it.
///
/// # Errors
/// If the service refuses, or an engine does not acknowledge within ten seconds.
pub fn change<T, W>(lab: &Lab, work: impl FnOnce(Client) -> W + Send) -> Result<T>
where
    T: Send,
    W: Future<Output = Result<T, Failure>>,
{
    let done = with_client(lab, work)?;
    wait::until("every engine to acknowledge the change", Duration::from_secs(10), || {
        let status = status(lab)?;
        Ok((status.hosts_in_step == status.hosts).then_some(()))
    })?;
    Ok(done)
}

/// A rule about a node's traffic with everybody, for its entity to have.
#[must_use]
pub fn rule_about(node: &Node, direction: Direction, action: Action) -> RuleSpec {
    RuleSpec {
        entity: node.entity.clone(),
        description: String::new(),
        priority: 100,
        direction,
        on: Selector { node: Some(node.id.clone()), ..Selector::default() },
        peer: Selector::default(),
        protocol: None,
        ports: None,
        source_ports: None,
        icmp: None,
        size: None,
        window: None,
        action,
        stateless: false,
    }
}

/// What the API is told of a node.
#[must_use]
pub fn node_spec(node: &Node, kind: AttachmentKind) -> NodeSpec {
    NodeSpec {
        entity: node.entity.clone(),
        host: node.host.clone(),
        tags: Vec::new(),
        interfaces: vec![InterfaceSpec {
            name: INTERFACE.to_owned(),
            network: node.network.clone(),
            mac: Some(node.mac.clone()),
            slot: Some(node.slot.into()),
            addresses: vec![node.ipv4.to_string()],
            groups: Vec::new(),
            routes: Vec::new(),
            transit: Vec::new(),
            rate: RateLimit::default(),
            attachment: Attachment { kind, device: node.device.clone() },
        }],
    }
}

/// What the API is told of a network.
#[must_use]
pub fn network_spec(network: &plan::Network) -> NetworkSpec {
    NetworkSpec {
        entity: network.entity.clone(),
        vnet: Some(network.vnet),
        subnets: vec![Subnet { cidr: network.subnet.clone(), gateway: Some(network.gateway.to_string()) }],
        default_action: DefaultAction::default(),
        mapping: MappingMode::default(),
        dhcp: None,
        groups: GroupSettings::default(),
        externals: Externals::default(),
    }
}

/// Creates everything in the plan.
///
/// # Errors
/// The first thing that the service refuses.
pub fn provision(lab: &Lab) -> Result<()> {
    let plan = lab.plan();
    let mut hosts = Vec::new();
    for host in &plan.hosts {
        hosts.push((host.id.clone(), HostSpec { prefix: host.prefix()?.to_string(), capacity: 64 }));
    }
    with_client(lab, async |client: Client| {
        for network in &plan.networks {
            let spec =
                EntitySpec { description: format!("the lab's {}", network.entity), ..EntitySpec::default() };
            client.put::<Entity>(&format!("/v1/entities/{}", network.entity), &spec).await?;
            let spec = network_spec(network);
            client.put::<Network>(&format!("/v1/networks/{}", network.id), &spec).await?;
        }
        for (id, spec) in &hosts {
            client.put::<Host>(&format!("/v1/hosts/{id}"), spec).await?;
        }
        for node in &plan.nodes {
            let spec = node_spec(node, AttachmentKind::Veth);
            client.put::<NodeResource>(&format!("/v1/nodes/{}", node.id), &spec).await?;
        }
        Ok(())
    })
}

/// Waits until the service holds every interface of every node for live and no move is under way.
///
/// # Errors
/// At the deadline, naming the first that is not.
pub fn wait_live(lab: &Lab, deadline: Duration) -> Result<()> {
    for node in lab.plan().nodes {
        wait_node_live(lab, &node.id, deadline)?;
    }
    wait::until_ok("engines to be in step", deadline, || {
        let status = status(lab)?;
        ensure!(
            status.hosts_connected == status.hosts && status.hosts_in_step == status.hosts,
            "{} of {} engines connected, {} in step",
            status.hosts_connected,
            status.hosts,
            status.hosts_in_step
        );
        Ok(())
    })
}

/// Waits until a node's interfaces are live and it is not moving.
///
/// # Errors
/// At the deadline, with what the service says.
pub fn wait_node_live(lab: &Lab, id: &str, deadline: Duration) -> Result<()> {
    wait::until_ok(&format!("node {id} to be live"), deadline, || {
        let node = node(lab, id)?;
        for interface in &node.interfaces {
            ensure!(
                interface.state == InterfaceState::Live,
                "{}/{} is {} {}",
                node.id,
                interface.name,
                interface.state,
                interface.detail
            );
        }
        if let Some(moving) = node.moving {
            anyhow::bail!("{id} is moving: {:?}, waiting for {}", moving.phase, moving.waiting_for);
        }
        Ok(())
    })
}

/// Moves a node as an orchestrator does: tells the service, carries the host's side of the veth pair over, and waits
/// until the move is done. The node's own side is not touched.
///
/// # Errors
/// If the service refuses, or the move does not come to its end.
pub fn move_node(lab: &Lab, id: &str, to: &str) -> Result<()> {
    let plan = lab.plan();
    let node_plan = plan.node(id)?;
    let request = MoveRequest { host: to.to_owned(), interfaces: Vec::<MoveInterfaceSpec>::new() };
    with_client(lab, async |client: Client| {
        client.post::<serde_json::Value>(&format!("/v1/nodes/{id}/move"), &request).await
    })?;
    wiring::carry_over(&plan, &node_plan.device, &node_plan.host, to)?;
    wait::until_ok(&format!("the move of {id} to {to}"), Duration::from_secs(20), || {
        let node = node(lab, id)?;
        if let Some(moving) = node.moving {
            anyhow::bail!("phase {:?}, waiting for {}", moving.phase, moving.waiting_for);
        }
        ensure!(node.host == to, "it is on {}", node.host);
        let slot = node.interfaces.first().context("it has no interface")?.slot;
        lab.relocate(id, to, u8::try_from(slot)?)
    })
}

/// Writes the whole lab's provisioning file.
///
/// # Errors
/// If it cannot be written.
pub fn write_file(state: &State, plan: &Plan) -> Result<()> {
    state.write(FILE, &static_file(plan)?)?;
    Ok(())
}

/// The provisioning file of a plan.
///
/// # Errors
/// If the plan holds an illegal value.
pub fn static_file(plan: &Plan) -> Result<String> {
    let mut text = format!("layout = \"{LAYOUT}\"\n");
    for host in &plan.hosts {
        writeln!(text, "\n[[host]]\nid = \"{}\"\nprefix = \"{}\"", host.id, host.prefix()?)?;
    }
    for network in &plan.networks {
        writeln!(
            text,
            "\n[[network]]\nid = \"{}\"\nvnet = {}\nsubnets = [{{ cidr = \"{}\", gateway = \"{}\" }}]",
            network.id, network.vnet, network.subnet, network.gateway
        )?;
    }
    for node in &plan.nodes {
        writeln!(
            text,
            "\n[[interface]]\nid = \"{}\"\nhost = \"{}\"\nnetwork = \"{}\"\nslot = {}\nmac = \"{}\"\n\
             addresses = [\"{}\"]\nattachment = {{ kind = \"veth\", device = \"{}\" }}",
            node.interface_id(),
            node.host,
            node.network,
            node.slot,
            node.mac,
            node.ipv4,
            node.device
        )?;
    }
    Ok(text)
}

/// Waits until every node reaches another one of its network, there being no service to say that they can.
///
/// # Errors
/// At the deadline, naming the first that does not.
pub fn wait_reaching(lab: &Lab, deadline: Duration) -> Result<()> {
    let plan = lab.plan();
    for node in &plan.nodes {
        let peers = plan.nodes.iter().filter(|peer| peer.network == node.network && peer.id != node.id);
        for peer in peers {
            wait::until_ok(&format!("{} to reach {}", node.id, peer.id), deadline, || {
                let result = ping(&lab.namespace(&node.id), peer.ipv4, 1)?;
                ensure!(result.is_complete(), "no answer to ping");
                Ok(())
            })?;
        }
    }
    Ok(())
}
