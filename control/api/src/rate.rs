//! How much a node may send.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How much the node of an interface may send. What is more its engine drops, and counts as `rate_exceeded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Packets per second, 1 to 100000000; any number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<u32>,
    /// Bits per second, 8000 to 400000000000; any number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_second: Option<u64>,
}

impl RateLimit {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
