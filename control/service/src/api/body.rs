//! Bodies and queries, read strictly; what is wrong with them is told with the field's name.

use super::fail::Failure;
use super::objects::Objects;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::{header, request::Parts};
use overlane_api::resource::{ErrorCode, ErrorDetail, ListQuery};
use serde::de::DeserializeOwned;

/// The largest body, in bytes: a node with 16 interfaces of 64 addresses is far below.
pub(super) const MAX_BODY: usize = 256 << 10;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            return Err(Failure::new(
                ErrorCode::UnsupportedMediaType,
                "the body's content-type is not JSON's",
                Some("application/json".to_owned()),
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                let legal = Some(format!("up to {MAX_BODY} bytes"));
                Failure::new(ErrorCode::TooLarge, "the body is too large", legal)
            } else {
                Failure::new(ErrorCode::Invalid, format!("the body cannot be read: {rejection}"), None)
            }
        })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(Objects(&mut json)).map_err(|error| {
            let path = error.path().to_string();
            refusal((path != ".").then_some(path), &error.into_inner().to_string())
        })?;
        json.end().map_err(|error| refusal(None, &error.to_string()))?;
        Ok(Self(value))
    }
}

/// Takes a parser's message apart: what was found, and what was expected.
fn refusal(path: Option<String>, message: &str) -> Failure {
    let found = message.split(", expected ").next().unwrap_or(message);
    let expected = message.split_once(", expected ").map(|(_, expected)| expected.replace('`', ""));
    // An unknown or missing field is named by the message, its place by the path.
    let inner = message.strip_prefix("missing field `").or_else(|| message.strip_prefix("unknown field `"));
    let inner = inner.and_then(|rest| rest.split('`').next());
    let field = match (path, inner) {
        // The path of an unknown field ends with it already.
        (Some(path), Some(inner)) if path == inner || path.ends_with(&format!(".{inner}")) => Some(path),
        (Some(path), Some(inner)) => Some(format!("{path}.{inner}")),
        (path, inner) => path.or_else(|| inner.map(str::to_owned)),
    };
    let legal = match (expected, message.starts_with("missing field")) {
        (Some(expected), _) => strip_position(&expected),
        (None, true) => "it must be given".to_owned(),
        (None, false) => "JSON as /v1/openapi.json describes it".to_owned(),
    };
    Failure(ErrorDetail {
        code: ErrorCode::Invalid,
        field,
        message: strip_position(&found.replace('`', "")),
        legal: Some(legal),
    })
}

/// Without `at line 1 column 5`: bodies are made by programs.
fn strip_position(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).to_owned()
}

/// The query of a list.
pub(super) struct List(pub(super) ListQuery);

impl<S: Send + Sync> FromRequestParts<S> for List {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        query(parts, "limit (1 to 1000), after (an id), and the list's filters").map(Self)
    }
}

/// A query, read strictly; `legal` tells what it may hold.
pub(super) fn query<T: DeserializeOwned>(parts: &Parts, legal: &str) -> Result<T, Failure> {
    Query::try_from_uri(&parts.uri).map(|Query(query)| query).map_err(|rejection| {
        let text = rejection.body_text();
        let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        let field = match text.split_once(": ") {
            Some((field, _)) if field.chars().all(|c| c.is_ascii_lowercase()) => field.to_owned(),
            _ => "query".to_owned(),
        };
        Failure(ErrorDetail {
            code: ErrorCode::Invalid,
            field: Some(field),
            message: text.replace('`', ""),
            legal: Some(legal.to_owned()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(path: Option<&str>, message: &str) -> ErrorDetail {
        refusal(path.map(str::to_owned), message).0
    }

    #[test]
    fn a_parsers_message_is_taken_apart() {
        let unknown = "unknown field `adress`, expected one of `name`, `network` at line 1 column 9";
        let error = detail(Some("interfaces[0].adress"), unknown);
        assert_eq!(error.field.as_deref(), Some("interfaces[0].adress"));
        assert_eq!(error.message, "unknown field adress");
        assert_eq!(error.legal.as_deref(), Some("one of name, network"));

        let error = detail(Some("interfaces[1]"), "missing field `name` at line 1 column 9");
        assert_eq!(error.field.as_deref(), Some("interfaces[1].name"));
        assert_eq!(error.legal.as_deref(), Some("it must be given"));

        let error = detail(None, "missing field `prefix`");
        assert_eq!(error.field.as_deref(), Some("prefix"));

        let error = detail(Some("capacity"), "invalid type: string \"x\", expected u32 at line 1 column 5");
        assert_eq!((error.field.as_deref(), error.legal.as_deref()), (Some("capacity"), Some("u32")));
    }
}
