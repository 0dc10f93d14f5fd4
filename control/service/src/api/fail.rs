//! Answers that are not a success.

use crate::access::{Refusal, Role};
use crate::error::Error;
use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use overlane_api::resource::{ErrorBody, ErrorCode, ErrorDetail};
use std::time::Duration;

/// Rounded up: whoever waits so long has waited long enough.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ErrorDetail);

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>, legal: Option<String>) -> Self {
        Self(ErrorDetail { code, field: None, message: message.into(), legal })
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            ErrorCode::NotFound,
            "there is no such path",
            Some("the paths of /v1/openapi.json".to_owned()),
        )
    }

    pub(super) fn no_such_method(method: &Method) -> Self {
        let legal = Some("the methods of /v1/openapi.json".to_owned());
        Self::new(ErrorCode::MethodNotAllowed, format!("the path has no {method}"), legal)
    }

    /// Whoever asks is not let in.
    pub(super) fn not_admitted(refusal: &Refusal) -> Self {
        let token = Some("Authorization: Bearer with a token that is good".to_owned());
        match refusal {
            Refusal::Nobody => Self::new(
                ErrorCode::Unauthenticated,
                "neither a certificate nor a token was shown",
                Some("an operator's certificate, or Authorization: Bearer with a token".to_owned()),
            ),
            Refusal::Malformed => Self::new(
                ErrorCode::Unauthenticated,
                "the Authorization header is not one with a token",
                Some("Authorization: Bearer ovl_…".to_owned()),
            ),
            Refusal::BadToken => Self::new(ErrorCode::Unauthenticated, "the token is not good", token),
            Refusal::NotAnOperator(names) => {
                let said = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                Self::new(
                    ErrorCode::Forbidden,
                    format!("the certificate says {said}, which may not use this API"),
                    Some(
                        "a certificate whose SAN is in the service's [api] operators, or a token".to_owned(),
                    ),
                )
            }
            Refusal::TooMany(wait) => Self::new(
                ErrorCode::TooManyRequests,
                format!("too many failed authentications from this address; wait {} s", whole_seconds(*wait)),
                token,
            ),
        }
    }

    /// Without certificates: it was sent to another name than this machine's own.
    pub(super) fn misaddressed() -> Self {
        let legal = "Host: localhost, 127.0.0.1 or [::1]".to_owned();
        Self::new(ErrorCode::Forbidden, "the request is for another machine", Some(legal))
    }

    /// What is not for the caller's role.
    pub(super) fn not_for(role: &Role) -> Self {
        let legal = match role {
            Role::Backup => "GET /v1/backup: that is what the service's own certificate is for",
            _ => {
                "an operator's certificate or token; with an entity's, its own networks, nodes, rules and peerings"
            }
        };
        Self::new(ErrorCode::Forbidden, "this is for operators only", Some(legal.to_owned()))
    }

    pub(super) fn too_slow(limit: Duration) -> Self {
        Self::new(ErrorCode::Timeout, format!("it took longer than {} s", limit.as_secs()), None)
    }

    pub(super) fn internal() -> Self {
        Self::new(ErrorCode::Internal, "the service failed; its log says more", None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(detail) => Self(detail),
            other => {
                tracing::error!(error = %other, "a request failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ErrorCode::Invalid => StatusCode::BAD_REQUEST,
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Conflict | ErrorCode::Exhausted => StatusCode::CONFLICT,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = (status, Json(ErrorBody { error: self.0 })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750, 3.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
