//! The JSON resources of systems without an engine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The systems without an engine that a network's nodes exchange packets with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Externals {
    /// Where their IPv4 addresses are taken from, like `10.255.0.0/24`: in no subnet of the network, nor of a peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Up to 256 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<External>,
}

impl Externals {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A system without an engine, or some whose addresses follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// Its name, like an id.
    pub name: String,
    /// Its IPv6 address, like `2001:db8::5`, or a prefix of length 112 to 128, like `2001:db8::/120`.
    pub address: String,
    /// What nodes know it by, like `10.255.0.1`, or a prefix for as many addresses; taken from the pool if absent, and then its own for
    /// as long as it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<String>,
}
