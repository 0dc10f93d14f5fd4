//! One change to the ledger: records, indexes, presence and log together.

use super::audit::Draft;
use super::record::{
    AuditRecord, InterfaceRecord, Scope, Touch, decode, encode, in_vnet, load_id, meta_number, pair,
    revision, try_scan, vnet_key,
};
use super::{Ledger, Result, Settings, audit, resolved, token};
use crate::access::{Caller, Kind};
use crate::error::Error;
use crate::store::{Step, Table, Update, View};
use overlane_api::access::AuditEntry;
use overlane_dataplane::address::Layout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// A change while it is being made. Dropped without [`Transaction::finish`], nothing has happened.
pub(crate) struct Transaction<'a> {
    ledger: &'a Ledger,
    update: Box<dyn Update + 'a>,
    revision: u64,
    changed: bool,
    touches: Vec<Touch>,
    /// How many placements of a vnet a host gains or loses: what comes and goes within one change is no news.
    presence: BTreeMap<(u32, String), i64>,
    /// Who makes it; `None`: the service itself.
    caller: Option<&'a Caller>,
    /// What the audit log will say.
    draft: Option<Draft>,
    /// How many addresses a vnet gains or loses.
    sizes: BTreeMap<u32, i64>,
}

/// How many old log entries one change clears away: more than one, so that a lowered limit is reached in the end.
const COMPACT_AT_ONCE: u64 = 64;
/// The same for the audit log.
const PRUNE_AT_ONCE: u64 = 64;

impl<'a> Transaction<'a> {
    pub(super) fn begin(ledger: &'a Ledger, caller: Option<&'a Caller>) -> Result<Self> {
        let update = ledger.store.update()?;
        let revision = revision(&*update)? + 1;
        let (presence, sizes) = (BTreeMap::new(), BTreeMap::new());
        let (changed, touches, draft) = (false, Vec::new(), None);
        Ok(Self { ledger, update, revision, changed, touches, presence, sizes, caller, draft })
    }

    /// Who makes this change; `None`: the service itself.
    pub(super) const fn caller(&self) -> Option<&'a Caller> {
        self.caller
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.ledger.settings
    }

    /// Notes what the audit log will say. The first note counts: what else a change brings about is not somebody's doing.
    pub(super) fn note(&mut self, verb: &str, kind: Kind, id: &str, entity: Option<&str>) {
        self.draft.get_or_insert_with(|| Draft {
            verb: verb.to_owned(),
            kind: kind.name(),
            id: id.to_owned(),
            entity: entity.map(str::to_owned),
            summary: String::new(),
        });
    }

    /// What is different now, for the audit log.
    pub(super) fn summarise<T: Serialize>(&mut self, before: Option<&T>, after: Option<&T>) {
        if let Some(draft) = &mut self.draft {
            draft.summary = audit::difference(before, after);
        }
    }

    /// The revision that this change makes.
    pub(super) const fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) const fn layout(&self) -> Layout {
        self.ledger.settings.layout
    }

    pub(super) fn view(&self) -> &dyn View {
        &*self.update
    }

    pub(super) fn load<T: DeserializeOwned>(&self, table: Table, id: &str) -> Result<Option<T>> {
        super::record::load(&*self.update, table, id)
    }

    pub(super) fn save<T: Serialize>(&mut self, table: Table, id: &str, record: &T) -> Result<()> {
        let value = encode(table, id.as_bytes(), record)?;
        self.put(table, id.as_bytes(), &value)
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.changed = true;
        Ok(self.update.put(table, key, value)?)
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<()> {
        self.changed = true;
        Ok(self.update.delete(table, key)?)
    }

    pub(super) fn touch(&mut self, touch: Touch) {
        self.touches.push(touch);
    }

    /// Notes that `user` needs `used` (both `kind/id`).
    pub(super) fn add_use(&mut self, used: &str, user: &str) -> Result<()> {
        self.put(Table::Uses, &pair(used, user.as_bytes()), &[])
    }

    pub(super) fn drop_use(&mut self, used: &str, user: &str) -> Result<()> {
        self.delete(Table::Uses, &pair(used, user.as_bytes()))
    }

    /// The first few that need `used`.
    pub(super) fn users(&self, used: &str) -> Result<Vec<String>> {
        const SHOWN: usize = 3;
        let prefix = pair(used, &[]);
        let mut users = Vec::new();
        self.update.scan(Table::Uses, &prefix, &[], &mut |key, _| {
            if users.len() == SHOWN {
                users.push("others".to_owned());
                return Step::Break(());
            }
            let user = key.get(prefix.len()..).unwrap_or_default();
            users.push(String::from_utf8_lossy(user).into_owned());
            Step::Continue(())
        })?;
        let in_words = |user: &String| match user.as_str() {
            "others" => Ok(user.clone()),
            user => self.named(user, &user.replacen('/', " ", 1)),
        };
        users.iter().map(in_words).collect()
    }

    /// The slots of a host that are taken.
    pub(super) fn taken_slots(&self, host: &str) -> Result<Vec<u8>> {
        let prefix = pair(host, &[]);
        let mut slots = Vec::new();
        self.update.scan(Table::Slots, &prefix, &[], &mut |key, _| {
            slots.extend(key.last());
            Step::Continue(())
        })?;
        Ok(slots)
    }

    /// How many interfaces the host takes: by its record, and by what its engine says.
    fn capacity(&self, host: &str) -> Result<usize> {
        let record: Option<super::HostRecord> = self.load(Table::Hosts, host)?;
        let provisioned = record.map_or(0, |record| record.capacity);
        let engine = self.ledger.engine_capacity.read().get(host).copied();
        Ok(engine.map_or(provisioned, |engine| engine.min(provisioned)) as usize)
    }

    /// Takes an interface out of all indexes. Its record stays.
    pub(super) fn unindex(&mut self, interface: &InterfaceRecord) -> Result<()> {
        for place in interface.places() {
            self.delete(Table::Slots, &pair(&place.host, &[place.slot]))?;
            self.delete(Table::Devices, &pair(&place.host, place.attachment.device.as_bytes()))?;
            self.count_presence(interface.vnet, &place.host, -1);
        }
        self.count_addresses(interface, -1);
        for address in &interface.addresses {
            self.delete(Table::Addresses, &in_vnet(interface.vnet, &address.octets()))?;
        }
        self.delete(Table::Macs, &in_vnet(interface.vnet, interface.mac.as_bytes()))
    }

    /// Puts an interface into all indexes. The refusal of what is taken names the field within the interface.
    pub(super) fn index(&mut self, interface: &InterfaceRecord) -> Result<()> {
        let id = interface.id();
        for place in interface.places() {
            let host = &place.host;
            let slot = pair(host, &[place.slot]);
            if let Some(other) = load_id(&*self.update, Table::Slots, &slot)? {
                return Err(Error::conflict(
                    "slot",
                    format!(
                        "slot {} of host {host} belongs to {}",
                        place.slot,
                        self.named_interface(&other)?
                    ),
                    "a slot that is free on the host, or none to be given one",
                ));
            }
            let (taken, capacity) = (self.taken_slots(host)?.len(), self.capacity(host)?);
            if taken >= capacity {
                let message = match self.confined_to() {
                    Some(_) => format!("host {host} has no room"),
                    None => format!("host {host} takes {capacity} interfaces and has {taken}"),
                };
                return Err(Error::exhausted("host", message, "a host with room"));
            }
            self.put(Table::Slots, &slot, id.as_bytes())?;
            let device = &place.attachment.device;
            self.claim(Table::Devices, &pair(host, device.as_bytes()), &id, || {
                ("attachment.device", format!("device {device} of host {host}"))
            })?;
            self.count_presence(interface.vnet, host, 1);
        }
        self.count_addresses(interface, 1);
        for (place, address) in interface.addresses.iter().enumerate() {
            self.claim(Table::Addresses, &in_vnet(interface.vnet, &address.octets()), &id, || {
                ("addresses", format!("{address} in network {}", interface.network))
            })
            .map_err(|error| renamed(error, "addresses", &format!("addresses[{place}]")))?;
        }
        self.claim(Table::Macs, &in_vnet(interface.vnet, interface.mac.as_bytes()), &id, || {
            ("mac", format!("{} in network {}", interface.mac, interface.network))
        })
    }

    /// Puts a unique key, unless somebody has it.
    fn claim(
        &mut self,
        table: Table,
        key: &[u8],
        id: &str,
        what: impl FnOnce() -> (&'static str, String),
    ) -> Result<()> {
        if let Some(other) = load_id(&*self.update, table, key)? {
            let (field, what) = what();
            let owner = self.named_interface(&other)?;
            return Err(Error::conflict(field, format!("{what} belongs to {owner}"), "one that is free"));
        }
        self.put(table, key, id.as_bytes())
    }

    /// An interface (`node/name`) as the caller may hear of it.
    fn named_interface(&self, id: &str) -> Result<String> {
        let node = id.split_once('/').map_or(id, |(node, _)| node);
        self.named(&format!("node/{node}"), id)
    }

    fn count_presence(&mut self, vnet: u32, host: &str, by: i64) {
        *self.presence.entry((vnet, host.to_owned())).or_default() += by;
    }

    fn count_addresses(&mut self, interface: &InterfaceRecord, sign: i64) {
        let addresses = i64::try_from(interface.addresses.len()).unwrap_or(i64::MAX);
        *self.sizes.entry(interface.vnet).or_default() += sign * addresses;
    }

    /// How many addresses vnets have gained or lost since this was last asked.
    pub(super) fn take_sizes(&mut self) -> BTreeMap<u32, i64> {
        std::mem::take(&mut self.sizes)
    }

    /// See [`Settings::on_demand_above`].
    pub(super) const fn on_demand_above(&self) -> u64 {
        self.ledger.settings.on_demand_above
    }

    /// Notes what engines have to hear of a change of an interface.
    pub(super) fn touch_interface(
        &mut self,
        before: Option<&InterfaceRecord>,
        after: Option<&InterfaceRecord>,
    ) -> Result<()> {
        let mut touches = Vec::new();
        let places = |record: Option<&InterfaceRecord>| -> Vec<String> {
            record.map_or_else(Vec::new, |record| record.places().map(|place| place.host.clone()).collect())
        };
        let mut hosts = places(before);
        hosts.extend(places(after));
        hosts.sort();
        hosts.dedup();
        for host in hosts {
            let seen = |record: Option<&InterfaceRecord>| {
                let record = record?;
                let place = record.place_on(&host)?;
                Some((
                    record.vnet,
                    place.slot,
                    record.mac.clone(),
                    record.addresses.clone(),
                    (record.groups.clone(), record.rate),
                    place.attachment.clone(),
                    record.tags.clone(),
                ))
            };
            let (was, is) = (seen(before), seen(after));
            if was != is {
                let id = after.or(before).map(InterfaceRecord::id).unwrap_or_default();
                let deleted = before.filter(|_| is.is_none()).map(|record| record.revision);
                let scopes = |record: Option<&InterfaceRecord>, on: bool| -> Result<BTreeSet<String>> {
                    let record = record.filter(|_| on);
                    let scopes = record.map(|record| resolved::scopes(&*self.update, record)).transpose()?;
                    Ok(scopes.unwrap_or_default().iter().map(Scope::key).collect())
                };
                let (had, has) = (scopes(before, was.is_some())?, scopes(after, is.is_some())?);
                let left = had.difference(&has).cloned().collect();
                touches.push(Touch::Interface { host, id, deleted, left });
            }
        }
        let empty = Vec::new();
        let addresses =
            |record: Option<&'_ InterfaceRecord>| record.map_or(empty.clone(), |r| r.addresses.clone());
        let mut all = addresses(before);
        all.extend(addresses(after));
        all.sort();
        all.dedup();
        for ipv4 in all {
            let route = |record: Option<&'_ InterfaceRecord>| {
                record.filter(|record| record.addresses.contains(&ipv4)).map(|record| {
                    let route = record.route();
                    let own = |(host, slot): (&str, u8)| (host.to_owned(), slot);
                    (own(route.location), route.also_accept.map(own), route.live, record.tags.clone())
                })
            };
            let (was, is) = (route(before), route(after));
            if was != is
                && let Some(vnet) = after.or(before).map(|record| record.vnet)
            {
                let deleted = before.filter(|_| is.is_none()).map(|record| record.revision);
                touches.push(Touch::Mapping { vnet, ipv4, deleted });
            }
        }
        self.touches.extend(touches);
        Ok(())
    }

    fn settle_presence(&mut self) -> Result<()> {
        for ((vnet, host), by) in std::mem::take(&mut self.presence) {
            if by == 0 {
                continue;
            }
            let key = in_vnet(vnet, host.as_bytes());
            let before = match self.update.get(Table::Presence, &key)? {
                Some(value) => decode::<i64>(Table::Presence, &key, &value)?,
                None => 0,
            };
            let after = before + by;
            if after <= 0 {
                self.delete(Table::Presence, &key)?;
            } else {
                let value = encode(Table::Presence, &key, &after)?;
                self.put(Table::Presence, &key, &value)?;
            }
            if (before > 0) != (after > 0) {
                self.touch(Touch::Presence { host, vnet });
            }
        }
        Ok(())
    }

    /// Commits; the new revision, or `None` if nothing changed.
    pub(super) fn finish(mut self) -> Result<Option<u64>> {
        if !self.changed {
            return Ok(None);
        }
        self.settle_presence()?;
        self.write_down()?;
        self.settle_sizes()?;
        let key = self.revision.to_be_bytes();
        let log = encode(Table::Log, &key, &self.touches)?;
        self.put(Table::Log, &key, &log)?;
        self.put(Table::Meta, b"revision", &key)?;
        self.compact()?;
        self.update.commit()?;
        Ok(Some(self.revision))
    }

    /// Appends to the audit log, if somebody makes this change, and forgets the oldest entries.
    fn write_down(&mut self) -> Result<()> {
        let Some(caller) = self.caller else { return Ok(()) };
        let key = self.revision.to_be_bytes();
        // Whoever changes something without asking whether that is allowed changes nothing.
        let draft = self.draft.take().ok_or_else(|| Error::Record {
            key: format!("Audit/{}", self.revision),
            problem: "nobody asked whether this change is allowed".to_owned(),
        })?;
        let time = token::seconds();
        let entry = AuditEntry {
            revision: self.revision,
            time,
            actor: caller.actor.to_string(),
            source: caller.source.map(|source| source.to_string()),
            verb: draft.verb,
            kind: draft.kind.to_owned(),
            id: draft.id,
            entity: draft.entity,
            summary: draft.summary,
        };
        let record = AuditRecord { entry, by: caller.entity().map(str::to_owned) };
        let value = encode(Table::Audit, &key, &record)?;
        self.put(Table::Audit, &key, &value)?;
        let limits = self.ledger.settings.audit;
        let surplus = self.update.count(Table::Audit)?.saturating_sub(limits.keep);
        let too_old = time.saturating_sub(limits.age);
        let mut old = Vec::new();
        try_scan(&*self.update, Table::Audit, &[], &[], |key, value| {
            let number = old.len() as u64;
            let goes =
                number < surplus || decode::<AuditRecord>(Table::Audit, key, value)?.entry.time < too_old;
            if number == PRUNE_AT_ONCE || !goes {
                return Ok(Step::Break(()));
            }
            old.push(key.to_vec());
            Ok(Step::Continue(()))
        })?;
        old.iter().try_for_each(|key| self.delete(Table::Audit, key))
    }

    /// Forgets the log's oldest entries.
    fn compact(&mut self) -> Result<()> {
        let Settings { log_revisions, .. } = self.ledger.settings;
        let due = self.revision.saturating_sub(log_revisions);
        let done = meta_number(&*self.update, "compacted")?.unwrap_or(0);
        let to = due.min(done.saturating_add(COMPACT_AT_ONCE));
        if to <= done {
            return Ok(());
        }
        let mut old = Vec::new();
        try_scan(&*self.update, Table::Log, &[], &[], |key, _| {
            if key > to.to_be_bytes().as_slice() {
                return Ok(Step::Break(()));
            }
            old.push(key.to_vec());
            Ok(Step::Continue(()))
        })?;
        for key in old {
            self.delete(Table::Log, &key)?;
        }
        self.put(Table::Meta, b"compacted", &to.to_be_bytes())
    }

    /// The id of the network that has a vnet.
    pub(super) fn network_of(&self, vnet: u32) -> Result<Option<String>> {
        load_id(&*self.update, Table::Vnets, &vnet_key(vnet))
    }
}

fn renamed(error: Error, from: &str, to: &str) -> Error {
    match error {
        Error::Refused(mut detail) if detail.field.as_deref() == Some(from) => {
            detail.field = Some(to.to_owned());
            Error::Refused(detail)
        }
        other => other,
    }
}
