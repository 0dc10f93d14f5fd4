//! Refusals, said precisely: what kind, which field, what is wrong with it, what would be legal.

use crate::store::StoreError;
use overlane_api::resource::{ErrorCode, ErrorDetail};

/// Why something was not done: a refusal for whoever asked, or trouble of our own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is refused.
    #[error("{0}")]
    Refused(ErrorDetail),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds something that this build cannot read.
    #[error("store: the record {key} cannot be read: {problem}")]
    Record {
        /// Which record.
        key: String,
        /// Why not.
        problem: String,
    },
    /// There is no randomness to be had.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// The result of anything that can be refused.
pub type Result<T> = std::result::Result<T, Error>;

fn refused(code: ErrorCode, field: Option<String>, message: String, legal: Option<String>) -> Error {
    Error::Refused(ErrorDetail { code, field, message, legal })
}

impl Error {
    /// A value that is never legal.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>, legal: impl Into<String>) -> Self {
        refused(ErrorCode::Invalid, Some(field.into()), message.into(), Some(legal.into()))
    }

    /// A legal value that clashes with what there is.
    pub fn conflict(field: impl Into<String>, message: impl Into<String>, legal: impl Into<String>) -> Self {
        refused(ErrorCode::Conflict, Some(field.into()), message.into(), Some(legal.into()))
    }

    /// Nothing is left.
    pub fn exhausted(field: impl Into<String>, message: impl Into<String>, legal: impl Into<String>) -> Self {
        refused(ErrorCode::Exhausted, Some(field.into()), message.into(), Some(legal.into()))
    }

    /// Whoever asks may not do this.
    pub fn forbidden(field: Option<&str>, message: impl Into<String>, legal: impl Into<String>) -> Self {
        refused(ErrorCode::Forbidden, field.map(str::to_owned), message.into(), Some(legal.into()))
    }

    /// Whoever asks is not known, or not any more.
    pub fn unauthenticated(message: impl Into<String>, legal: impl Into<String>) -> Self {
        refused(ErrorCode::Unauthenticated, None, message.into(), Some(legal.into()))
    }

    /// No such resource at the path.
    #[must_use]
    pub fn absent(kind: &str, id: &str) -> Self {
        refused(ErrorCode::NotFound, None, format!("there is no {kind} {id}"), None)
    }

    /// The resource cannot be deleted while others need it.
    #[must_use]
    pub fn in_use(kind: &str, id: &str, by: &[String]) -> Self {
        refused(
            ErrorCode::Conflict,
            None,
            format!("{kind} {id} is in use by {}", by.join(", ")),
            Some("delete those first".to_owned()),
        )
    }

    /// For code that checks lists: the same refusal, with the field named from further out.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Refused(mut detail) => {
                detail.field = Some(match detail.field {
                    Some(field) if field.starts_with('[') => format!("{outer}{field}"),
                    Some(field) => format!("{outer}.{field}"),
                    None => outer.to_owned(),
                });
                Self::Refused(detail)
            }
            other => other,
        }
    }
}
