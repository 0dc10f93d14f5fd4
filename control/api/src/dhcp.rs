//! The JSON resources of DHCP.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const fn lease_seconds() -> u32 {
    3_600
}

/// What a network's nodes are told by DHCP: each its own address, mask, router, MTU and name, and this. The engines answer
/// in the gateway's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    /// Name servers, the best first; up to 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// The domain of names without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// For how long a node may keep what it was told, in seconds, 60 to 1000000000; 3600 if absent.
    #[serde(default = "lease_seconds")]
    pub lease_seconds: u32,
    /// Routes besides the one by the gateway; up to 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<DhcpRoute>,
    /// Where nodes load what they start from (PXE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<DhcpBoot>,
}

impl Default for Dhcp {
    fn default() -> Self {
        let lease_seconds = lease_seconds();
        Self { dns: Vec::new(), domain: None, lease_seconds, routes: Vec::new(), boot: None }
    }
}

/// A route that nodes are told (RFC 3442).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DhcpRoute {
    /// Where it leads, like `10.9.0.0/16`; /1 to /32.
    pub cidr: String,
    /// The router's address, like `10.0.0.7`.
    pub via: String,
}

/// Where nodes load what they start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DhcpBoot {
    /// The TFTP server's address.
    pub server: String,
    /// The file's name: 1 to 127 printable ASCII characters.
    pub file: String,
}
