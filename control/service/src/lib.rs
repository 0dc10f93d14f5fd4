//! The provisioning service: who is where, and who may talk to whom.
//!
//! [`service::Service`] is the whole of it; the parts below it can be used one by one in tests.

pub mod access;
pub mod api;
pub mod backup;
pub mod config;
pub mod credentials;
pub mod error;
pub mod events;
pub mod housekeeping;
pub mod ledger;
pub mod mover;
pub mod remote;
pub mod service;
pub mod store;
pub mod sync;
pub mod telemetry;
