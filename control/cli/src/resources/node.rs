//! `overlane node`.

use std::io;

use anyhow::Context as _;
use clap::Subcommand;
use overlane_api::resource::{
    Attachment, AttachmentKind, Interface, InterfaceSpec, ListQuery, MoveInterfaceSpec, Node, NodeSpec,
    RateLimit,
};

use super::{Resource, moving, parse_id, parse_pairs, required, single};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a node on a host, or confirms that it is there; its addresses, groups, routes and rate can be changed so, too
    #[command(after_help = "\
An interface is written as KEY=VALUE, separated by commas:
  name=NAME        its name within the node
  network=ID       the network that it belongs to
  address=IPV4     its address; repeat it for more
  group=IPV4       a multicast group that it is a member of whatever its node says by IGMP; repeat it for more
  route=CIDR       a network behind it, for which it is a router; repeat it for more
  transit=CIDR     a network that it may send from besides, and gets nothing for; repeat it for more
  pps=NUMBER       how many packets a second its node may send [default: as many as it likes]
  bps=NUMBER       how many bits a second its node may send [default: as many as it likes]
  device=NAME      the kernel interface on the host: the veth's host side, or the tap to be made
  kind=veth|tap    what the device is [default: veth]
  mac=MAC          its hardware address [default: a random one that is free]
  slot=NUMBER      which interface of its host it is, 0 to 63 [default: the lowest free one]

Example:
  overlane node create web --entity acme --host rack1-a \\
      --interface name=eth0,network=blue,address=10.0.0.1,device=veth-web")]
    Create {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// The entity that owns it
        #[arg(long, value_parser = parse_id)]
        entity: String,
        /// The host it is on
        #[arg(long, value_parser = parse_id)]
        host: String,
        /// A tag that rules know it by, like a security group; repeat it for more
        #[arg(long = "tag", value_name = "TAG", value_parser = parse_id)]
        tags: Vec<String>,
        /// An interface, see below; repeat it for more
        #[arg(long = "interface", required = true, value_name = "KEY=VALUE,…", value_parser = parse_interface)]
        interfaces: Vec<InterfaceSpec>,
    },
    /// Lists nodes
    List {
        /// Only those of this entity
        #[arg(long, value_parser = parse_id)]
        entity: Option<String>,
        /// Only those with an interface in this network
        #[arg(long, value_parser = parse_id)]
        network: Option<String>,
        /// Only those on, or moving to, this host
        #[arg(long, value_parser = parse_id)]
        host: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Shows one node, its interfaces and the move under way
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Deletes a node
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Moves a node to another host, keeping its addresses and connections
    #[command(after_help = "\
A move has three phases. Prepare: everybody accepts the node's packets from the old and the new host; the node's device
may appear on the new host now. Switch: packets go to the new host. Retire: the old host is refused and forgotten.
The command waits for the end and shows how far it is; to stop waiting does not stop the move. To take a move back in
its first phase, move the node to the host that it is on.

An interface that is not named keeps its device's name, and its slot if that is free on the new host.

Examples:
  overlane node move web --to rack1-b
  overlane node move web --to rack1-b --interface name=eth0,device=veth-web2,slot=3 --no-wait")]
    Move {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
        /// The host it goes to
        #[arg(long, value_name = "HOST", value_parser = parse_id)]
        to: String,
        /// How an interface is attached there
        #[arg(
            long = "interface",
            value_name = "name=NAME[,device=…][,kind=…][,slot=…]",
            value_parser = parse_move_interface
        )]
        interfaces: Vec<MoveInterfaceSpec>,
        /// How to wait.
        #[command(flatten)]
        wait: moving::WaitArgs,
    },
}

fn parse_interface(text: &str) -> anyhow::Result<InterfaceSpec> {
    let keys = [
        "name", "network", "address", "group", "route", "transit", "pps", "bps", "device", "kind", "mac",
        "slot",
    ];
    let pairs = parse_pairs(text, None, &keys)?;
    let all = |wanted: &str| -> Vec<String> {
        pairs.iter().filter(|(key, _)| *key == wanted).map(|(_, value)| (*value).to_owned()).collect()
    };
    let addresses = all("address");
    anyhow::ensure!(!addresses.is_empty(), "address=… is missing");
    Ok(InterfaceSpec {
        name: required(&pairs, "name")?.to_owned(),
        network: required(&pairs, "network")?.to_owned(),
        mac: single(&pairs, "mac")?.map(str::to_owned),
        slot: parse_slot(&pairs)?,
        addresses,
        groups: all("group"),
        routes: all("route"),
        transit: all("transit"),
        rate: RateLimit {
            packets_per_second: parse_number(&pairs, "pps")?,
            bits_per_second: parse_number(&pairs, "bps")?,
        },
        attachment: Attachment { kind: parse_kind(&pairs)?, device: required(&pairs, "device")?.to_owned() },
    })
}

fn parse_move_interface(text: &str) -> anyhow::Result<MoveInterfaceSpec> {
    let pairs = parse_pairs(text, None, &["name", "device", "kind", "slot"])?;
    let attachment = match single(&pairs, "device")? {
        Some(device) => Some(Attachment { kind: parse_kind(&pairs)?, device: device.to_owned() }),
        None if single(&pairs, "kind")?.is_some() => anyhow::bail!("kind=… needs device=…"),
        None => None,
    };
    Ok(MoveInterfaceSpec {
        name: required(&pairs, "name")?.to_owned(),
        slot: parse_slot(&pairs)?,
        attachment,
    })
}

fn parse_number<T: std::str::FromStr>(pairs: &[(&str, &str)], key: &str) -> anyhow::Result<Option<T>> {
    let parse = |text: &str| text.parse().map_err(|_| anyhow::anyhow!("{key} {text:?} is no such number"));
    single(pairs, key)?.map(parse).transpose()
}

fn parse_slot(pairs: &[(&str, &str)]) -> anyhow::Result<Option<u32>> {
    let parse =
        |slot: &str| slot.parse().with_context(|| format!("slot {slot:?} is no number; legal: 0 to 63"));
    single(pairs, "slot")?.map(parse).transpose()
}

fn parse_kind(pairs: &[(&str, &str)]) -> anyhow::Result<AttachmentKind> {
    match single(pairs, "kind")? {
        None | Some("veth") => Ok(AttachmentKind::Veth),
        Some("tap") => Ok(AttachmentKind::Tap),
        Some(other) => anyhow::bail!("unknown kind {other:?}; legal: veth, tap"),
    }
}

pub(crate) fn attachment(attachment: &Attachment) -> String {
    let kind = match attachment.kind {
        AttachmentKind::Veth => "veth",
        AttachmentKind::Tap => "tap",
    };
    format!("{kind} {}", attachment.device)
}

fn lines<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, line: impl Fn(&T) -> String) -> String {
    items.into_iter().map(line).collect::<Vec<_>>().join(", ")
}

/// How much may be sent, in words.
pub(crate) fn rate(limit: RateLimit) -> String {
    let parts = [
        limit.packets_per_second.map(|rate| format!("{rate} packets/s")),
        limit.bits_per_second.map(|rate| format!("{rate} bit/s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn state(interface: &Interface) -> String {
    if interface.detail.is_empty() {
        interface.state.to_string()
    } else {
        format!("{} ({})", interface.state, interface.detail)
    }
}

impl Resource for Node {
    const KIND: &'static str = "node";
    const COLLECTION: &'static str = "nodes";
    const HEADER: &'static [&'static str] = &["ID", "ENTITY", "HOST", "INTERFACES", "ADDRESSES", "STATE"];

    fn row(&self) -> Vec<String> {
        let host = match &self.moving {
            None => self.host.clone(),
            Some(moving) => format!("{} → {}", moving.from, moving.to),
        };
        vec![
            self.id.clone(),
            self.entity.clone(),
            host,
            lines(&self.interfaces, |interface| format!("{}@{}", interface.name, interface.network)),
            lines(&self.interfaces, |interface| interface.addresses.join(" ")),
            lines(&self.interfaces, |interface| interface.state.to_string()),
        ]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let mut facts =
            vec![("node", self.id.clone()), ("entity", self.entity.clone()), ("host", self.host.clone())];
        if !self.tags.is_empty() {
            facts.push(("tags", self.tags.join(" ")));
        }
        for interface in self.interfaces.iter().filter(|interface| !interface.groups.is_empty()) {
            facts.push(("groups", format!("{}: {}", interface.name, interface.groups.join(" "))));
        }
        for interface in self.interfaces.iter().filter(|interface| !interface.joined.is_empty()) {
            facts.push(("joined", format!("{}: {}", interface.name, interface.joined.join(" "))));
        }
        for interface in &self.interfaces {
            let silent = if interface.silent { " (silent)" } else { "" };
            for (what, nets) in [("routes", &interface.routes), ("transit", &interface.transit)] {
                if !nets.is_empty() {
                    facts.push((what, format!("{}: {}{silent}", interface.name, nets.join(" "))));
                }
            }
        }
        for interface in self.interfaces.iter().filter(|interface| !interface.rate.is_default()) {
            facts.push(("may send", format!("{}: {}", interface.name, rate(interface.rate))));
        }
        facts.extend(self.moving.iter().map(|progress| ("move", moving::describe(progress))));
        facts.push(("revision", self.revision.to_string()));
        printer.facts(facts)?;
        printer.line("")?;
        printer.table(
            &["INTERFACE", "NETWORK", "VNET", "SLOT", "MAC", "ADDRESSES", "ATTACHMENT", "STATE"],
            self.interfaces.iter().map(|interface| {
                vec![
                    interface.name.clone(),
                    interface.network.clone(),
                    interface.vnet.to_string(),
                    interface.slot.to_string(),
                    interface.mac.clone(),
                    interface.addresses.join(" "),
                    attachment(&interface.attachment),
                    state(interface),
                ]
            }),
        )?;
        self.moving.as_ref().map_or(Ok(()), |progress| {
            printer.line("")?;
            moving::show(progress, printer)
        })
    }
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create { id, entity, host, tags, interfaces } => {
            super::create::<Node>(client, printer, &id, &NodeSpec { entity, host, tags, interfaces }).await
        }
        Command::List { entity, network, host, list } => {
            let filter = ListQuery { entity, network, host, ..ListQuery::default() };
            super::list::<Node>(client, printer, filter, list.limit).await
        }
        Command::Show { id } => super::show::<Node>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Node>(client, printer, &id).await,
        Command::Move { id, to, interfaces, wait } => {
            moving::run(client, printer, &id, to, interfaces, wait).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_written_as_pairs() {
        let whole = "name=eth0,network=blue,address=10.0.0.1,address=10.0.0.2,group=239.1.2.3,route=10.9.0.0/16,route=10.8.0.0/16,transit=0.0.0.0/0,pps=1000,bps=8000000,device=tap0,kind=tap,mac=02:00:00:00:00:01,slot=3";
        let expected = InterfaceSpec {
            name: "eth0".into(),
            network: "blue".into(),
            mac: Some("02:00:00:00:00:01".into()),
            slot: Some(3),
            addresses: vec!["10.0.0.1".into(), "10.0.0.2".into()],
            groups: vec!["239.1.2.3".into()],
            routes: vec!["10.9.0.0/16".into(), "10.8.0.0/16".into()],
            transit: vec!["0.0.0.0/0".into()],
            rate: RateLimit { packets_per_second: Some(1000), bits_per_second: Some(8_000_000) },
            attachment: Attachment { kind: AttachmentKind::Tap, device: "tap0".into() },
        };
        assert_eq!(parse_interface(whole).unwrap(), expected);
        let least = parse_interface("name=eth0,network=blue,address=10.0.0.1,device=veth0").unwrap();
        assert_eq!((least.mac, least.slot, least.attachment.kind), (None, None, AttachmentKind::Veth));
    }

    #[test]
    fn an_interface_that_lacks_something_is_refused_by_name() {
        for (bad, said) in [
            ("network=blue,address=10.0.0.1,device=v", "name=… is missing"),
            ("name=a,address=10.0.0.1,device=v", "network=… is missing"),
            ("name=a,network=blue,device=v", "address=… is missing"),
            ("name=a,network=blue,address=10.0.0.1", "device=… is missing"),
            ("name=a,network=blue,address=10.0.0.1,device=v,slot=x", "legal: 0 to 63"),
            ("name=a,network=blue,address=10.0.0.1,device=v,kind=x", "legal: veth, tap"),
            ("name=a,network=blue,address=10.0.0.1,device=v,pps=-1", "pps \"-1\" is no such number"),
            ("name=a,name=b,network=blue,address=10.0.0.1,device=v", "name is given more than once"),
        ] {
            let error = parse_interface(bad).unwrap_err().to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn a_moving_interface_names_what_changes_only() {
        let slot = parse_move_interface("name=eth0,slot=3").unwrap();
        assert_eq!(slot, MoveInterfaceSpec { name: "eth0".into(), slot: Some(3), attachment: None });
        let device = parse_move_interface("name=eth0,device=v2").unwrap().attachment.unwrap();
        assert_eq!(device, Attachment { kind: AttachmentKind::Veth, device: "v2".into() });
        let error = parse_move_interface("name=eth0,kind=tap").unwrap_err().to_string();
        assert!(error.contains("needs device"), "{error}");
    }
}
