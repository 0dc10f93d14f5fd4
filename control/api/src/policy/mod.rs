//! The JSON resources of the HTTP API that say what may pass: rules and peerings.
//!
//! As in [`crate::resource`], what is written refuses unknown fields and carries numbers and text as they came.

mod matches;
mod question;
mod weekly;

pub use matches::{FieldError, Matches, has_ports, parse_protocol, protocol_name};
pub use question::{Decision, RuleTest, RuleVerdict};
pub use weekly::Weekly;

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is dropped, and its sender is told: TCP by a reset, the rest by ICMP.
    Reject,
}

/// What happens to a packet that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DefaultAction {
    /// It passes.
    #[default]
    Allow,
    /// It is dropped.
    Deny,
}

/// Which way a packet goes, as the interfaces see it whose traffic a rule judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From them.
    Egress,
    /// To them.
    Ingress,
}

/// Whom a rule is about: exactly one of `node`, `tag`, `network`, `entity` and `cidr`; as a rule's `peer` also none of
/// them, which is anybody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// This node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Every node with this tag, of the rule's entity, or of `entity` where that is given too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whoever is in this network; with `cidr` the network that the addresses are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Whoever is in a network of this entity; with `tag` whose tag it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Whoever has an address in this IPv4 network, in `network`, or in the judged interface's own where that is absent; or, of an IPv6
    /// network, the externals of `network` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
}

impl Selector {
    /// Whether it names nobody, and so means anybody.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

/// ICMP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IcmpMatch {
    /// The type, 0 to 255.
    #[serde(rename = "type")]
    pub kind: u32,
    /// The code, 0 to 255; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
}

/// Sizes of whole IPv4 packets, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeMatch {
    /// The smallest, 0 to 65535; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// The largest, 0 to 65535; 65535 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are the days")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Times at which a rule is in force, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On these days; every day if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// From this time on, like `08:00`.
    pub from: String,
    /// Until just before this time, like `18:00`. If it is not later than `from`, it is the next day's.
    pub until: String,
}

/// A rule, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// The entity whose rule it is. Cannot change.
    pub entity: String,
    /// For people; up to 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// 0 to 65535: of the rules that judge a packet the lowest that matches decides; among equals the first by id.
    pub priority: u32,
    /// Which way the packets go.
    pub direction: Direction,
    /// Whose traffic it judges: something of its entity.
    pub on: Selector,
    /// The other end; anybody if absent.
    #[serde(default, skip_serializing_if = "Selector::is_any")]
    pub peer: Selector,
    /// `tcp`, `udp`, `icmp`, `udplite`, `dccp`, `sctp`, `gre`, `esp` or a number, 0 to 255; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The destination's ports, like `443` or `8000-8099`; any if absent. For protocols with ports only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// The source's ports; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<String>,
    /// For `icmp`: which messages; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpMatch>,
    /// Packets of these sizes; all if absent. Then each packet of a flow is judged, and not only its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeMatch>,
    /// When it is in force; always if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What happens to what matches.
    pub action: Action,
    /// Whether replies to what it allows need a rule of their own.
    #[serde(default)]
    pub stateless: bool,
}

/// A rule: what may pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// What was written.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// The change that last touched it.
    pub revision: u64,
}

/// A peering, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeeringSpec {
    /// The two networks; their subnets do not overlap. Cannot change.
    pub networks: Vec<String>,
    /// What happens between them to what no rule decides: `allow` or `deny`; `allow` if absent.
    #[serde(default)]
    pub default_action: DefaultAction,
}

/// Two networks that may exchange packets through their gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peering {
    /// Its id.
    pub id: String,
    /// The two networks, in the order of their ids.
    pub networks: Vec<String>,
    /// What happens between them to what no rule decides.
    pub default_action: DefaultAction,
    /// The entities that want it.
    pub accepted: Vec<String>,
    /// Whether the owners of both networks do: only then packets pass.
    pub open: bool,
    /// The change that last touched it.
    pub revision: u64,
}

/// A word that is not one of those that are legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// The word, shortened.
    pub given: String,
    /// Those that are legal.
    pub legal: &'static str,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {:?}; legal: {}", self.given, self.legal)
    }
}

impl std::error::Error for UnknownWord {}

/// The names of an enum's values, as in JSON.
macro_rules! words {
    ($type:ident, $legal:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { given: text.chars().take(32).collect(), legal: $legal }),
                }
            }
        }
    };
}

words!(Action, "allow, deny, reject", Allow = "allow", Deny = "deny", Reject = "reject");
words!(DefaultAction, "allow, deny", Allow = "allow", Deny = "deny");
words!(Direction, "egress, ingress", Egress = "egress", Ingress = "ingress");
words!(
    Day,
    "mon, tue, wed, thu, fri, sat, sun",
    Mon = "mon",
    Tue = "tue",
    Wed = "wed",
    Thu = "thu",
    Fri = "fri",
    Sat = "sat",
    Sun = "sun"
);

impl fmt::Display for Selector {
    /// As `node web-1`, `tag web of acme`, `10.0.0.0/8 in red`, `anybody`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { node: Some(node), .. } => write!(f, "node {node}"),
            Self { tag: Some(tag), entity: Some(entity), .. } => write!(f, "tag {tag} of {entity}"),
            Self { tag: Some(tag), .. } => write!(f, "tag {tag}"),
            Self { cidr: Some(cidr), network: Some(network), .. } => write!(f, "{cidr} in {network}"),
            Self { cidr: Some(cidr), .. } => f.write_str(cidr),
            Self { network: Some(network), .. } => write!(f, "network {network}"),
            Self { entity: Some(entity), .. } => write!(f, "entity {entity}"),
            _ => f.write_str("anybody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_in_few_words() {
        let json = r#"{"entity":"acme","priority":10,"direction":"ingress","on":{"tag":"web"},"protocol":"tcp",
                       "ports":"443","action":"allow"}"#;
        let spec: RuleSpec = serde_json::from_str(json).unwrap();
        assert!(spec.peer.is_any() && !spec.stateless);
        assert_eq!(spec.on.to_string(), "tag web");
        assert_eq!(spec.peer.to_string(), "anybody");
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for action in [Action::Allow, Action::Deny, Action::Reject] {
            assert_eq!(action.name().parse(), Ok(action));
            assert_eq!(serde_json::to_string(&action).unwrap(), format!("{:?}", action.name()));
        }
        let error = "alow".parse::<Action>().unwrap_err();
        assert_eq!(error.to_string(), "unknown \"alow\"; legal: allow, deny, reject");
    }

    #[test]
    fn rules_refuse_unknown_fields_in_selectors_too() {
        let error = serde_json::from_str::<Selector>(r#"{"nodes":"a"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `nodes`"));
    }
}
