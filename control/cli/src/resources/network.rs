//! `overlane network`.

use std::io;

use clap::{Args, Subcommand};
use overlane_api::dhcp::{Dhcp, DhcpBoot, DhcpRoute};
use overlane_api::external::{External, Externals};
use overlane_api::group::{GroupSettings, Membership};
use overlane_api::policy::DefaultAction;
use overlane_api::resource::{ListQuery, MAX_PAGE, MappingMode, Network, NetworkSpec, Page, Subnet};
use overlane_api::route::Route;
use serde::de::DeserializeOwned;

use super::{Resource, parse_id, parse_pairs, required, single};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a network, or confirms that it is there; its subnets can be changed so, too
    #[command(after_help = "\
Examples:
  overlane network create blue --entity acme --subnet 10.0.0.0/24,gateway=10.0.0.254
  overlane network create blue --entity acme --subnet 10.0.0.0/24,gateway=10.0.0.254 --dhcp --dhcp-dns 10.0.0.53
  overlane network create blue --entity acme --subnet 10.0.0.0/24,gateway=10.0.0.254 --confined 224.0.0.0/16

The gateway is answered for by the engines; no node may have its address. Two networks may use the same addresses.")]
    Create {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// The entity that owns it
        #[arg(long, value_parser = parse_id)]
        entity: String,
        /// Its 24-bit id on the substrate, 1 to 16777215 [default: a random free one]
        #[arg(long, value_name = "NUMBER")]
        vnet: Option<u32>,
        /// A subnet, /8 to /30; repeat it for more
        #[arg(long = "subnet", required = true, value_name = "CIDR[,gateway=ADDRESS]", value_parser = parse_subnet)]
        subnets: Vec<Subnet>,
        /// What happens inside it to what no rule decides: allow or deny
        #[arg(long, value_name = "ACTION", default_value_t)]
        default_action: DefaultAction,
        /// How engines get to know where its addresses are: subscribe (they are told all of them), on-demand (they ask for
        /// those that they need), or automatic, by how many there are
        #[arg(long, value_name = "MODE", default_value_t)]
        mapping: MappingMode,
        /// What its nodes are told by DHCP.
        #[command(flatten)]
        dhcp: Box<DhcpArgs>,
        /// How it carries broadcast and multicast.
        #[command(flatten)]
        groups: GroupArgs,
        /// External systems.
        #[command(flatten)]
        externals: ExternalArgs,
    },
    /// Lists networks
    List {
        /// Only those of this entity
        #[arg(long, value_parser = parse_id)]
        entity: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Shows one network
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Lists who is a member of its multicast groups, by provisioning or by IGMP
    Groups {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// Show the first so many [default: all]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Lists the networks that are behind its routers, or that these may send from
    Routes {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// Show the first so many [default: all]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Deletes a network that has no interface any more
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
}

/// What nodes are told by DHCP.
#[derive(Debug, Args)]
pub struct DhcpArgs {
    /// Engines answer its nodes' DHCP: each is told its address, mask, gateway, MTU and name
    #[arg(long)]
    dhcp: bool,
    /// A name server to be told by DHCP; repeat it for more
    #[arg(long = "dhcp-dns", value_name = "ADDRESS", requires = "dhcp")]
    dns: Vec<String>,
    /// The domain of names without one
    #[arg(long = "dhcp-domain", value_name = "NAME", requires = "dhcp")]
    domain: Option<String>,
    /// For how long a node may keep what it was told, in seconds [default: 3600]
    #[arg(long = "dhcp-lease", value_name = "SECONDS", requires = "dhcp")]
    lease: Option<u32>,
    /// A route besides the one by the gateway; repeat it for more
    #[arg(long = "dhcp-route", value_name = "CIDR,via=ADDRESS", requires = "dhcp", value_parser = parse_route)]
    routes: Vec<DhcpRoute>,
    /// Where nodes load what they start from (PXE): a TFTP server and a file
    #[arg(long = "dhcp-boot", value_name = "ADDRESS,file=NAME", requires = "dhcp", value_parser = parse_boot)]
    boot: Option<DhcpBoot>,
}

impl DhcpArgs {
    fn settings(self) -> Option<Dhcp> {
        let Self { dhcp, dns, domain, lease, routes, boot } = self;
        let lease_seconds = lease.unwrap_or(Dhcp::default().lease_seconds);
        dhcp.then_some(Dhcp { dns, domain, lease_seconds, routes, boot })
    }
}

/// How broadcast and multicast are carried.
#[derive(Debug, Args)]
pub struct GroupArgs {
    /// Broadcast is not carried
    #[arg(long)]
    no_broadcast: bool,
    /// Multicast groups that never leave a host; repeat it for more [default: 224.0.0.0/24, the groups of a link]
    #[arg(long, value_name = "CIDR")]
    confined: Vec<String>,
    /// No multicast group stays on its host
    #[arg(long, conflicts_with = "confined")]
    nothing_confined: bool,
}

impl GroupArgs {
    fn settings(self) -> GroupSettings {
        let Self { no_broadcast, confined, nothing_confined } = self;
        let usual = GroupSettings::default();
        let confined = if confined.is_empty() && !nothing_confined { usual.confined } else { confined };
        GroupSettings { broadcast: !no_broadcast, confined }
    }
}

/// The systems without an engine that its nodes exchange packets with.
#[derive(Debug, Args)]
pub struct ExternalArgs {
    /// Where the IPv4 addresses come from that nodes know external systems by: outside of all subnets
    #[arg(long = "external-pool", value_name = "CIDR")]
    pool: Option<String>,
    /// A system without an engine that its nodes exchange packets with, and what they know it by, if that is not to come from the
    /// pool; repeat it for more
    #[arg(long = "external", value_name = "NAME,address=IPV6[,ipv4=ADDRESS]", value_parser = parse_external)]
    systems: Vec<External>,
}

impl ExternalArgs {
    fn settings(self) -> Externals {
        Externals { pool: self.pool, systems: self.systems }
    }
}

fn parse_external(text: &str) -> anyhow::Result<External> {
    let pairs = parse_pairs(text, Some("name"), &["address", "ipv4"])?;
    Ok(External {
        name: required(&pairs, "name")?.to_owned(),
        address: required(&pairs, "address")?.to_owned(),
        ipv4: single(&pairs, "ipv4")?.map(str::to_owned),
    })
}

fn parse_route(text: &str) -> anyhow::Result<DhcpRoute> {
    let pairs = parse_pairs(text, Some("cidr"), &["via"])?;
    Ok(DhcpRoute { cidr: required(&pairs, "cidr")?.to_owned(), via: required(&pairs, "via")?.to_owned() })
}

fn parse_boot(text: &str) -> anyhow::Result<DhcpBoot> {
    let pairs = parse_pairs(text, Some("server"), &["file"])?;
    Ok(DhcpBoot {
        server: required(&pairs, "server")?.to_owned(),
        file: required(&pairs, "file")?.to_owned(),
    })
}

/// As it is shown, a line each.
fn dhcp_facts(dhcp: &Dhcp) -> Vec<(&'static str, String)> {
    let mut facts = vec![("dhcp", format!("leases of {} s", dhcp.lease_seconds))];
    facts.extend(dhcp.dns.iter().map(|server| ("dhcp dns", server.clone())));
    facts.extend(dhcp.domain.iter().map(|domain| ("dhcp domain", domain.clone())));
    facts.extend(dhcp.routes.iter().map(|route| ("dhcp route", format!("{} via {}", route.cidr, route.via))));
    facts.extend(dhcp.boot.iter().map(|boot| ("dhcp boot", format!("{} from {}", boot.file, boot.server))));
    facts
}

/// Whether the values are legal is the service's to say, in one place for all its clients.
fn parse_subnet(text: &str) -> anyhow::Result<Subnet> {
    let pairs = parse_pairs(text, Some("cidr"), &["gateway"])?;
    Ok(Subnet {
        cidr: required(&pairs, "cidr")?.to_owned(),
        gateway: single(&pairs, "gateway")?.map(str::to_owned),
    })
}

fn subnets(network: &Network) -> Vec<String> {
    let gateway = |subnet: &Subnet| subnet.gateway.as_ref().map(|gateway| format!(" (gateway {gateway})"));
    network
        .subnets
        .iter()
        .map(|subnet| format!("{}{}", subnet.cidr, gateway(subnet).unwrap_or_default()))
        .collect()
}

impl Resource for Network {
    const KIND: &'static str = "network";
    const COLLECTION: &'static str = "networks";
    const HEADER: &'static [&'static str] = &["ID", "ENTITY", "VNET", "SUBNETS"];

    fn row(&self) -> Vec<String> {
        vec![self.id.clone(), self.entity.clone(), self.vnet.to_string(), subnets(self).join(", ")]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut facts = vec![
            ("network", self.id.clone()),
            ("entity", self.entity.clone()),
            // As it is seen in substrate addresses, too.
            ("vnet", format!("{} ({:#08x})", self.vnet, self.vnet)),
        ];
        facts.extend(subnets(self).into_iter().map(|subnet| ("subnet", subnet)));
        facts.push(("default action", self.default_action.to_string()));
        let mapping = match (self.mapping, self.on_demand) {
            (MappingMode::Automatic, true) => "automatic: on-demand".to_owned(),
            (MappingMode::Automatic, false) => "automatic: subscribe".to_owned(),
            (mode, _) => mode.to_string(),
        };
        facts.push(("mapping", mapping));
        facts.extend(self.dhcp.iter().flat_map(dhcp_facts));
        facts.push(("broadcast", if self.groups.broadcast { "carried" } else { "not carried" }.to_owned()));
        let confined = self.groups.confined.join(", ");
        facts.push(("groups that stay", if confined.is_empty() { "none".to_owned() } else { confined }));
        facts.extend(self.externals.pool.iter().map(|pool| ("external pool", pool.clone())));
        facts.extend(self.externals.systems.iter().map(|system| {
            let External { name, address, ipv4 } = system;
            ("external", format!("{name}: {address} as {}", ipv4.as_deref().unwrap_or("-")))
        }));
        facts.push(("revision", self.revision.to_string()));
        printer.facts(facts)
    }
}

const MEMBERS: &[&str] = &["GROUP", "INTERFACE", "HOST", "BY"];
const ROUTES: &[&str] = &["NETWORK", "INTERFACE", "HOST", "VIA", "IS", "STATE"];

/// All of what is listed under a network, or the first so many.
async fn listed<T: DeserializeOwned>(
    client: &Client,
    id: &str,
    what: &str,
    limit: Option<u64>,
) -> anyhow::Result<Vec<T>> {
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let (mut items, mut after): (Vec<T>, Option<String>) = (Vec::new(), None);
    while items.len() < limit {
        // What a page ends with is made of addresses and ids, which need no escaping in a URL.
        let behind = after.as_ref().map(|after| format!("&after={after}")).unwrap_or_default();
        let path = format!("{}/{what}?limit={MAX_PAGE}{behind}", Network::path(id));
        let page: Page<T> = client.get(&path).await?;
        // A service whose list does not go on would keep us here for ever.
        let goes_on = !page.items.is_empty() && page.next.is_some() && page.next != after;
        items.extend(page.items);
        after = page.next.filter(|next| next.bytes().all(is_plain));
        if !goes_on || after.is_none() {
            break;
        }
    }
    items.truncate(limit);
    Ok(items)
}

/// Who is a member of a network's groups.
async fn members(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
    limit: Option<u64>,
) -> anyhow::Result<()> {
    let items: Vec<Membership> = listed(client, id, "groups", limit).await?;
    if printer.is_json() {
        return Ok(printer.json(&items)?);
    }
    let by = |item: &Membership| match (item.provisioned, item.joined) {
        (true, true) => "provisioning, IGMP",
        (true, false) => "provisioning",
        (false, _) => "IGMP",
    };
    let row = |item: &Membership| {
        vec![item.group.clone(), item.interface.clone(), item.host.clone(), by(item).to_owned()]
    };
    Ok(printer.table(MEMBERS, items.iter().map(row))?)
}

/// Which networks are behind a network's routers.
async fn routes(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
    limit: Option<u64>,
) -> anyhow::Result<()> {
    let items: Vec<Route> = listed(client, id, "routes", limit).await?;
    if printer.is_json() {
        return Ok(printer.json(&items)?);
    }
    let row = |item: &Route| {
        let is = if item.transit { "transit" } else { "route" };
        let silent = if item.silent { ", silent" } else { "" };
        let state = format!("{}{silent}", item.state);
        let Route { cidr, interface, host, via, .. } = item.clone();
        vec![cidr, interface, host, via, is.to_owned(), state]
    };
    Ok(printer.table(ROUTES, items.iter().map(row))?)
}

/// Whether an octet of a page's end is one of those that there can be.
const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'/')
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, entity, vnet, subnets, default_action, mapping, dhcp, groups, externals } => {
            let (dhcp, groups, externals) = (dhcp.settings(), groups.settings(), externals.settings());
            let spec =
                NetworkSpec { entity, vnet, subnets, default_action, mapping, dhcp, groups, externals };
            super::create::<Network>(client, printer, &id, &spec).await
        }
        Command::List { entity, list } => {
            let filter = ListQuery { entity, ..ListQuery::default() };
            super::list::<Network>(client, printer, filter, list.limit).await
        }
        Command::Show { id } => super::show::<Network>(client, printer, &id).await,
        Command::Groups { id, limit } => members(client, printer, &id, limit).await,
        Command::Routes { id, limit } => routes(client, printer, &id, limit).await,
        Command::Delete { id } => super::delete::<Network>(client, printer, &id).await,
    }
}
