//! What a stage says of a packet that goes no further: why, and what its sender is to hear of it.

use crate::drop::DropReason;

/// A packet that goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What it is counted under.
    pub(crate) reason: DropReason,
    /// The ICMP error that its sender is owed; the packet must then be as it came in.
    pub(crate) answer: Option<Answer>,
}

/// An ICMP error in terms of neither IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TTL or hop limit would reach zero.
    TimeExceeded,
    /// The packet must not be cut and is larger than `mtu` bytes, of its own IP version.
    TooBig {
        /// The largest packet that fits, in bytes.
        mtu: u16,
    },
    /// An IPv4 source route with addresses left.
    SourceRouteFailed,
    /// A rule does not let it pass, and lets its sender know.
    Prohibited,
    /// The destination was there and is not any more.
    HostUnreachable,
    /// An IPv6 header field that cannot be accepted (code 0: erroneous header field).
    ParameterProblem {
        /// The field's place, in bytes from the beginning of the IPv6 header.
        pointer: u16,
    },
}

impl Refusal {
    /// The sender is told.
    pub(crate) const fn told(reason: DropReason, answer: Answer) -> Self {
        Self { reason, answer: Some(answer) }
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, answer: None }
    }
}
