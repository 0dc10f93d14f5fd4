//! What would happen to a packet: the question, and its answer.

use super::{Action, IcmpMatch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A packet that would open a flow: the body of `POST /v1/rules/test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleTest {
    /// Whom it comes from: a node, or `node/interface` of one that has several.
    pub from: String,
    /// Whom it goes to, as `from`.
    pub to: String,
    /// As in a rule: `tcp`, `udp`, `icmp`, … or a number.
    pub protocol: String,
    /// The destination's port, 0 to 65535; needed for protocols with ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// The source's port; 49152 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u32>,
    /// For `icmp`: type and code; an echo request if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpMatch>,
    /// Bytes of the whole IPv4 packet, 20 to 65535; 60 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// A rule that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// Its id.
    pub rule: String,
    /// The change that last touched it.
    pub revision: u64,
    /// What it says.
    pub action: Action,
}

/// What would happen to a packet, by what is provisioned just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleVerdict {
    /// Whether it would pass.
    pub passes: bool,
    /// The reason under which it would be dropped, as in metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether its sender would be told.
    pub rejected: bool,
    /// Whether replies would need a rule of their own.
    pub stateless: bool,
    /// The sender's rule that decides; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Decision>,
    /// The receiver's rule that decides; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Decision>,
    /// What holds between the two where no rule decides; absent: their networks are no peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,
    /// What else would keep it from arriving; for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// The state that this is true for.
    pub revision: u64,
}
