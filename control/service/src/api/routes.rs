//! Which networks are behind which routers of a network.

use super::Api;
use super::body::query;
use super::fail::Failure;
use super::resources::Answer;
use crate::access::Caller;
use crate::ledger::route;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::{Extension, Json};
use overlane_api::resource::{ErrorBody, Page};
use overlane_api::route::{Route, RouteQuery};

/// Which routes.
pub(super) struct Wanted(RouteQuery);

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        query(parts, "limit (1 to 1000) and after (what next of the page before says)").map(Self)
    }
}

/// Lists the networks that are behind a network's routers, or that these may send from
#[utoipa::path(get, path = "/v1/networks/{id}/routes", tag = "networks", params(("id" = String, Path), RouteQuery),
    responses((status = 200, body = Page<Route>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_routes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Wanted(query): Wanted,
) -> Answer<Page<Route>> {
    api.blocking(move |ledger| route::list(&*ledger.view()?, &caller, &id, &query)).await.map(Json)
}
