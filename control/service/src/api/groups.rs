//! Who is a member of a network's multicast groups.

use super::Api;
use super::body::query;
use super::fail::Failure;
use super::resources::Answer;
use crate::access::Caller;
use crate::ledger::group;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::{Extension, Json};
use overlane_api::group::{Membership, MembershipQuery};
use overlane_api::resource::{ErrorBody, Page};

/// Which memberships.
pub(super) struct Wanted(MembershipQuery);

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        query(parts, "limit (1 to 1000) and after (what next of the page before says)").map(Self)
    }
}

/// Lists who is a member of a network's multicast groups, by provisioning or by IGMP
#[utoipa::path(get, path = "/v1/networks/{id}/groups", tag = "networks", params(("id" = String, Path), MembershipQuery),
    responses((status = 200, body = Page<Membership>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_memberships(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Wanted(query): Wanted,
) -> Answer<Page<Membership>> {
    api.blocking(move |ledger| group::list(&*ledger.view()?, &caller, &id, &query)).await.map(Json)
}
