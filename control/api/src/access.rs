//! The JSON resources of access: API tokens, quotas, the audit log.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What every token begins with, so that secret scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "ovl_";
/// The shortest life of a token, in seconds.
pub const MIN_EXPIRES_IN: u64 = 60;
/// The longest life of a token, in seconds: ten years.
pub const MAX_EXPIRES_IN: u64 = 3650 * 86_400;

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Everything.
    Operator,
    /// See and change the networks, nodes, rules and peerings of one entity.
    Entity,
}

impl TokenRole {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Entity => "entity",
        }
    }
}

/// An API token, as written. Only its name can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// For people: what or whom it is for; up to 256 bytes.
    #[serde(default)]
    pub name: String,
    /// What its bearer may do. Cannot change.
    pub role: TokenRole,
    /// Whose token it is: with the role `entity`, and only with it. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// How long it is good for, in seconds from when it is made: 60 to 315360000 (ten years); for ever if absent. Cannot
    /// change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

/// An API token. Its secret is told once, to whoever made it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id; part of the secret, and its bearer's name in the audit log.
    pub id: String,
    /// For people.
    pub name: String,
    /// What its bearer may do.
    pub role: TokenRole,
    /// Whose it is, with the role `entity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Whether that moment has passed.
    pub expired: bool,
    /// When it was last used, in seconds since 1970; absent if not since the service was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<u64>,
    /// What its bearer shows, as `Authorization: Bearer …`; only in the answer that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The change that last touched it.
    pub revision: u64,
}

impl std::fmt::Debug for Token {
    /// Without the secret: it stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("entity", &self.entity)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// How much an entity may have, as written; what is absent is the service's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaSpec {
    /// Networks, 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
    /// Nodes, 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Interfaces of all its nodes together, 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<u32>,
    /// Rules, 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<u32>,
    /// API tokens, 0 to 4294967295.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
}

impl QuotaSpec {
    /// Whether all of it is the service's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Where an entity may place nodes by itself.
///
/// A node's attachment names a device of a host, so it takes an operator's word that a device is the entity's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// On which hosts: 1 to 1024 ids.
    pub hosts: Vec<String>,
    /// What the names of the devices begin with, like `acme-`: 1 to 14 characters that a device's name may begin with.
    pub device_prefix: String,
}

/// A number for everything that there is a quota of: what an entity has, or the most that it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    /// Networks.
    pub networks: u32,
    /// Nodes.
    pub nodes: u32,
    /// Interfaces of all its nodes together.
    pub interfaces: u32,
    /// Rules.
    pub rules: u32,
    /// API tokens, those that have expired included.
    pub tokens: u32,
}

/// One write, as the audit log remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// The change that it made.
    pub revision: u64,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Who: `token/ID` or `certificate/NAME`. An entity is told `operator` for whoever is not its own.
    pub actor: String,
    /// From which address; not told to an entity of whoever is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What was done: `create`, `change`, `delete` or `move`.
    pub verb: String,
    /// To what kind of resource, like `network`.
    pub kind: String,
    /// To which one.
    pub id: String,
    /// Whose it is, if an entity's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// For people: what is different now; up to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// Which part of the audit log to show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// How many, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only what came after this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only what was done to this entity and what it owns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only what was done by this one: `token/ID` or `certificate/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// A part of the audit log, in the order of revisions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// What is on this page.
    pub items: Vec<AuditEntry>,
    /// Give this as `after` to go on: now if `more`, later for what will have come by then.
    pub next: u64,
    /// Whether there is more by now.
    pub more: bool,
}
