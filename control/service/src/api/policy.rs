//! Rules and peerings: one handler per path and method.

use super::Api;
use super::body::{Body, List};
use super::fail::Failure;
use super::resources::{Answer, put};
use crate::access::Caller;
use crate::ledger::{judge, list, peering, rule, shown};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use overlane_api::policy::{Peering, PeeringSpec, Rule, RuleSpec, RuleTest, RuleVerdict};
use overlane_api::resource::{ErrorBody, ListQuery, Page};

/// Lists rules
#[utoipa::path(get, path = "/v1/rules", tag = "rules", params(ListQuery),
    responses((status = 200, body = Page<Rule>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_rules(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Rule>> {
    api.blocking(move |ledger| list::rules(&*ledger.view()?, &caller, &query)).await.map(Json)
}

/// Makes a rule, or brings it to what is asked
///
/// It is replaced as a whole: no packet is judged by half a rule.
#[utoipa::path(put, path = "/v1/rules/{id}", tag = "rules", params(("id" = String, Path)), request_body = RuleSpec,
    responses((status = 201, description = "Made", body = Rule), (status = 200, description = "Confirmed or changed", body = Rule),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_rule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<RuleSpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_rule(&id, &spec)).await?;
    Ok(put(outcome, resource))
}

/// Shows a rule
#[utoipa::path(get, path = "/v1/rules/{id}", tag = "rules", params(("id" = String, Path)),
    responses((status = 200, body = Rule), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_rule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Rule> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            shown(&*view, &caller, rule::read(&*view, &id)?)
        })
        .await?;
    Ok(Json(found))
}

/// Deletes a rule
#[utoipa::path(delete, path = "/v1/rules/{id}", tag = "rules", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_rule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_rule(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what would happen to a packet, and which rules decide
#[utoipa::path(post, path = "/v1/rules/test", tag = "rules", request_body = RuleTest,
    responses((status = 200, body = RuleVerdict), (status = "4XX", body = ErrorBody)))]
pub(super) async fn test_rules(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(asked): Body<RuleTest>,
) -> Answer<RuleVerdict> {
    let verdict =
        api.blocking(move |ledger| judge::test(&*ledger.view()?, &caller, ledger.layout(), &asked)).await?;
    Ok(Json(verdict))
}

/// Lists peerings
#[utoipa::path(get, path = "/v1/peerings", tag = "peerings", params(ListQuery),
    responses((status = 200, body = Page<Peering>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_peerings(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Peering>> {
    api.blocking(move |ledger| list::peerings(&*ledger.view()?, &caller, &query)).await.map(Json)
}

/// Lets two networks exchange packets, or changes how
#[utoipa::path(put, path = "/v1/peerings/{id}", tag = "peerings", params(("id" = String, Path)), request_body = PeeringSpec,
    responses((status = 201, description = "Made", body = Peering), (status = 200, description = "Confirmed or changed", body = Peering),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_peering(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<PeeringSpec>,
) -> Result<Response, Failure> {
    let (outcome, resource) = api.blocking(move |ledger| ledger.by(&caller).put_peering(&id, &spec)).await?;
    Ok(put(outcome, resource))
}

/// Shows a peering
#[utoipa::path(get, path = "/v1/peerings/{id}", tag = "peerings", params(("id" = String, Path)),
    responses((status = 200, body = Peering), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_peering(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Peering> {
    let found = api
        .blocking(move |ledger| {
            let view = ledger.view()?;
            shown(&*view, &caller, peering::read(&*view, &id)?)
        })
        .await?;
    Ok(Json(found))
}

/// Deletes a peering: nothing passes between its networks any more
#[utoipa::path(delete, path = "/v1/peerings/{id}", tag = "peerings", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_peering(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    api.blocking(move |ledger| ledger.by(&caller).delete_peering(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
