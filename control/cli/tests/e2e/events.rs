//! What engines refuse is told to operators, on real parts.

use crate::fixture::Case;
use anyhow::{Context, Result, ensure};
use overlane_api::event::{Event, EventKind};
use overlane_api::resource::Page;
use overlane_cli::client::Client;
use overlane_cli::lab::attack::{forge_prefix, spoof_ipv4};
use overlane_cli::lab::handle::Lab;
use overlane_cli::lab::provision::{self, with_client};
use overlane_cli::lab::wait;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Shared("a_forged_sender_is_told_to_operators_with_the_prefix_that_it_came_from", forged),
    Case::Shared("a_node_that_claims_anothers_address_is_told_to_operators", spoofed),
];

/// An engine tells the service every five seconds at most.
const SOON: Duration = Duration::from_secs(20);
const PACKETS: u64 = 20;

fn events(lab: &Lab, kind: EventKind) -> Result<Vec<Event>> {
    let path = format!("/v1/events?kind={kind}&limit=1000");
    let page: Page<Event> = with_client(lab, async |client: Client| client.get(&path).await)?;
    Ok(page.items)
}

/// How many packets the events like this tell of so far.
fn told(lab: &Lab, kind: EventKind, is: &impl Fn(&Event) -> bool) -> Result<u64> {
    Ok(events(lab, kind)?.iter().filter(|event| is(event)).map(|event| event.count).sum())
}

/// Does something that is to be told, and requires that it is: no more, no less, and without a revision.
fn tells(
    lab: &Lab,
    kind: EventKind,
    is: impl Fn(&Event) -> bool,
    attack: impl FnOnce() -> Result<String>,
) -> Result<()> {
    let before = told(lab, kind, &is)?;
    let revision = provision::status(lab)?.revision;
    attack()?;
    let wanted = before + PACKETS;
    wait::until_ok("the event", SOON, || {
        let now = told(lab, kind, &is)?;
        ensure!(now >= wanted, "{now} of {wanted} packets are told: {:#?}", events(lab, kind)?);
        Ok(())
    })?;
    ensure!(told(lab, kind, &is)? == wanted, "more is told than there was: {:#?}", events(lab, kind)?);
    ensure!(provision::status(lab)?.revision == revision, "events are no change");
    Ok(())
}

fn forged(lab: &Lab) -> Result<()> {
    let (target, friend) = (lab.node("acme-1")?, lab.node("acme-3")?);
    let is = |event: &Event| {
        let about = (event.reason.as_str(), event.vnet, event.host.as_deref(), event.entity.as_deref());
        about == ("src_prefix_mismatch", Some(target.vnet), Some(&target.host), Some("acme"))
            && event.prefix.is_some()
            && event.from_host.is_none()
    };
    tells(lab, EventKind::VerificationFailed, is, || forge_prefix(lab, &friend, &target, PACKETS))
        .with_context(|| format!("in the name of {}", friend.id))
}

fn spoofed(lab: &Lab) -> Result<()> {
    let (attacker, pretended, to) = (lab.node("acme-1")?, lab.node("acme-2")?, lab.node("acme-3")?);
    let is = |event: &Event| {
        event.reason == "src_ipv4_spoofed" && event.interface == Some(attacker.interface_id())
    };
    tells(lab, EventKind::NodeSpoofing, is, || spoof_ipv4(lab, &attacker, pretended.ipv4, &to, PACKETS))
}
