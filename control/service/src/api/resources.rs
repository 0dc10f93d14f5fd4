//! Entities, networks, hosts, nodes: one handler per path and method.

use super::Api;
use super::body::{Body, List};
use super::fail::Failure;
use crate::access::{Caller, Kind};
use crate::error::Result as Done;
use crate::ledger::{self, Outcome, entity, host, list, listed, network, node, shown};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use overlane_api::resource::{
    Entity, EntitySpec, ErrorBody, Host, HostSpec, ListQuery, MoveRequest, Network, NetworkSpec, Node,
    NodeSpec, Page,
};
use serde::Serialize;

impl Api {
    /// Runs something that blocks on a thread for that.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ledger::Ledger) -> Done<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let ledger = self.ledger.clone();
        match tokio::task::spawn_blocking(move || work(&ledger)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Failure::internal()),
        }
    }

    fn complete_host(&self, mut host: Host) -> Host {
        host.engine = self.hub.engine(&host.id);
        host
    }

    fn complete_node(&self, mut node: Node) -> Node {
        if let Some(moving) = &mut node.moving {
            self.mover.annotate(&node.id, moving);
        }
        node
    }
}

pub(super) fn put<T: Serialize>(outcome: Outcome, resource: T) -> Response {
    let status = match outcome {
        Outcome::Created => StatusCode::CREATED,
        Outcome::Confirmed => StatusCode::OK,
    };
    (status, Json(resource)).into_response()
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// Lists entities
#[utoipa::path(get, path = "/v1/entities", tag = "entities", params(ListQuery),
    responses((status = 200, body = Page<Entity>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_entities(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Entity>> {
    api.blocking(move |ledger| list::entities(&*ledger.view()?, &caller, ledger.default_quota(), &query))
        .await
        .map(Json)
}

/// Makes an entity, or brings it to what is asked
#[utoipa::path(put, path = "/v1/entities/{id}", tag = "entities", params(("id" = String, Path)), request_body = EntitySpec,
    responses((status = 201, description = "Made", body = Entity), (status = 200, description = "Confirmed or changed", body = Entity),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_entity(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<EntitySpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_entity(&id, &spec)).await?;
    Ok(put(outcome, resource))
}

/// Shows an entity
#[utoipa::path(get, path = "/v1/entities/{id}", tag = "entities", params(("id" = String, Path)),
    responses((status = 200, body = Entity), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_entity(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Entity> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            shown(&*view, &caller, entity::read(&*view, ledger.default_quota(), &id)?)
        })
        .await?;
    Ok(Json(found))
}

/// Deletes an entity that nothing needs any more
#[utoipa::path(delete, path = "/v1/entities/{id}", tag = "entities", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_entity(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_entity(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists networks
#[utoipa::path(get, path = "/v1/networks", tag = "networks", params(ListQuery),
    responses((status = 200, body = Page<Network>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_networks(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Network>> {
    api.blocking(move |ledger| list::networks(&*ledger.view()?, &caller, &query)).await.map(Json)
}

/// Makes a network, or brings it to what is asked
#[utoipa::path(put, path = "/v1/networks/{id}", tag = "networks", params(("id" = String, Path)), request_body = NetworkSpec,
    responses((status = 201, description = "Made", body = Network), (status = 200, description = "Confirmed or changed", body = Network),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_network(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<NetworkSpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_network(&id, &spec)).await?;
    Ok(put(outcome, resource))
}

/// Shows a network
#[utoipa::path(get, path = "/v1/networks/{id}", tag = "networks", params(("id" = String, Path)),
    responses((status = 200, body = Network), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_network(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Network> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            shown(&*view, &caller, network::read(&*view, &id)?)
        })
        .await?;
    Ok(Json(found))
}

/// Deletes a network that nothing needs any more
#[utoipa::path(delete, path = "/v1/networks/{id}", tag = "networks", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_network(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_network(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists hosts
#[utoipa::path(get, path = "/v1/hosts", tag = "hosts", params(ListQuery),
    responses((status = 200, body = Page<Host>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_hosts(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Host>> {
    let mut page =
        api.blocking(move |ledger| list::hosts(&*ledger.view()?, &caller, ledger.layout(), &query)).await?;
    page.items = page.items.into_iter().map(|item| api.complete_host(item)).collect();
    Ok(Json(page))
}

/// Makes a host, or brings it to what is asked
#[utoipa::path(put, path = "/v1/hosts/{id}", tag = "hosts", params(("id" = String, Path)), request_body = HostSpec,
    responses((status = 201, description = "Made", body = Host), (status = 200, description = "Confirmed or changed", body = Host),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_host(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<HostSpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_host(&id, &spec)).await?;
    Ok(put(outcome, api.complete_host(resource)))
}

/// Shows a host
#[utoipa::path(get, path = "/v1/hosts/{id}", tag = "hosts", params(("id" = String, Path)),
    responses((status = 200, body = Host), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_host(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Host> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            listed(&caller, Kind::Host)?;
            host::read(&*view, ledger.layout(), &id)
        })
        .await?;
    Ok(Json(api.complete_host(found)))
}

/// Deletes a host that nothing needs any more
#[utoipa::path(delete, path = "/v1/hosts/{id}", tag = "hosts", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_host(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_host(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists nodes
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", params(ListQuery),
    responses((status = 200, body = Page<Node>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_nodes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Node>> {
    let mut page = api.blocking(move |ledger| list::nodes(&*ledger.view()?, &caller, &query)).await?;
    page.items = page.items.into_iter().map(|item| api.complete_node(item)).collect();
    Ok(Json(page))
}

/// Makes a node, or brings it to what is asked
#[utoipa::path(put, path = "/v1/nodes/{id}", tag = "nodes", params(("id" = String, Path)), request_body = NodeSpec,
    responses((status = 201, description = "Made", body = Node), (status = 200, description = "Confirmed or changed", body = Node),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<NodeSpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_node(&id, &spec)).await?;
    Ok(put(outcome, api.complete_node(resource)))
}

/// Shows a node
#[utoipa::path(get, path = "/v1/nodes/{id}", tag = "nodes", params(("id" = String, Path)),
    responses((status = 200, body = Node), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Node> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            shown(&*view, &caller, node::read(&*view, &id)?)
        })
        .await?;
    Ok(Json(api.complete_node(found)))
}

/// Deletes a node with its interfaces
#[utoipa::path(delete, path = "/v1/nodes/{id}", tag = "nodes", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_node(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a node to another host
///
/// A repeated request is confirmed. While the move is in its first phase, a move to the host that the node is on takes
/// it back.
#[utoipa::path(post, path = "/v1/nodes/{id}/move", tag = "nodes", params(("id" = String, Path)),
    request_body = MoveRequest,
    responses((status = 202, description = "Begun, or under way", body = Node), (status = "4XX", body = ErrorBody)))]
pub(super) async fn move_node(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(request): Body<MoveRequest>,
) -> Result<Response, Failure> {
    let node = api.blocking(move |ledger| ledger.by(&caller).move_node(&id, &request)).await?;
    Ok((StatusCode::ACCEPTED, Json(api.complete_node(node))).into_response())
}
