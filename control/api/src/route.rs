//! The JSON resources of networks behind routers.

use crate::resource::InterfaceState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Most networks behind an interface.
pub const MAX_ROUTES: usize = 64;
/// Most networks that an interface may send from besides.
pub const MAX_TRANSIT: usize = 16;

/// That a network is behind an interface, or that the interface may send from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The network, like `10.9.0.0/16`.
    pub cidr: String,
    /// The interface, like `edge-1/eth0`.
    pub interface: String,
    /// The host that it is on.
    pub host: String,
    /// Its address: the next hop.
    pub via: String,
    /// Whether it may only send from the network, and is no next hop for it.
    pub transit: bool,
    /// How far the interface is.
    pub state: InterfaceState,
    /// Whether its node does not answer ARP, so that others take what is for the network, if others are there.
    pub silent: bool,
}

/// Which part of a list of routes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RouteQuery {
    /// How many at most, 1 to 1000; 100 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Those behind this one: what `next` of the page before says, like `10.9.0.0/16/route/edge-1/eth0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
