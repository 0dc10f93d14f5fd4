//! `overlane host drain`: moves all nodes of a host elsewhere, a few at once, or lists them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use overlane_api::resource::{Host, ListQuery, Move, MoveRequest, Node};
use serde::Serialize;

use super::{Resource as _, collect, moving, parse_id};
use crate::client::Client;
use crate::output::Printer;

/// How to drain a host.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// The host that is to be empty
    #[arg(value_parser = parse_id)]
    id: String,
    /// Where its nodes go: each to the one of these hosts that has the most room; separated by commas
    #[arg(long, value_name = "HOST", value_delimiter = ',', required_unless_present = "list", value_parser = parse_id)]
    to: Vec<String>,
    /// Only list the nodes that would be moved
    #[arg(long, conflicts_with = "to")]
    list: bool,
    /// How many nodes are on their way at once
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// Give up waiting for a node after so many seconds; its move goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// What became of a node.
#[derive(Debug, Serialize)]
struct Drained {
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Absent when it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) async fn run(args: DrainArgs, client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    ensure!(!args.to.contains(&args.id), "--to {} is the host that is to be empty", args.id);
    let filter = ListQuery { host: Some(args.id.clone()), ..ListQuery::default() };
    let nodes: Vec<Node> = collect(client, filter, None).await?;
    // Those that are on their way to the host are on another one still.
    let leaving = |node: &&Node| node.moving.as_ref().is_none_or(|moving| moving.to != args.id);
    if args.list {
        let (stay, go): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| !leaving(&node));
        if printer.is_json() {
            return Ok(printer.json(&go)?);
        }
        printer.table(Node::HEADER, go.iter().map(super::Resource::row))?;
        for node in stay {
            printer.line(&format!("node {} is on its way to {}", node.id, args.id))?;
        }
        return Ok(());
    }
    let mut rooms = BTreeMap::new();
    for id in &args.to {
        let host: Host = client.get(&Host::path(id)).await.with_context(|| format!("host {id}"))?;
        rooms.insert(id.clone(), host.capacity.saturating_sub(host.interfaces) as usize);
    }
    let mut done: Vec<Drained> = Vec::new();
    for some in nodes.iter().filter(leaving).collect::<Vec<_>>().chunks(args.at_once.into()) {
        let mut under_way = Vec::new();
        for node in some {
            match begin(client, node, &mut rooms).await {
                Ok((to, accepted)) => under_way.push((node, to, accepted)),
                Err(error) => {
                    done.push(Drained {
                        node: node.id.clone(),
                        to: None,
                        problem: Some(format!("{error:#}")),
                    });
                }
            }
        }
        for (node, to, accepted) in under_way {
            let ended = end(client, node, &to, accepted, Duration::from_secs(args.timeout)).await;
            let problem = ended.err().map(|error| format!("{error:#}"));
            done.push(Drained { node: node.id.clone(), to: Some(to), problem });
        }
    }
    let failed = done.iter().filter(|node| node.problem.is_some()).count();
    if printer.is_json() {
        printer.json(&done)?;
    } else {
        printer.table(
            &["NODE", "TO", "OUTCOME"],
            done.iter().map(|node| {
                let outcome = node.problem.clone().unwrap_or_else(|| "moved".to_owned());
                vec![node.node.clone(), node.to.clone().unwrap_or_else(|| "-".to_owned()), outcome]
            }),
        )?;
    }
    if failed > 0 {
        bail!("{failed} of {} nodes are not moved; host {} is not empty", done.len(), args.id);
    }
    Ok(())
}

/// Asks for a node to be moved to the host with the most room, which is spoken for from now on.
async fn begin(
    client: &Client,
    node: &Node,
    rooms: &mut BTreeMap<String, usize>,
) -> anyhow::Result<(String, Option<Move>)> {
    if let Some(moving) = &node.moving {
        return Ok((moving.to.clone(), Some(moving.clone())));
    }
    let needed = node.interfaces.len();
    let (host, room) = rooms.iter_mut().max_by_key(|(_, room)| **room).context("--to names no host")?;
    ensure!(*room >= needed, "no host has room for its {needed} interfaces");
    *room -= needed;
    let request = MoveRequest { host: host.clone(), interfaces: Vec::new() };
    let accepted: Node = client.post(&format!("{}/move", Node::path(&node.id)), &request).await?;
    Ok((host.clone(), accepted.moving))
}

/// Waits until a node is where it is to be.
async fn end(
    client: &Client,
    node: &Node,
    to: &str,
    accepted: Option<Move>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let Some(accepted) = accepted else { return Ok(()) };
    let node = moving::follow(client, &node.id, &accepted, timeout).await?;
    ensure!(node.host == to, "its move ended, but it is on {}", node.host);
    Ok(())
}
