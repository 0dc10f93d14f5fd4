//! Answers that are not a success.

use crate::error::Error;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use overlane_api::resource::{ErrorBody, ErrorCode, ErrorDetail};
use std::time::Duration;

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

    pub(super) fn not_an_operator(names: &[String]) -> Self {
        let said = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        Self::new(
            ErrorCode::Forbidden,
            format!("the certificate says {said}, which may not use this API"),
            Some("a certificate whose SAN is in the service's [api] operators".to_owned()),
        )
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
        (status, Json(ErrorBody { error: self.0 })).into_response()
    }
}
