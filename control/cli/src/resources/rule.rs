//! `overlane rule`.

use std::io;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use overlane_api::policy::{
    Action, Day, Decision, Direction, IcmpMatch, Rule, RuleSpec, RuleTest, RuleVerdict, Selector, SizeMatch,
    Window,
};
use overlane_api::resource::ListQuery;

use super::{Resource, parse_id, parse_pairs, single};
use crate::args::ListArgs;
use crate::client::Client;
use crate::output::Printer;

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Creates a rule, or changes it, at once and as a whole
    #[command(after_help = "\
A rule judges the traffic of what --on names, in one direction, by the other end (--peer), protocol, ports, ICMP message,
size and time. Of the rules that match a packet the one with the lowest priority decides; where none does, the network's
default action does, or the peering's. Replies to what a rule allows pass by themselves, unless it is --stateless. Both
ends have a say: the sender's egress rules and the receiver's ingress rules.

Whom a rule is about:
  node=web-1                    all interfaces of a node
  tag=web [,entity=ENTITY]      every node with the tag, of the rule's entity unless another one is given
  network=blue                  whoever is in the network
  entity=acme                   whoever is in one of its networks
  cidr=10.0.0.0/24 [,network=blue]  (--peer only) whoever has such an address, in the own network unless one is given
  cidr=2001:db8::/32,network=blue   (--peer only) the network's externals whose own addresses are such

Examples:
  overlane rule create web-in --entity acme --priority 100 --ingress --on tag=web --tcp 443 --action allow
  overlane rule create web-rest --entity acme --priority 900 --ingress --on tag=web --action reject
  overlane rule create night --entity acme --priority 50 --egress --on network=blue --peer cidr=10.0.9.0/24 \\
      --window mon,tue,wed,thu,fri@22:00-06:00 --action deny")]
    Create(Box<CreateArgs>),
    /// Lists rules
    List {
        /// Only those of this entity
        #[arg(long, value_parser = parse_id)]
        entity: Option<String>,
        /// How many.
        #[command(flatten)]
        list: ListArgs,
    },
    /// Shows one rule
    Show {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Deletes a rule
    Delete {
        /// Its id
        #[arg(value_parser = parse_id)]
        id: String,
    },
    /// Says what would happen to a packet that opens a flow, and which rules decide
    #[command(after_help = "\
Judged by what is provisioned just now, with the code that engines judge by. Exit status 1 says that it would not pass.

Example:
  overlane rule test --from web-1 --to db-1 --tcp 5432")]
    Test(TestArgs),
}

/// What packets are like.
#[derive(Debug, Args)]
pub struct Packets {
    /// TCP, to these ports if some are given
    #[arg(long, value_name = "PORTS", num_args = 0..=1, default_missing_value = "", group = "kind")]
    tcp: Option<String>,
    /// UDP, to these ports if some are given
    #[arg(long, value_name = "PORTS", num_args = 0..=1, default_missing_value = "", group = "kind")]
    udp: Option<String>,
    /// ICMP, of this type and code if they are given
    #[arg(long, value_name = "TYPE[/CODE]", num_args = 0..=1, default_missing_value = "", group = "kind")]
    icmp: Option<String>,
    /// Another protocol: udplite, dccp, sctp, gre, esp or a number
    #[arg(long, group = "kind")]
    protocol: Option<String>,
    /// The destination's ports, with --protocol
    #[arg(long, value_name = "PORTS", requires = "protocol")]
    ports: Option<String>,
}

/// A rule.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its id
    #[arg(value_parser = parse_id)]
    id: String,
    /// The entity whose rule it is
    #[arg(long, value_parser = parse_id)]
    entity: String,
    /// For people; up to 256 bytes
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// 0 to 65535; the lowest that matches decides
    #[arg(long)]
    priority: u32,
    /// For what --on sends
    #[arg(long, required_unless_present = "ingress", conflicts_with = "ingress")]
    egress: bool,
    /// For what --on gets
    #[arg(long)]
    ingress: bool,
    /// Whose traffic it judges, see below
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_selector)]
    on: Selector,
    /// The other end, see below [default: anybody]
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_selector)]
    peer: Option<Selector>,
    /// What packets are like.
    #[command(flatten)]
    packets: Packets,
    /// The source's ports
    #[arg(long, value_name = "PORTS")]
    source_ports: Option<String>,
    /// Bytes of the whole IPv4 packet, like 0-576
    #[arg(long, value_name = "MIN-MAX", value_parser = parse_size)]
    size: Option<SizeMatch>,
    /// When it is in force, in UTC, like 08:00-18:00 or mon,tue@22:00-06:00
    #[arg(long, value_name = "[DAYS@]FROM-UNTIL", value_parser = parse_window)]
    window: Option<Window>,
    /// What happens to what matches: allow, deny or reject
    #[arg(long)]
    action: Action,
    /// Replies need a rule of their own
    #[arg(long)]
    stateless: bool,
}

/// A packet.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Whom it comes from: a node, or node/interface
    #[arg(long, value_name = "NODE")]
    from: String,
    /// Whom it goes to: a node, or node/interface
    #[arg(long, value_name = "NODE")]
    to: String,
    /// What it is like.
    #[command(flatten)]
    packets: Packets,
    /// The source's port
    #[arg(long, value_name = "PORT")]
    source_port: Option<u32>,
    /// Bytes of the whole IPv4 packet
    #[arg(long, value_name = "BYTES")]
    size: Option<u32>,
}

impl Packets {
    /// Protocol, the destination's ports, and the ICMP message.
    fn parts(&self) -> anyhow::Result<(Option<String>, Option<String>, Option<IcmpMatch>)> {
        let given = |ports: &String| (!ports.is_empty()).then(|| ports.clone());
        if let Some(ports) = &self.tcp {
            return Ok((Some("tcp".to_owned()), given(ports), None));
        }
        if let Some(ports) = &self.udp {
            return Ok((Some("udp".to_owned()), given(ports), None));
        }
        if let Some(message) = &self.icmp {
            return Ok((Some("icmp".to_owned()), None, parse_icmp(message)?));
        }
        Ok((self.protocol.clone(), self.ports.clone(), None))
    }
}

fn parse_icmp(text: &str) -> anyhow::Result<Option<IcmpMatch>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (kind, code) = text.split_once('/').map_or((text, None), |(kind, code)| (kind, Some(code)));
    let number = |text: &str| {
        text.parse()
            .with_context(|| format!("{text:?} is no number; legal: TYPE or TYPE/CODE, each 0 to 255"))
    };
    Ok(Some(IcmpMatch { kind: number(kind)?, code: code.map(number).transpose()? }))
}

fn parse_selector(text: &str) -> anyhow::Result<Selector> {
    let keys = ["node", "tag", "network", "entity", "cidr"];
    let pairs = parse_pairs(text, None, &keys)?;
    let one = |key| anyhow::Ok(single(&pairs, key)?.map(str::to_owned));
    Ok(Selector {
        node: one("node")?,
        tag: one("tag")?,
        network: one("network")?,
        entity: one("entity")?,
        cidr: one("cidr")?,
    })
}

fn parse_size(text: &str) -> anyhow::Result<SizeMatch> {
    let Some((min, max)) = text.split_once('-') else {
        bail!("{text:?} is no range; legal: MIN-MAX, like 0-576")
    };
    let bytes = |text: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).with_context(|| format!("{text:?} is no number of bytes")),
    };
    Ok(SizeMatch { min: bytes(min)?, max: bytes(max)? })
}

fn parse_window(text: &str) -> anyhow::Result<Window> {
    let (days, times) = text.split_once('@').map_or((None, text), |(days, times)| (Some(days), times));
    let Some((from, until)) = times.split_once('-') else {
        bail!("{times:?} is no window; legal: [DAYS@]FROM-UNTIL, like mon,tue@22:00-06:00")
    };
    let days =
        days.iter().flat_map(|days| days.split(',')).map(str::parse::<Day>).collect::<Result<_, _>>()?;
    Ok(Window { days, from: from.to_owned(), until: until.to_owned() })
}

/// What packets it is about, in a few words.
fn packets(spec: &RuleSpec) -> String {
    let mut words = Vec::new();
    words.extend(spec.protocol.clone());
    words.extend(spec.icmp.map(|icmp| match icmp.code {
        Some(code) => format!("{}/{code}", icmp.kind),
        None => icmp.kind.to_string(),
    }));
    words.extend(spec.source_ports.as_ref().map(|ports| format!("from {ports}")));
    words.extend(spec.ports.as_ref().map(|ports| format!("to {ports}")));
    words.extend(
        spec.size
            .map(|size| format!("{}-{} bytes", size.min.unwrap_or(0), size.max.unwrap_or(u16::MAX.into()))),
    );
    if words.is_empty() { "everything".to_owned() } else { words.join(" ") }
}

fn window(window: &Window) -> String {
    let days: Vec<String> = window.days.iter().map(ToString::to_string).collect();
    let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
    format!("{days}, {} to {} UTC", window.from, window.until)
}

fn action(spec: &RuleSpec) -> String {
    let stateless = if spec.stateless { ", stateless" } else { "" };
    format!("{}{stateless}", spec.action)
}

impl Resource for Rule {
    const KIND: &'static str = "rule";
    const COLLECTION: &'static str = "rules";
    const HEADER: &'static [&'static str] =
        &["ID", "ENTITY", "PRIORITY", "DIRECTION", "ON", "PEER", "PACKETS", "ACTION"];

    fn row(&self) -> Vec<String> {
        let spec = &self.spec;
        vec![
            self.id.clone(),
            spec.entity.clone(),
            spec.priority.to_string(),
            spec.direction.to_string(),
            spec.on.to_string(),
            spec.peer.to_string(),
            packets(spec),
            action(spec),
        ]
    }

    fn show(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let spec = &self.spec;
        let mut facts = vec![("rule", self.id.clone()), ("entity", spec.entity.clone())];
        if !spec.description.is_empty() {
            facts.push(("description", spec.description.clone()));
        }
        facts.extend([
            ("priority", spec.priority.to_string()),
            ("direction", spec.direction.to_string()),
            ("on", spec.on.to_string()),
            ("peer", spec.peer.to_string()),
            ("packets", packets(spec)),
        ]);
        facts.extend(spec.window.as_ref().map(|times| ("in force", window(times))));
        facts.push(("action", action(spec)));
        facts.push(("revision", self.revision.to_string()));
        printer.facts(facts)
    }
}

fn decided(decision: Option<&Decision>, verdict: &RuleVerdict) -> String {
    match (decision, verdict.default_action) {
        (Some(Decision { rule, revision, action }), _) => {
            format!("{action}, by rule {rule} (revision {revision})")
        }
        (None, Some(default)) => format!("{default}, by default"),
        (None, None) => "their networks are no peers".to_owned(),
    }
}

async fn test(args: TestArgs, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let (protocol, ports, icmp) = args.packets.parts()?;
    let port = |ports: String| {
        ports.parse().with_context(|| format!("{ports:?} is no port; a packet goes to one, 0 to 65535"))
    };
    let asked = RuleTest {
        from: args.from,
        to: args.to,
        protocol: protocol
            .context("the protocol is missing; legal: --tcp PORT, --udp PORT, --icmp, --protocol …")?,
        port: ports.map(port).transpose()?,
        source_port: args.source_port,
        icmp,
        size: args.size,
    };
    let verdict: RuleVerdict = client.post("/v1/rules/test", &asked).await?;
    if printer.is_json() {
        printer.json(&verdict)?;
    } else {
        let told = if verdict.rejected { "; its sender is told" } else { "" };
        let outcome = match &verdict.reason {
            None => "passes".to_owned(),
            Some(reason) => format!("dropped as {reason}{told}"),
        };
        let mut facts = vec![
            ("packet", outcome),
            ("egress", decided(verdict.egress.as_ref(), &verdict)),
            ("ingress", decided(verdict.ingress.as_ref(), &verdict)),
        ];
        if verdict.passes {
            let replies = if verdict.stateless { "need a rule of their own" } else { "pass" };
            facts.push(("replies", replies.to_owned()));
        }
        facts.extend(verdict.obstacles.iter().map(|obstacle| ("but", obstacle.clone())));
        facts.push(("revision", verdict.revision.to_string()));
        printer.facts(facts)?;
    }
    anyhow::ensure!(verdict.passes, "it would not pass");
    Ok(())
}

pub(crate) async fn run(command: Command, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => {
            let (protocol, ports, icmp) = args.packets.parts()?;
            let spec = RuleSpec {
                entity: args.entity,
                description: args.description,
                priority: args.priority,
                direction: if args.egress { Direction::Egress } else { Direction::Ingress },
                on: args.on,
                peer: args.peer.unwrap_or_default(),
                protocol,
                ports,
                source_ports: args.source_ports,
                icmp,
                size: args.size,
                window: args.window,
                action: args.action,
                stateless: args.stateless,
            };
            super::create::<Rule>(client, printer, &args.id, &spec).await
        }
        Command::List { entity, list } => {
            let filter = ListQuery { entity, ..ListQuery::default() };
            super::list::<Rule>(client, printer, filter, list.limit).await
        }
        Command::Show { id } => super::show::<Rule>(client, printer, &id).await,
        Command::Delete { id } => super::delete::<Rule>(client, printer, &id).await,
        Command::Test(args) => test(args, client, printer).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_selectors_and_sizes_are_read_as_they_are_shown_in_the_help() {
        let read = parse_window("mon,fri@22:00-06:00").unwrap();
        assert_eq!((read.days, &*read.from, &*read.until), (vec![Day::Mon, Day::Fri], "22:00", "06:00"));
        assert_eq!(parse_window("08:00-18:00").unwrap().days, []);
        assert!(parse_window("monday@08:00-18:00").unwrap_err().to_string().contains("mon, tue"));
        assert!(parse_window("08:00").unwrap_err().to_string().contains("FROM-UNTIL"));
        let tag = parse_selector("tag=web,entity=acme").unwrap();
        assert_eq!((tag.tag.as_deref(), tag.entity.as_deref()), (Some("web"), Some("acme")));
        assert!(parse_selector("web").unwrap_err().to_string().contains("node, tag, network"));
        assert_eq!(parse_size("-576").unwrap(), SizeMatch { min: None, max: Some(576) });
        assert!(parse_size("576").unwrap_err().to_string().contains("MIN-MAX"));
        assert_eq!(parse_icmp("3/4").unwrap(), Some(IcmpMatch { kind: 3, code: Some(4) }));
        assert!(parse_icmp("echo").unwrap_err().to_string().contains("TYPE/CODE"));
    }
}
