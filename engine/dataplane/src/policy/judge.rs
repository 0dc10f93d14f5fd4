//! What is said of a packet by all that has a say in it.

use super::rule::{Action, Facts, Rule};
use super::set::RuleSet;
use crate::drop::DropReason;
use crate::id::VnetId;
use crate::snapshot::{HostSnapshot, Interface};
use crate::wire::icmp::v4;
use core::net::Ipv4Addr;
use std::sync::Arc;

/// The rules of an interface.
#[derive(Debug, Clone)]
pub struct Policy {
    /// For what it sends.
    pub egress: Arc<RuleSet>,
    /// For what it gets.
    pub ingress: Arc<RuleSet>,
}

impl Policy {
    /// Whether what is said of a flow's first packet holds for all of them.
    #[must_use]
    pub fn holds_for_flows(&self) -> bool {
        !self.egress.looks_at_size() && !self.ingress.looks_at_size()
    }
}

/// One end of a packet's way.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// Its vnet.
    pub vnet: VnetId,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its interface, if it is on this host: otherwise its rules are another host's to judge by.
    pub interface: Option<&'a Interface>,
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub struct Passage<'a> {
    /// Where it comes from.
    pub from: End<'a>,
    /// Where it goes.
    pub to: End<'a>,
    /// IPv4 protocol number.
    pub protocol: u8,
    /// Source and destination port, of a protocol that has them.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP, in IPv4's numbers.
    pub icmp: Option<(u8, u8)>,
    /// Bytes of the whole IPv4 packet.
    pub size: u16,
}

/// What is said of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Judgement<'a> {
    /// Whether it may pass, and why not.
    pub verdict: Result<(), DropReason>,
    /// Whether its sender is to be told.
    pub reject: bool,
    /// Whether replies need a judgement of their own.
    pub stateless: bool,
    /// The rule of the sender that matched, if the sender is on this host and one did.
    pub egress: Option<&'a Rule>,
    /// The rule of the receiver that matched, if the receiver is on this host and one did.
    pub ingress: Option<&'a Rule>,
}

impl<'a> Passage<'a> {
    /// The same way back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        let ports = self.ports.map(|(source, destination)| (destination, source));
        let icmp = self.icmp.map(|(kind, code)| match kind {
            v4::ECHO_REQUEST => (v4::ECHO_REPLY, code),
            v4::ECHO_REPLY => (v4::ECHO_REQUEST, code),
            other => (other, code),
        });
        Self { from: self.to, to: self.from, ports, icmp, ..*self }
    }

    fn facts(&self, peer: &End<'_>) -> Facts {
        let Self { protocol, ports, icmp, size, .. } = *self;
        Facts { peer: (peer.vnet, peer.address), protocol, ports, icmp, size }
    }
}

/// What holds between two vnets where no rule decides; `None`: they have nothing to do with each other.
#[must_use]
pub fn default_between(from: &End<'_>, to: &End<'_>) -> Option<Action> {
    let own = from.interface.or(to.interface)?;
    let vnet = &own.vnet;
    if from.vnet == to.vnet {
        return Some(vnet.default_action);
    }
    let other = if from.vnet == vnet.id { to.vnet } else { from.vnet };
    vnet.peering(other).map(|peering| peering.default_action)
}

/// What the rules of both ends say, as far as they are this host's to judge by.
#[must_use]
pub fn judge<'a>(snapshot: &HostSnapshot, passage: &Passage<'a>) -> Judgement<'a> {
    let Passage { from, to, .. } = passage;
    let mut judgement =
        Judgement { verdict: Ok(()), reject: false, stateless: false, egress: None, ingress: None };
    let Some(default) = default_between(from, to) else {
        judgement.verdict = Err(DropReason::VnetMismatch);
        return judgement;
    };
    let decide = |own: &End<'a>, peer: &End<'a>, list: fn(&Policy) -> &RuleSet| {
        let policy = own.interface?.policy.as_deref()?;
        list(policy).first_match(&passage.facts(peer), snapshot.peers.tags((peer.vnet, peer.address)))
    };
    judgement.egress = decide(from, to, |policy| &policy.egress);
    judgement.ingress = decide(to, from, |policy| &policy.ingress);
    judgement.stateless =
        [judgement.egress, judgement.ingress].into_iter().flatten().any(|rule| rule.stateless);
    let sides = [
        (from.interface.is_some(), judgement.egress, DropReason::EgressDenied),
        (to.interface.is_some(), judgement.ingress, DropReason::IngressDenied),
    ];
    for (ours, rule, reason) in sides {
        let (action, reason) = match rule {
            _ if !ours => continue,
            Some(rule) => (rule.action, reason),
            None => (default, DropReason::DefaultDenied),
        };
        if action != Action::Allow {
            judgement.verdict = Err(reason);
            judgement.reject = action == Action::Reject;
            break;
        }
    }
    judgement
}
