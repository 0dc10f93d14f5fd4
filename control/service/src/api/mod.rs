//! The HTTP API `/v1`.

mod access;
mod body;
mod door;
mod events;
mod fail;
mod groups;
mod objects;
mod policy;
mod resources;
mod routes;
mod server;
mod status;

pub use server::{Limits, Peer, serve};

use crate::access::{Authenticator, Warnings};
use crate::events::Events;
use crate::ledger::Ledger;
use crate::mover::Mover;
use crate::sync::Hub;
use crate::telemetry::{Metrics, RequestLabels};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Json, Router};
use fail::Failure;
use std::sync::Arc;
use std::time::Duration;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a request may take, reading its body included.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(15);
/// The path for which the service's own certificate will do: `overlane-control backup` has no other.
pub const BACKUP_PATH: &str = "/v1/backup";

/// What the API needs to answer.
#[derive(Clone)]
pub struct Api {
    /// What is provisioned.
    pub ledger: Arc<Ledger>,
    /// Which engines are connected.
    pub hub: Arc<Hub>,
    /// What moves wait for.
    pub mover: Arc<Mover>,
    /// What went wrong.
    pub events: Arc<Events>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who may use it.
    pub authenticator: Arc<Authenticator>,
    /// How often refusals are logged.
    pub warnings: Arc<Warnings>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Overlane provisioning service",
    description = "Entities, virtual networks, hosts, nodes, moves, rules, peerings, events, tokens and the audit log. Writes are idempotent; \
                   errors name the field and its legal values. Clients show a certificate that names an operator, or a token: \
                   Authorization: Bearer. With an entity's token only what is that entity's exists."
))]
struct Document;

/// The API as an axum router. Peers are told to it as an extension of [`Peer`].
pub fn router(api: Api) -> Router {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(resources::list_entities))
        .routes(routes!(resources::put_entity, resources::get_entity, resources::delete_entity))
        .routes(routes!(resources::list_networks))
        .routes(routes!(resources::put_network, resources::get_network, resources::delete_network))
        .routes(routes!(groups::list_memberships))
        .routes(routes!(routes::list_routes))
        .routes(routes!(resources::list_hosts))
        .routes(routes!(resources::put_host, resources::get_host, resources::delete_host))
        .routes(routes!(resources::list_nodes))
        .routes(routes!(resources::put_node, resources::get_node, resources::delete_node))
        .routes(routes!(resources::move_node))
        .routes(routes!(policy::list_rules))
        .routes(routes!(policy::put_rule, policy::get_rule, policy::delete_rule))
        .routes(routes!(policy::test_rules))
        .routes(routes!(policy::list_peerings))
        .routes(routes!(policy::put_peering, policy::get_peering, policy::delete_peering))
        .routes(routes!(access::list_tokens, access::make_token))
        .routes(routes!(access::put_token, access::get_token, access::delete_token))
        .routes(routes!(access::read_audit))
        .routes(routes!(events::list_events))
        .routes(routes!(status::status))
        .routes(routes!(status::backup))
        .split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let document = Json(document);
    router
        .route("/v1/openapi.json", axum::routing::get(|| async move { document }))
        .fallback(|| async { Failure::no_such_path() })
        .method_not_allowed_fallback(|method: Method| async move { Failure::no_such_method(&method) })
        .layer(DefaultBodyLimit::max(body::MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), door::admit))
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(method, path, status, "answered");
    api.metrics.requests.get_or_create(&RequestLabels { method, status }).inc();
    response
}
