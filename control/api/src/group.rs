//! The JSON resources of broadcast and multicast.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const fn yes() -> bool {
    true
}

fn confined() -> Vec<String> {
    vec!["224.0.0.0/24".to_owned()]
}

/// How a network carries what is sent to more than one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSettings {
    /// Whether broadcast is carried; true if absent.
    #[serde(default = "yes")]
    pub broadcast: bool,
    /// Groups that never leave a host, up to 16 ranges of 224.0.0.0/4; 224.0.0.0/24, the groups of a link, if absent.
    #[serde(default = "confined")]
    pub confined: Vec<String>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self { broadcast: yes(), confined: confined() }
    }
}

impl GroupSettings {
    /// Whether it is what an absent one means.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// That an interface is a member of a multicast group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Membership {
    /// The group's address, like `239.1.2.3`.
    pub group: String,
    /// The interface, like `web-1/eth0`.
    pub interface: String,
    /// The host that it is on.
    pub host: String,
    /// Whether provisioning says so.
    pub provisioned: bool,
    /// Whether its node does, by IGMP.
    pub joined: bool,
}

/// Which part of a list of memberships.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MembershipQuery {
    /// How many at most, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Those behind this one: what `next` of the page before says, like `239.1.2.3/web-1/eth0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
