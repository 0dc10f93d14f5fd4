//! Moves: a node goes to another host without its peers' noticing.
//!
//! | phase | packets go to | also accepted from | goes on when |
//! | --- | --- | --- | --- |
//! | prepare | old | new | engines have acknowledged (or a bounded wait), and what was live is live at the new host |
//! | switch | new | old | engines have acknowledged (or a bounded wait) |
//! | retire | new | nothing | engines have acknowledged (or a bounded wait): the move is done |
//!
//! A move whose device never appears at the new host stays in *prepare*: the node goes on where it was, and the move
//! can be taken back by moving it to the host that it is on.

use super::acting::Acting;
use super::record::{InterfaceRecord, MoveRecord, Next, NodeRecord, Placement, load};
use super::transaction::Transaction;
use super::{Ledger, check, host, node};
use crate::error::{Error, Result};
use crate::store::{Step, Table, View};
use overlane_api::resource::{
    InterfaceState, Move, MoveInterface, MoveInterfaceSpec, MovePhase, MoveRequest, Node,
};
use std::collections::BTreeSet;
use std::time::SystemTime;

/// What is done next with a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveStep {
    /// From prepare to switch, from switch to retire, from retire to the end.
    Advance,
    /// Back to where it was; in prepare only.
    Cancel,
}

/// A move under way, with what is needed to tell whether it can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveMove {
    /// Which node moves.
    pub node: String,
    /// How far it is.
    pub phase: MovePhase,
    /// The change that began the phase.
    pub phase_revision: u64,
    /// The host it goes to.
    pub to: String,
    /// Seconds since 1970.
    pub since: u64,
    /// Its virtual networks: engines of all hosts with a part in them have to acknowledge.
    pub vnets: Vec<u32>,
    /// Interfaces that were live and are not yet at the new host, and what is known of them there.
    pub not_live: Vec<String>,
}

pub(super) fn resource(moving: &MoveRecord, interfaces: &[InterfaceRecord]) -> Move {
    let there = |interface: &InterfaceRecord| {
        let place = interface.next.as_ref().map_or(&interface.home, |next| &next.place);
        MoveInterface {
            name: interface.name.clone(),
            slot: u32::from(place.slot),
            attachment: place.attachment.clone(),
            state: place.state,
            detail: place.detail.clone(),
        }
    };
    Move {
        from: moving.from.clone(),
        to: moving.to.clone(),
        phase: moving.phase,
        since: moving.since,
        waiting_for: String::new(),
        stuck: false,
        interfaces: interfaces.iter().map(there).collect(),
    }
}

/// The moves under way, at most `limit`, behind `after`.
pub(crate) fn active(view: &dyn View, after: &str, limit: usize) -> Result<Vec<ActiveMove>> {
    let mut ids = Vec::new();
    let from = if after.is_empty() { Vec::new() } else { super::record::pair(after, &[]) };
    view.scan(Table::Moves, &[], &from, &mut |key, _| {
        ids.push(String::from_utf8_lossy(key).into_owned());
        if ids.len() < limit { Step::Continue(()) } else { Step::Break(()) }
    })?;
    let mut moves = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(record) = load::<NodeRecord>(view, Table::Nodes, &id)? else { continue };
        let Some(moving) = &record.moving else { continue };
        let interfaces = node::interfaces(view, &id, &record)?;
        let not_live = interfaces.iter().filter_map(|interface| {
            let next = interface.next.as_ref()?;
            let waits = next.was_live && next.place.state != InterfaceState::Live;
            waits.then(|| {
                let place = &next.place;
                let mut text = format!("{} is {} on {}", interface.id(), place.state, place.host);
                if !place.detail.is_empty() {
                    text = format!("{text} ({})", place.detail);
                }
                text
            })
        });
        let vnets: BTreeSet<u32> = interfaces.iter().map(|interface| interface.vnet).collect();
        moves.push(ActiveMove {
            phase: moving.phase,
            phase_revision: moving.phase_revision,
            to: moving.to.clone(),
            since: moving.since,
            vnets: vnets.into_iter().collect(),
            not_live: not_live.collect(),
            node: id,
        });
    }
    Ok(moves)
}

/// The hosts with a part in a vnet.
pub(crate) fn hosts_of(view: &dyn View, vnet: u32) -> Result<Vec<String>> {
    let mut hosts = Vec::new();
    view.scan(Table::Presence, &vnet.to_be_bytes(), &[], &mut |key, _| {
        hosts.push(String::from_utf8_lossy(key.get(4..).unwrap_or_default()).into_owned());
        Step::Continue(())
    })?;
    Ok(hosts)
}

fn named<'a>(request: &'a MoveRequest, record: &NodeRecord) -> Result<Vec<(usize, &'a MoveInterfaceSpec)>> {
    let mut named: Vec<(usize, &MoveInterfaceSpec)> = Vec::new();
    for (place, spec) in request.interfaces.iter().enumerate() {
        let checked = || {
            if !record.interfaces.contains(&spec.name) {
                return Err(Error::invalid(
                    "name",
                    format!("the node has no interface {:?}", spec.name.chars().take(64).collect::<String>()),
                    record.interfaces.join(", "),
                ));
            }
            if named.iter().any(|(_, other)| other.name == spec.name) {
                return Err(Error::invalid(
                    "name",
                    format!("{} is given twice", spec.name),
                    "each name once",
                ));
            }
            spec.slot.map(check::slot).transpose()?;
            spec.attachment.as_ref().map(check::attachment).transpose().map(|_| ())
        };
        checked().map_err(|error| error.within(&format!("interfaces[{place}]")))?;
        named.push((place, spec));
    }
    Ok(named)
}

/// Where the interfaces go.
fn places(
    txn: &Transaction<'_>,
    before: &[InterfaceRecord],
    request: &MoveRequest,
    named: &[(usize, &MoveInterfaceSpec)],
) -> Result<Vec<InterfaceRecord>> {
    let of = |name: &str| named.iter().find(|(_, spec)| spec.name == name).map(|(_, spec)| *spec);
    let mut taken: BTreeSet<u8> = txn.taken_slots(&request.host)?.into_iter().collect();
    taken.extend(named.iter().filter_map(|(_, spec)| spec.slot).filter_map(|slot| u8::try_from(slot).ok()));
    let mut after = Vec::with_capacity(before.len());
    for interface in before {
        let spec = of(&interface.name);
        let slot = match spec.and_then(|spec| spec.slot) {
            Some(slot) => check::slot(slot)?,
            None if taken.insert(interface.home.slot) => interface.home.slot,
            None => node::lowest_free(&mut taken, &request.host)?,
        };
        let attachment = spec.and_then(|spec| spec.attachment.clone());
        let place = Placement {
            host: request.host.clone(),
            slot,
            attachment: attachment.unwrap_or_else(|| interface.home.attachment.clone()),
            state: InterfaceState::Defined,
            detail: String::new(),
            joined: Vec::new(),
            silent: false,
        };
        let was_live = interface.home.state == InterfaceState::Live;
        after.push(InterfaceRecord {
            next: Some(Next { place, switched: false, was_live }),
            ..interface.clone()
        });
    }
    Ok(after)
}

impl Acting<'_> {
    /// Begins a move; repeats are confirmed; a move to where the node is takes back one that is in prepare.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the field.
    pub fn move_node(&self, id: &str, request: &MoveRequest) -> Result<Node> {
        check::id("host", &request.host)?;
        self.write(|txn| {
            let record: NodeRecord = txn.load(Table::Nodes, id)?.ok_or_else(|| Error::absent("node", id))?;
            txn.authorise_move(id, &record.entity)?;
            txn.summarise(None, Some(&serde_json::json!({ "from": record.host, "to": request.host })));
            let named = named(request, &record)?;
            let before = node::interfaces(txn.view(), id, &record)?;
            match &record.moving {
                Some(moving) if moving.to == request.host => {
                    return Ok(node::resource(id, &record, &before));
                }
                Some(moving) if moving.from == request.host && moving.phase == MovePhase::Prepare => {
                    return step(txn, id, record, before, MoveStep::Cancel);
                }
                Some(moving) => {
                    let mut legal = moving.to.clone();
                    if moving.phase == MovePhase::Prepare {
                        legal = format!("{legal}, or {} to take the move back", moving.from);
                    }
                    let message = format!("node {id} is moving to {}", moving.to);
                    return Err(Error::conflict("host", message, legal));
                }
                None if record.host == request.host => return Ok(node::resource(id, &record, &before)),
                None => {}
            }
            host::referred(txn, "host", &request.host)?;
            let mut after = places(txn, &before, request, &named)?;
            // The refusal of a place names it as the request did, not as the node does.
            node::replace(txn, &before, &mut after).map_err(|error| in_request(error, &before, &named))?;
            let since =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            let moving = MoveRecord {
                from: record.host.clone(),
                to: request.host.clone(),
                phase: MovePhase::Prepare,
                since,
                phase_revision: txn.revision(),
            };
            let changed = NodeRecord { moving: Some(moving), revision: txn.revision(), ..record.clone() };
            txn.save(Table::Nodes, id, &changed)?;
            txn.put(Table::Moves, id.as_bytes(), &[])?;
            node::settle_uses(txn, id, (Some(&record), &before), (Some(&changed), &after))?;
            Ok(node::resource(id, &changed, &after))
        })
    }
}

impl Ledger {
    /// Takes a move a step on, if it is still in the phase that began with `phase_revision`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn step_move(&self, id: &str, phase_revision: u64, how: MoveStep) -> Result<()> {
        self.write(|txn| {
            let Some(record) = txn.load::<NodeRecord>(Table::Nodes, id)? else { return Ok(()) };
            if record.moving.as_ref().is_none_or(|moving| moving.phase_revision != phase_revision) {
                return Ok(());
            }
            let before = node::interfaces(txn.view(), id, &record)?;
            step(txn, id, record, before, how).map(|_| ())
        })
    }
}

fn in_request(error: Error, before: &[InterfaceRecord], named: &[(usize, &MoveInterfaceSpec)]) -> Error {
    let Error::Refused(mut detail) = error else { return error };
    if let Some(field) = &detail.field
        && let Some((place, rest)) = field.strip_prefix("interfaces[").and_then(|rest| rest.split_once(']'))
        && let Some(interface) = place.parse::<usize>().ok().and_then(|place| before.get(place))
    {
        let place = named.iter().find(|(_, spec)| spec.name == interface.name).map(|(place, _)| *place);
        detail.field = Some(match place {
            Some(place) => format!("interfaces[{place}]{rest}"),
            None => format!("interfaces ({}){rest}", interface.name),
        });
    }
    Error::Refused(detail)
}

/// One step of a move.
fn step(
    txn: &mut Transaction<'_>,
    id: &str,
    record: NodeRecord,
    before: Vec<InterfaceRecord>,
    how: MoveStep,
) -> Result<Node> {
    let revision = txn.revision();
    let Some(moving) = &record.moving else { return Ok(node::resource(id, &record, &before)) };
    let mut after = before.clone();
    let mut changed = NodeRecord { revision, ..record.clone() };
    let enter = |phase| Some(MoveRecord { phase, phase_revision: revision, ..moving.clone() });
    match (how, moving.phase) {
        (MoveStep::Cancel, MovePhase::Prepare) => {
            for interface in &mut after {
                interface.next = None;
            }
            changed.moving = None;
        }
        (MoveStep::Cancel, _) => return Ok(node::resource(id, &record, &before)),
        (MoveStep::Advance, MovePhase::Prepare) => {
            for next in after.iter_mut().filter_map(|interface| interface.next.as_mut()) {
                next.switched = true;
            }
            changed.moving = enter(MovePhase::Switch);
        }
        (MoveStep::Advance, MovePhase::Switch) => {
            for interface in &mut after {
                if let Some(next) = interface.next.take() {
                    interface.home = next.place;
                }
            }
            changed.host = moving.to.clone();
            changed.moving = enter(MovePhase::Retire);
        }
        (MoveStep::Advance, MovePhase::Retire) => changed.moving = None,
    }
    node::replace(txn, &before, &mut after)?;
    if changed.moving.is_none() {
        txn.delete(Table::Moves, id.as_bytes())?;
    }
    txn.save(Table::Nodes, id, &changed)?;
    node::settle_uses(txn, id, (Some(&record), &before), (Some(&changed), &after))?;
    Ok(node::resource(id, &changed, &after))
}
