//! What an engine's `POST /trace` takes and answers.

use serde::{Deserialize, Serialize};

/// A packet whose way is to be told: by its fields, or as a whole frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// The interface of this host that sends it, like `web/eth0`; absent: it comes in by the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The frame, from the Ethernet header on, in hexadecimal digits; up to 9,216 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Or what it is to be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<TracePacket>,
}

/// What a packet is to be like. From a node its addresses are IPv4's, from the substrate IPv6's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracePacket {
    /// Its source; the interface's first address if absent, and needed from the substrate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its destination.
    pub to: String,
    /// `tcp` (a SYN), `udp` or `icmp` (an echo request).
    pub protocol: String,
    /// The destination port, of TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The source port, of TCP and UDP; 49152 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// TTL or hop limit; 64 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Bytes behind the transport header, up to 8,900; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<u16>,
    /// Whether an IPv4 packet must not be cut.
    #[serde(default)]
    pub dont_fragment: bool,
}

/// What would become of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceAnswer {
    /// `sent`, `answered` (ARP), `punted` (to the engine itself), `awaits_fragment`, `awaits_mapping` or `dropped`.
    pub fate: String,
    /// Why it is dropped, as metrics name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The revision that the engine forwards by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The decisions, in their order.
    pub steps: Vec<TraceStep>,
    /// The frame that comes in.
    pub frame: TraceFrame,
    /// The frames that leave: the packet, or what its sender is told.
    pub frames: Vec<TraceFrame>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// The part of the way, like `source`.
    pub stage: String,
    /// What was decided.
    pub decision: String,
    /// By what, like `rule web-in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The change that last touched that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFrame {
    /// The interface or uplink that it comes in by, or leaves by.
    pub port: String,
    /// Its headers, one in each.
    pub headers: Vec<String>,
    /// All of it, in hexadecimal digits.
    pub hex: String,
}
