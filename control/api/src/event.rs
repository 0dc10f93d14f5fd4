//! The JSON resources of the HTTP API that tell what went wrong: events.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use utoipa::{IntoParams, ToSchema};

/// What kind of trouble an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Packets came from the substrate that were not from where provisioning says, and were dropped.
    VerificationFailed,
    /// A node sent from addresses that are not its own; it was dropped.
    NodeSpoofing,
    /// An engine asked for a mapping that it may not have.
    ResolutionRefused,
    /// Two things that the service knows contradict each other, or something does not go on.
    Inconsistency,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::VerificationFailed, Self::NodeSpoofing, Self::ResolutionRefused, Self::Inconsistency];

    /// The name in JSON, metrics and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VerificationFailed => "verification_failed",
            Self::NodeSpoofing => "node_spoofing",
            Self::ResolutionRefused => "resolution_refused",
            Self::Inconsistency => "inconsistency",
        }
    }

    /// What [`EventKind::from_str`] takes, as a person reads it.
    #[must_use]
    pub fn legal() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("legal: {}", Self::legal()))
    }
}

/// Something went wrong; what happens again within an hour is the same event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number: later events have higher ones.
    pub id: u64,
    /// What kind of trouble.
    pub kind: EventKind,
    /// What exactly: the name of a drop reason, of a refusal, or of an inconsistency.
    pub reason: String,
    /// The host whose engine tells it, or asked; absent when the service found it out itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The substrate prefix that packets came from, like `fd00:0:0:b::/64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The host that has this prefix, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_host: Option<String>,
    /// The virtual network that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnet: Option<u32>,
    /// The entity that owns this network, or what the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The interface that it is about, as `node/interface`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// What else it is about, as `kind/id`, like `rule/web-in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How often: packets, requests, or how often an inconsistency was found.
    pub count: u64,
    /// When it happened first, in seconds since 1970.
    pub first_seen: u64,
    /// When it happened last, in seconds since 1970.
    pub last_seen: u64,
    /// For people: an example, or what contradicts what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Which events to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// How many, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only those with a higher number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only those of this kind: `verification_failed`, `node_spoofing`, `resolution_refused` or `inconsistency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<EventKind>,
    /// Only those that this host's engine tells, or whose packets came from its prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those about this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_spelled_alike_everywhere() {
        for kind in EventKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("spoofing".parse::<EventKind>().unwrap_err().contains("node_spoofing"));
    }
}
