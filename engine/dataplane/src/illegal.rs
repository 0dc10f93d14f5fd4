//! What is said of a setting that cannot be.

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {legal}, not {given}")]
pub struct Illegal {
    /// Which one, like `routes[2].via`.
    pub field: String,
    /// What would be legal.
    pub legal: String,
    /// What was given.
    pub given: String,
}

impl Illegal {
    /// The field `field` must be `legal`.
    pub(crate) fn new(field: impl Into<String>, legal: impl Into<String>, given: impl Into<String>) -> Self {
        Self { field: field.into(), legal: legal.into(), given: given.into() }
    }
}
