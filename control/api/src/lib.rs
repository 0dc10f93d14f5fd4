//! What engine, service and CLI share: the sync protocol's generated types, the JSON resources of the HTTP API, the one
//! way all of them set up mutual TLS, and the one way configuration files are read.

pub mod access;
pub mod config;
pub mod dhcp;
pub mod event;
pub mod external;
pub mod group;
pub mod pki;
pub mod policy;
mod rate;
pub mod resource;
pub mod route;
pub mod tls;
pub mod trace;

/// The sync protocol between an engine and the service, generated from `proto/overlane/v1/sync.proto`.
pub mod sync {
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    mod generated {
        tonic::include_proto!("overlane.v1");
    }
    pub use generated::*;

    /// The version of the protocol that this build speaks.
    pub const PROTOCOL_VERSION: u32 = 3;

    /// Where an engine says which host it is, to a service without TLS; to any other its certificate does, and this is not looked
    /// at.
    pub const HOST_METADATA: &str = "overlane-host";

    /// The version to speak with a peer of `version`: the lower of both, if they are at most one apart.
    #[must_use]
    pub const fn negotiate(version: u32) -> Option<u32> {
        if version == 0 || version.abs_diff(PROTOCOL_VERSION) > 1 {
            return None;
        }
        Some(if version < PROTOCOL_VERSION { version } else { PROTOCOL_VERSION })
    }
}
