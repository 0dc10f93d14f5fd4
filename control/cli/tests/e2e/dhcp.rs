//! DHCP as stock clients see it: what provisioning says, from the engine, and from nobody else.

use crate::attacks::frames::{Four, UDP};
use crate::fixture::Case;
use anyhow::{Context, Result, bail, ensure};
use etherparse::{IpNumber, Ipv4Header, UdpHeader};
use nix::sys::signal::Signal;
use overlane_api::dhcp::{Dhcp, DhcpBoot, DhcpRoute};
use overlane_api::event::Event;
use overlane_api::resource::{Network, NetworkSpec, Page};
use overlane_cli::client::Client;
use overlane_cli::lab::attack::expect_drops;
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::inject::{Macs, RawPort};
use overlane_cli::lab::netns::run;
use overlane_cli::lab::plan::{NODE_DEVICE, Node};
use overlane_cli::lab::probe::ping;
use overlane_cli::lab::process::Process;
use overlane_cli::lab::provision::{change, network_spec, with_client};
use overlane_cli::lab::wait;
use overlane_cli::lab::wiring::configure_node;
use overlane_dataplane::drop::DropReason;
use overlane_dataplane::mac::MacAddr;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("dhcp::udhcpc_gets_what_provisioning_says_and_renews_it", udhcpc),
    Case::Shared("dhcp::dhclient_gets_what_provisioning_says_and_goes_on_with_it", dhclient),
    Case::Shared("dhcp::nobody_answers_in_a_network_that_does_not_ask_for_it", unanswered),
    Case::Shared("dhcp::a_node_that_plays_the_server_is_refused_and_told_of", rogue),
];

const SOON: Duration = Duration::from_secs(20);

/// What a client hands to its script: the environment and, of udhcpc, what has happened. It configures the device as a
/// distribution's does, but leaves the machine's resolver alone.
const SCRIPT: &str = r#"#!/bin/sh
{ echo "event=${1:-$reason}"; env; echo; } >>"$OVERLANE_TOLD"
case ${1:-$reason} in
bound | renew) ip addr replace "$ip/$mask" dev "$interface" && ip route replace default via "${router%% *}" ;;
BOUND | REBOOT) ip addr replace "$new_ip_address/24" dev "$interface" && ip route replace default via "$new_routers" ;;
esac
"#;

/// A client's script, and what it has been told.
struct Script {
    file: PathBuf,
    told: PathBuf,
}

type Told = BTreeMap<String, String>;

impl Script {
    fn new(lab: &Lab) -> Result<Self> {
        let file = lab.state().write("dhcp-script", SCRIPT)?;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
        let told = lab.state().file("dhcp-told");
        std::fs::write(&told, "")?;
        Ok(Self { file, told })
    }

    fn told(&self) -> Result<Vec<Told>> {
        let text = std::fs::read_to_string(&self.told)?;
        // What is still being written is not told yet.
        let Some((text, _)) = text.rsplit_once("\n\n") else { return Ok(Vec::new()) };
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(text.split("\n\n").map(|block| block.lines().filter_map(pair).collect()).collect())
    }

    /// What the first of these events came with, once there are `count` of them.
    fn event(&self, name: &str, count: usize) -> Result<Told> {
        wait::until(&format!("the client's {name}"), SOON, || {
            let told = self.told()?;
            let events: Vec<&Told> =
                told.iter().filter(|told| told.get("event").is_some_and(|event| event == name)).collect();
            Ok(events.get(count - 1).map(|told| (*told).clone()))
        })
    }
}

/// Requires that a client was told so.
fn expect(told: &Told, wanted: &[(&str, &str)]) -> Result<()> {
    for (name, value) in wanted {
        let said = told.get(*name).map(|said| said.trim());
        ensure!(said == Some(value), "{name} is {said:?} instead of {value}: {told:#?}");
    }
    Ok(())
}

/// Has the engines answer DHCP in a network, or not.
fn serve(lab: &Lab, node: &Node, dhcp: Option<Dhcp>) -> Result<()> {
    let plan = lab.plan();
    let network = plan.networks.iter().find(|network| network.id == node.network).context("its network")?;
    let spec = NetworkSpec { dhcp: dhcp.clone(), ..network_spec(network) };
    let path = format!("/v1/networks/{}", network.id);
    let (_, now): (bool, Network) = change(lab, async |client: Client| client.put(&path, &spec).await)?;
    ensure!(now.dhcp == dhcp, "{now:?}");
    Ok(())
}

fn settings() -> Dhcp {
    Dhcp {
        dns: vec!["10.0.0.53".to_owned(), "9.9.9.9".to_owned()],
        domain: Some("acme.example".to_owned()),
        lease_seconds: 600,
        routes: vec![DhcpRoute { cidr: "192.168.0.0/17".to_owned(), via: "10.0.0.2".to_owned() }],
        boot: Some(DhcpBoot { server: "10.0.0.8".to_owned(), file: "pxelinux.0".to_owned() }),
    }
}

/// Does `work` with a node that has no address, in a network where engines answer DHCP; afterwards both are as they were.
fn without_address(lab: &Lab, work: impl FnOnce(&Node, &Script) -> Result<()>) -> Result<()> {
    let node = lab.node("acme-1")?;
    let namespace = lab.namespace(&node.id);
    let script = Script::new(lab)?;
    serve(lab, &node, Some(settings()))?;
    namespace.ip(&format!("addr flush dev {NODE_DEVICE}"))?;
    let outcome = work(&node, &script);
    namespace.ip(&format!("addr flush dev {NODE_DEVICE}"))?;
    configure_node(&namespace, &node)?;
    serve(lab, &node, None)?;
    outcome
}

/// Requires that the node has its address and talks to a neighbour on the other host.
fn talks(lab: &Lab, node: &Node) -> Result<()> {
    let shown = run(lab.namespace(&node.id).command("ip").args(["-4", "addr", "show", "dev", NODE_DEVICE]))?;
    ensure!(shown.contains(&format!("inet {}/24", node.ipv4)), "{shown}");
    let pinged = ping(&lab.namespace(&node.id), lab.node("acme-3")?.ipv4, 2)?;
    ensure!(pinged.is_complete(), "{} of {} answered", pinged.received, pinged.sent);
    Ok(())
}

fn udhcpc(lab: &Lab) -> Result<()> {
    without_address(lab, |node, script| {
        let mut client = lab.namespace(&node.id).command("busybox");
        client.env("OVERLANE_TOLD", &script.told);
        client.args(["udhcpc", "-f", "-R", "-i", NODE_DEVICE, "-t", "10", "-T", "1", "-s"]).arg(&script.file);
        client.args(["-O", "mtu", "-O", "staticroutes", "-O", "bootfile", "-x", "hostname:mine"]);
        let mut client = Process::start(lab.state().path(), "udhcpc", client)?;
        let outcome = (|| {
            let gateway = node.gateway().to_string();
            let told = script.event("bound", 1)?;
            let wanted = [
                ("ip", &*node.ipv4.to_string()),
                ("subnet", "255.255.255.0"),
                ("router", &gateway),
                ("serverid", &gateway),
                ("dns", "10.0.0.53 9.9.9.9"),
                ("domain", "acme.example"),
                ("hostname", &node.id),
                ("mtu", "1480"),
                ("lease", "600"),
                ("siaddr", "10.0.0.8"),
                ("boot_file", "pxelinux.0"),
                ("staticroutes", &format!("192.168.0.0/17 10.0.0.2 0.0.0.0/0 {gateway}")),
            ];
            expect(&told, &wanted)?;
            talks(lab, node)?;
            // Now it has an address and asks the gateway.
            client.signal(Signal::SIGUSR1)?;
            expect(&script.event("renew", 1)?, &[("ip", &node.ipv4.to_string()), ("serverid", &gateway)])?;
            talks(lab, node)
        })();
        client.stop(Duration::from_secs(5))?;
        outcome
    })
}

fn dhclient(lab: &Lab) -> Result<()> {
    without_address(lab, |node, script| {
        let state = lab.state();
        let leases = state.write("dhclient.leases", "")?;
        let configuration = state.write(
            "dhclient.conf",
            "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\n\
             request subnet-mask, routers, domain-name, domain-name-servers, interface-mtu, host-name,\n\
             rfc3442-classless-static-routes, broadcast-address;\n",
        )?;
        // The second time it has a lease and goes on with it, as after a restart.
        for event in ["BOUND", "REBOOT"] {
            let mut client = lab.namespace(&node.id).command("dhclient");
            // It gives its script no environment but what it is told to.
            client.arg("-e").arg(format!("OVERLANE_TOLD={}", script.told.display()));
            client.args(["-4", "-d", "-1", "-sf"]).arg(&script.file).arg("-lf").arg(&leases);
            client.arg("-cf").arg(&configuration).arg("-pf").arg(state.file("dhclient.pid")).arg(NODE_DEVICE);
            let mut client = Process::start(state.path(), "dhclient", client)?;
            let outcome = (|| {
                let told = script.event(event, 1)?;
                let wanted = [
                    ("new_ip_address", &*node.ipv4.to_string()),
                    ("new_subnet_mask", "255.255.255.0"),
                    ("new_routers", &node.gateway().to_string()),
                    ("new_domain_name_servers", "10.0.0.53 9.9.9.9"),
                    ("new_domain_name", "acme.example"),
                    ("new_host_name", &node.id),
                    ("new_interface_mtu", "1480"),
                    ("new_dhcp_lease_time", "600"),
                    ("new_broadcast_address", "10.0.0.255"),
                    ("new_rfc3442_classless_static_routes", "17 192 168 0 10 0 0 2 0 10 0 0 254"),
                ];
                expect(&told, &wanted)?;
                talks(lab, node)
            })();
            client.kill()?;
            outcome.with_context(|| event)?;
            lab.namespace(&node.id).ip(&format!("addr flush dev {NODE_DEVICE}"))?;
        }
        Ok(())
    })
}

fn unanswered(lab: &Lab) -> Result<()> {
    let node = lab.node("globex-1")?;
    // Without an address of its own it may not send.
    expect_drops(lab, &node.host, &[(DropReason::SrcIpv4Spoofed, 3)], || {
        let mut client = lab.namespace(&node.id).command("busybox");
        client.args(["udhcpc", "-f", "-q", "-n", "-i", NODE_DEVICE, "-t", "3", "-T", "1", "-s", "/bin/true"]);
        let output = client.output()?;
        ensure!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
    .map(|_| ())
}

const OFFERS: u64 = 10;

fn rogue(lab: &Lab) -> Result<()> {
    let (attacker, victim) = (lab.node("acme-2")?, lab.node("acme-1")?);
    let offer = |to: (MacAddr, Ipv4Addr)| -> Result<Vec<u8>> {
        // What it says does not matter: that it comes from a server's port does.
        let payload = [2u8; 300];
        let ip = Ipv4Header::new(0, 64, IpNumber::UDP, attacker.ipv4.octets(), to.1.octets())?;
        let header = UdpHeader::with_ipv4_checksum(67, 68, &ip, &payload)?;
        Four {
            macs: Macs { source: attacker.mac()?, destination: to.0 },
            source: attacker.ipv4,
            destination: to.1,
            protocol: UDP,
            options: Vec::new(),
            fragment: (0, 0, false),
            payload: [&header.to_bytes()[..], &payload].concat(),
        }
        .frame()
    };
    serve(lab, &attacker, Some(settings()))?;
    let outcome = (|| {
        let ear = RawPort::open(&lab.namespace(&victim.id), NODE_DEVICE)?;
        let frame = offer((MacAddr::BROADCAST, Ipv4Addr::BROADCAST))?;
        expect_drops(lab, &attacker.host, &[(DropReason::DhcpServerForeign, OFFERS)], || {
            let port = RawPort::open(&lab.namespace(&attacker.id), NODE_DEVICE)?;
            (0..OFFERS).try_for_each(|_| port.send(&frame))
        })?;
        let heard = ear.arrived(Duration::from_millis(200), |heard| heard.get(14..) == frame.get(14..))?;
        ensure!(heard.is_none(), "{} has heard the offer", victim.id);
        wait::until("operators to be told", SOON, || {
            let page: Page<Event> = with_client(lab, async |client: Client| {
                client.get("/v1/events?kind=node_spoofing&limit=1000").await
            })?;
            let is = |event: &&Event| event.reason == DropReason::DhcpServerForeign.name();
            match page.items.iter().find(is) {
                Some(event) if event.count == OFFERS => Ok(Some(event.interface.clone())),
                Some(event) if event.count > OFFERS => bail!("{event:?}"),
                _ => Ok(None),
            }
        })
        .map(|interface| (interface.as_deref() == Some("acme-2/eth0"), interface))
    })();
    serve(lab, &attacker, None)?;
    let (is_right, interface) = outcome?;
    ensure!(is_right, "{interface:?} is named");
    Ok(())
}
