//! The service at one glance, and its backup.

use super::Api;
use super::fail::Failure;
use crate::backup;
use crate::ledger::{list, read_incarnation, record};
use crate::store::{Step, Table};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use overlane_api::resource::{ErrorBody, Status};
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;

/// How many moves are shown.
const MAX_MOVES: usize = 100;
/// Of how many hosts the workers are shown.
const MAX_ENGINES: usize = 100;
/// How long whoever fetches a backup may pause: it holds a view of the store open.
const STALL: Duration = Duration::from_secs(30);
/// How much of a backup is sent at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Shows how the service, its engines and their interfaces are
#[utoipa::path(get, path = "/v1/status", tag = "service",
    responses((status = 200, body = Status), (status = "4XX", body = ErrorBody)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, Failure> {
    let (hosts_connected, hosts_in_step) = api.hub.counts();
    let engines = api.hub.workers(MAX_ENGINES);
    let mut status = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            Ok(Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                incarnation: backup::to_hex(&read_incarnation(&*view)?),
                revision: record::revision(&*view)?,
                entities: view.count(Table::Entities)?,
                networks: view.count(Table::Networks)?,
                hosts: view.count(Table::Hosts)?,
                hosts_connected,
                hosts_in_step,
                nodes: view.count(Table::Nodes)?,
                interfaces: list::interface_counts(&*view)?,
                moves: list::moves(&*view, MAX_MOVES)?,
                engines,
            })
        })
        .await?;
    for moving in &mut status.moves {
        api.mover.annotate(&moving.node, &mut moving.progress);
    }
    Ok(Json(status))
}

/// A backup of the whole store, from one moment
#[utoipa::path(get, path = "/v1/backup", tag = "service",
    responses((status = 200, description = "One line of JSON per record; `overlane-control restore` reads it",
               content_type = "application/x-ndjson"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn backup(State(api): State<Api>) -> Response {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(2);
    let (ledger, runtime) = (api.ledger.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let send = |bytes: Result<Bytes, std::io::Error>| {
            matches!(runtime.block_on(tokio::time::timeout(STALL, sender.send(bytes))), Ok(Ok(())))
        };
        let mut chunk = Vec::new();
        let told = ledger.view().and_then(|view| {
            backup::write(&*view, &mut |line| {
                chunk.extend(line);
                if chunk.len() < CHUNK || send(Ok(Bytes::from(std::mem::take(&mut chunk)))) {
                    Step::Continue(())
                } else {
                    Step::Break(())
                }
            })
        });
        // A backup that breaks off has no last line, and a restore refuses it.
        match told {
            Ok(()) => send(Ok(Bytes::from(chunk))),
            Err(error) => {
                tracing::error!(%error, "a backup failed");
                send(Err(std::io::Error::other("the store failed")))
            }
        };
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(ReceiverStream::new(receiver))).into_response()
}
