//! Where the desired state comes from: the service's stream, a static file, or what was kept on disk.
//!
//! A source sends [`Event`]s through a bounded channel to the reconciler, which owns the one [`desired::DesiredState`]
//! and tells back what it has applied and how the interfaces are.

pub mod desired;
pub mod disk;
mod external_wire;
pub mod file;
mod group_wire;
pub mod model;
pub mod resolve;
mod route_wire;
pub mod rule;
mod rule_wire;
pub mod sync;
pub mod wire;

use core::net::Ipv4Addr;
use desired::DesiredState;
use hashbrown::HashMap;
use model::{Change, Host, Revision};
use overlane_dataplane::address::Layout;
use resolve::{Request, Resolved};
use std::sync::Arc;

/// What a source tells the reconciler.
#[derive(Debug)]
pub enum Event {
    /// The service is reached, and says which host this is; or it is not.
    Connection(Connection),
    /// A complete state, to be applied as a diff.
    Snapshot(Box<DesiredState>),
    /// What changed up to and including a revision.
    Delta {
        /// The revision.
        revision: Revision,
        /// The changes, in their order.
        changes: Vec<Change>,
    },
    /// What became of a request for one mapping.
    Resolved(Request, Resolved),
}

/// State of the connection to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// In contact.
    Up {
        /// This engine's host, as the service says.
        host: Host,
        /// Version of the service, for people.
        service_version: String,
    },
    /// Out of contact; why.
    Down(String),
}

/// How far the data plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// The data plane forwards by this revision and everything before it.
    pub revision: Option<Revision>,
    /// The layout of that state.
    pub layout: Option<Layout>,
}

/// How this host's interfaces are.
pub type Reports = HashMap<Arc<str>, Report>;

/// How one interface is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Its state.
    pub state: InterfaceState,
    /// Why, when it is not live; for people.
    pub detail: String,
    /// The groups that its node wants to hear, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Ipv4Addr>,
    /// It is a router, and does not answer.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub silent: bool,
}

/// State of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// Provisioned; its device has not appeared, or cannot be attached.
    Defined,
    /// Its device is attached; link down.
    Attached,
    /// Forwarding.
    Live,
    /// Its device is gone after it was attached.
    Gone,
}
