//! Events, for operators.

use super::Api;
use super::body::query;
use super::fail::Failure;
use super::resources::Answer;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use overlane_api::event::{Event, EventKind, EventQuery};
use overlane_api::resource::{ErrorBody, Page};

/// Which events.
pub(super) struct Wanted(EventQuery);

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let legal = format!(
            "limit (1 to 1000), after (an event's number), kind ({}), host and entity (ids)",
            EventKind::legal()
        );
        query(parts, &legal).map(Self)
    }
}

/// Lists events: what went wrong, the first ones first
///
/// What happens again within an hour is counted in the event that tells it already. They are kept for as long, and as many
/// of them, as the service's configuration says.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = Page<Event>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_events(State(api): State<Api>, Wanted(query): Wanted) -> Answer<Page<Event>> {
    Ok(Json(api.events.list(&query)?))
}
