//! Resolution on demand: what workers ask the control thread, what it answers, and the packets that wait meanwhile.
//!
//! In a vnet whose mappings are not all told, a look-up that finds nothing is a question. The packet waits, at its worker and
//! as it came in; the question goes to the control thread, which asks the provisioning service; and when the answer is there,
//! the packet is carried through all stages once more. A refusal is remembered for a while, at the worker that asked, so that
//! who insists costs nothing but a drop.
//!
//! Everything is bounded, for each interface by itself: the packets that wait, the questions that are open, the refusals that
//! are remembered, and how often anything is asked. Questions about senders on the substrate are limited for each of its
//! prefixes, too, so that no flood there becomes one of questions.

mod prefixes;
mod waiting;

pub(crate) use waiting::{Look, Unasked, Waiting};

use crate::id::PortId;
use crate::limit::Rate;
use crate::table::mapping::MappingKey;
use core::time::Duration;

/// Whose mapping is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// That of the destination of what a node sends.
    Destination,
    /// That of the source of what came from the substrate.
    Source,
}

/// A mapping that a worker needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// The port of the interface that sends to it, or is sent to from it.
    pub port: PortId,
    /// The address.
    pub key: MappingKey,
    /// Which of the two.
    pub side: Side,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The mapping is in the table.
    Known,
    /// Nobody has the address.
    Unknown,
    /// The interface may have nothing to do with it.
    Refused,
    /// Nobody could be asked, or nobody answered.
    Unanswered,
}

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// What became of it.
    pub outcome: Outcome,
    /// When that was so, as [`crate::snapshot::HostSnapshot::resolve_epoch`] counts: a refusal of another epoch is none.
    pub epoch: u32,
}

/// How much may be asked, and for how long what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolveLimits {
    /// For how long a packet waits for an answer.
    pub hold: Duration,
    /// For how long a refusal is remembered.
    pub refusal: Duration,
    /// How often each interface may ask, about destinations and about sources each.
    pub interface: Rate,
    /// How often questions may be caused by each prefix of the substrate.
    pub prefix: Rate,
    /// Whether the sender of what goes by a gateway is told that it is refused (ICMP "administratively prohibited").
    pub tell_refused: bool,
}

impl Default for ResolveLimits {
    /// Two seconds and ten; 100 questions a second from an interface or a prefix, which is as many as a busy node has new
    /// partners, and a thousandth of what scanning would make of them.
    fn default() -> Self {
        let rate = Rate { rate: 100, burst: 64 };
        let (hold, refusal) = (Duration::from_secs(2), Duration::from_secs(10));
        Self { hold, refusal, interface: rate, prefix: rate, tell_refused: false }
    }
}
