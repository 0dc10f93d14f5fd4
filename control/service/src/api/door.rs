//! The one door: everybody is known, and nobody gets to a path that is not for them. Whose a resource is, is asked further
//! in, where it is read or changed.

use super::fail::{Failure, whole_seconds};
use super::{Api, Peer, REQUEST_TIME};
use crate::access::{Actor, Caller, Decision, Refusal, decide, of_route};
use crate::telemetry::RefusalLabels;
use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use overlane_api::resource::ErrorCode;
use std::net::IpAddr;
use std::time::Instant;

/// Lets those pass who may, each for a bounded time; handlers are told the [`Caller`] as an [`Extension`].
pub(super) async fn admit(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIME, async {
        let caller = match known(&api, &peer, shown(&request)).await {
            Ok(caller) => caller,
            Err(response) => return response,
        };
        if caller.actor == Actor::Anybody && !is_addressed_here(&request) {
            refused(&api, "forbidden", || {
                "a request from this machine that was meant for another".to_owned()
            });
            return Failure::misaddressed().into_response();
        }
        let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
        let route = path.as_deref().and_then(|path| of_route(request.method().as_str(), path));
        let allowed = match (path, route) {
            (_, Some((kind, verb))) => decide(&caller.role, kind, verb) != Decision::Never,
            // No such path or method: that can be told to anybody who is known.
            (None, None) => true,
            (Some(_), None) => is_answered_as_unknown(request.method().as_str()),
        };
        if !allowed {
            refused(&api, "forbidden", || {
                format!("{} may not {} {}", caller.actor, request.method(), request.uri().path())
            });
            return Failure::not_for(&caller.role).into_response();
        }
        request.extensions_mut().insert(caller);
        next.run(request).await
    });
    answer.await.unwrap_or_else(|_| Failure::too_slow(REQUEST_TIME).into_response())
}

/// Whether a request is for this machine by name: a page in a browser here may have another name lead here, and then asks in
/// its user's name.
fn is_addressed_here(request: &Request) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Methods that no path has: the router says so itself.
fn is_answered_as_unknown(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "PUT" | "POST" | "DELETE")
}

/// What stands in the `Authorization` header.
fn shown(request: &Request) -> Option<Vec<u8>> {
    let mut shown = request.headers().get_all(header::AUTHORIZATION).iter();
    match (shown.next(), shown.next()) {
        (first, None) => first.map(|value| value.as_bytes().to_vec()),
        // Two of them contradict each other: none is taken.
        (_, Some(_)) => Some(Vec::new()),
    }
}

/// Who asks.
async fn known(api: &Api, peer: &Peer, header: Option<Vec<u8>>) -> Result<Caller, Response> {
    let (authenticator, asking) = (api.authenticator.clone(), peer.clone());
    let admitted = api.blocking(move |_| authenticator.admit(&asking, header.as_deref())).await;
    let refusal = match admitted {
        Ok(Ok(caller)) => return Ok(caller),
        Ok(Err(refusal)) => refusal,
        Err(failure) => return Err(failure.into_response()),
    };
    let failure = Failure::not_admitted(&refusal);
    let reason = match failure.0.code {
        ErrorCode::Forbidden => "forbidden",
        ErrorCode::TooManyRequests => "rate_limited",
        _ => "unauthenticated",
    };
    refused(api, reason, || {
        let source = peer.source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        format!("{} (certificate names {:?}, from {source})", failure.0.message, peer.names)
    });
    let mut response = failure.into_response();
    if let Refusal::TooMany(wait) = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    Err(response)
}

/// Counts a refusal, and logs it unless there were just some.
fn refused(api: &Api, reason: &'static str, what: impl FnOnce() -> String) {
    api.metrics.refusals.get_or_create(&RefusalLabels { reason }).inc();
    if let Some(more) = api.warnings.due(Instant::now()) {
        tracing::warn!(reason, more_not_logged = more, "refused: {}", what());
    }
}
