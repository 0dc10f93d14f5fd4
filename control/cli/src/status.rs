//! `overlane status`.

use overlane_api::resource::Status;

use crate::client::Client;
use crate::output::Printer;
use crate::resources::{moving, workers};

pub(crate) async fn run(client: &Client, printer: &mut Printer<'_>) -> anyhow::Result<()> {
    let status: Status = client.get("/v1/status").await?;
    if printer.is_json() {
        printer.json(&status)?;
        return Ok(());
    }
    let interfaces = status.interfaces;
    printer.facts([
        ("service", format!("version {}", status.version)),
        ("store", format!("revision {} of {}", status.revision, status.incarnation)),
        ("entities", status.entities.to_string()),
        ("networks", status.networks.to_string()),
        (
            "hosts",
            format!(
                "{}: {} connected, {} in step",
                status.hosts, status.hosts_connected, status.hosts_in_step
            ),
        ),
        ("nodes", format!("{}, {} moving", status.nodes, status.moves.len())),
        (
            "interfaces",
            format!(
                "{} live, {} attached, {} defined, {} gone",
                interfaces.live, interfaces.attached, interfaces.defined, interfaces.gone
            ),
        ),
    ])?;
    if !status.moves.is_empty() {
        printer.line("")?;
        let rows = status.moves.iter().map(|node| vec![node.node.clone(), moving::describe(&node.progress)]);
        printer.table(&["MOVING NODE", "PROGRESS"], rows)?;
    }
    if !status.engines.is_empty() {
        printer.line("")?;
        let header: Vec<&str> = ["HOST"].into_iter().chain(workers::HEADER).collect();
        let rows = status.engines.iter().flat_map(|engine| {
            let row = |worker| [vec![engine.host.clone()], workers::row(worker)].concat();
            engine.workers.iter().map(row)
        });
        printer.table(&header, rows)?;
    }
    if (status.engines.len() as u64) < status.hosts_connected {
        printer.line("")?;
        printer.line("Workers of other engines, once they have reported them: `overlane host show HOST`.")?;
    }
    if status.hosts_in_step < status.hosts {
        printer.line("")?;
        printer.line("Not every engine is in step: `overlane host list` shows which.")?;
    }
    Ok(())
}
