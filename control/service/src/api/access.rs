//! Tokens and the audit log: one handler per path and method.

use super::Api;
use super::body::{Body, List, query};
use super::fail::Failure;
use super::resources::{Answer, put};
use crate::access::Caller;
use crate::ledger::{audit, list, shown, token};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use overlane_api::access::{AuditPage, AuditQuery, Token, TokenSpec};
use overlane_api::resource::{ErrorBody, ListQuery, Page};

impl Api {
    fn complete_token(&self, mut token: Token) -> Token {
        token.last_used = self.authenticator.last_used(&token.id);
        token
    }
}

/// With a secret in it, an answer is nothing to keep.
fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Lists tokens, without their secrets
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(ListQuery),
    responses((status = 200, body = Page<Token>), (status = "4XX", body = ErrorBody)))]
pub(super) async fn list_tokens(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    List(query): List,
) -> Answer<Page<Token>> {
    let mut page = api.blocking(move |ledger| list::tokens(&*ledger.view()?, &caller, &query)).await?;
    page.items = page.items.into_iter().map(|item| api.complete_token(item)).collect();
    Ok(Json(page))
}

/// Makes a token with an id of the service's choice
///
/// The answer has its secret; it is told this once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenSpec,
    responses((status = 201, description = "Made", body = Token), (status = "4XX", body = ErrorBody)))]
pub(super) async fn make_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(spec): Body<TokenSpec>,
) -> Result<Response, Failure> {
    let token = api.blocking(move |ledger| ledger.by(&caller).make_token(&spec)).await?;
    Ok(uncached((StatusCode::CREATED, Json(token)).into_response()))
}

/// Makes a token, or brings its name to what is asked
///
/// The answer that made it has its secret; it is told this once.
#[utoipa::path(put, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)), request_body = TokenSpec,
    responses((status = 201, description = "Made", body = Token), (status = 200, description = "Confirmed or changed", body = Token),
              (status = "4XX", body = ErrorBody)))]
pub(super) async fn put_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(spec): Body<TokenSpec>,
) -> Result<Response, Failure> {
    let (outcome, token) = api.blocking(move |ledger| ledger.by(&caller).put_token(&id, &spec)).await?;
    Ok(uncached(put(outcome, api.complete_token(token))))
}

/// Shows a token, without its secret
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 200, body = Token), (status = "4XX", body = ErrorBody)))]
pub(super) async fn get_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Token> {
    let found = api.blocking(move |ledger| {
        let view = ledger.view()?;
        shown(&*view, &caller, token::read(&*view, &id)?)
    });
    Ok(Json(api.complete_token(found.await?)))
}

/// Revokes a token at once
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204, description = "Deleted"), (status = "4XX", body = ErrorBody)))]
pub(super) async fn delete_token(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let gone = id.clone();
    api.blocking(move |ledger| ledger.by(&caller).delete_token(&id)).await?;
    api.authenticator.forget(&gone);
    Ok(StatusCode::NO_CONTENT)
}

/// Which entries.
pub(super) struct Wanted(AuditQuery);

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        query(parts, "limit (1 to 1000), after (a revision), entity (an id), actor").map(Self)
    }
}

/// Tells who changed what, from where: the first changes first
///
/// An entity is told of what was done to it and to what it owns, but not which operator did it. As many entries are kept, and
/// for as long, as the service's configuration says.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage), (status = "4XX", body = ErrorBody)))]
pub(super) async fn read_audit(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Wanted(query): Wanted,
) -> Answer<AuditPage> {
    api.blocking(move |ledger| audit::read(&*ledger.view()?, &caller, &query)).await.map(Json)
}
