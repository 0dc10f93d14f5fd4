//! Who may talk to whom: rules, and what they say of a packet.
//!
//! An interface's rules are two lists, for what it sends and for what it gets; the first rule that matches decides, and
//! where none does, what its network says for that case. A packet between two interfaces of one host is judged by the
//! egress rules of the one and the ingress rules of the other; of a packet that crosses the substrate each host judges its
//! own side.

mod bits;
mod intervals;
mod judge;
mod peers;
mod rule;
mod set;

pub use judge::{End, Judgement, Passage, Policy, default_between, judge};
pub use peers::{MAX_TAGS, Peers};
pub use rule::{Action, Facts, Peer, Rule, TagId, first_match, has_ports};
pub use set::{RuleSet, TooComplex};
