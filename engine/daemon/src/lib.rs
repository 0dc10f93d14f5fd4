//! The engine's daemon: workers that carry packets, and the control thread that keeps them in step with
//! provisioning, the kernel and the substrate.

pub mod adapter;
pub mod config;
pub mod events;
pub mod kernel;
pub mod provisioning;
pub mod reconcile;
pub mod run;
pub mod runtime;
pub mod telemetry;
pub mod trace;
pub mod translate;
pub mod uplink;
