//! Who asks, and what they may do.
//!
//! [`decide`] is the one table of what a role may do with a kind of resource. The API's router asks it at the door, by path
//! and method; the ledger asks it again in the transaction (or view) in which something is changed (or read), where it is
//! known whose the resource is. What the table does not name is refused.

mod authenticate;
mod decide;
mod refusals;

pub(crate) use authenticate::make_secret;
pub use authenticate::{Authenticator, Refusal};
pub use decide::{Decision, Kind, Verb, decide, of_route};
pub use refusals::{Failures, Warnings};

use std::fmt;
use std::net::IpAddr;

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Operator,
    /// See and change what belongs to this entity.
    Entity(String),
    /// Fetch a backup: the service's own certificate.
    Backup,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The DNS name in a certificate.
    Certificate(String),
    /// The id of a token.
    Token(String),
    /// Whoever is on the service's machine, where there are no certificates.
    Anybody,
}

impl fmt::Display for Actor {
    /// As the audit log has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(name) => write!(f, "certificate/{name}"),
            Self::Token(id) => write!(f, "token/{id}"),
            Self::Anybody => f.write_str("anybody"),
        }
    }
}

/// Whoever asks: known, and with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub actor: Actor,
    /// What it may do.
    pub role: Role,
    /// Where it asks from.
    pub source: Option<IpAddr>,
}

impl Caller {
    /// The entity that it is confined to, if it is.
    #[must_use]
    pub fn entity(&self) -> Option<&str> {
        match &self.role {
            Role::Entity(entity) => Some(entity),
            Role::Operator | Role::Backup => None,
        }
    }

    /// Whether it may see what belongs to `owner`; for what an [`Decision::Own`] was decided about.
    #[must_use]
    pub fn sees(&self, owner: &str) -> bool {
        self.entity().is_none_or(|own| own == owner)
    }
}
