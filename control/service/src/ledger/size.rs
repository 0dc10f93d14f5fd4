//! How many addresses a network has, and whether its mappings are on demand.

use super::record::{NetworkRecord, Touch, meta_number, try_scan, vnet_key};
use super::transaction::Transaction;
use crate::error::Result;
use crate::store::{Step, Table, View};
use overlane_api::resource::MappingMode;

fn key(vnet: u32) -> String {
    format!("addresses/{vnet}")
}

/// How many addresses of a vnet are in use; counted, where nobody has counted before.
pub(super) fn addresses(view: &dyn View, vnet: u32) -> Result<u64> {
    if let Some(known) = meta_number(view, &key(vnet))? {
        return Ok(known);
    }
    let mut count = 0;
    try_scan(view, Table::Addresses, &vnet_key(vnet), &[], |_, _| {
        count += 1;
        Ok(Step::Continue(()))
    })?;
    Ok(count)
}

/// Whether a network is on demand that was or was not, and has so many addresses. Between the limit and half of it it stays as it
/// is, so that one node which comes and goes changes nothing.
pub(super) const fn is_on_demand(mode: MappingMode, was: bool, addresses: u64, limit: u64) -> bool {
    match mode {
        MappingMode::Subscribe => false,
        MappingMode::OnDemand => true,
        MappingMode::Automatic => addresses > limit || was && addresses > limit / 2,
    }
}

impl Transaction<'_> {
    /// Notes how many addresses vnets have now, and changes over networks that have become too large, or small enough.
    pub(super) fn settle_sizes(&mut self) -> Result<()> {
        for (vnet, by) in self.take_sizes() {
            if by == 0 {
                continue;
            }
            // Where nobody has counted before, this change is in what is counted now.
            let now = match meta_number(self.view(), &key(vnet))? {
                Some(before) => before.saturating_add_signed(by),
                None => addresses(self.view(), vnet)?,
            };
            self.put(Table::Meta, key(vnet).as_bytes(), &now.to_be_bytes())?;
            if let Some(id) = self.network_of(vnet)?
                && let Some(record) = self.load::<NetworkRecord>(Table::Networks, &id)?
            {
                let on_demand = self.on_demand(record.mapping, record.on_demand, now);
                if on_demand != record.on_demand {
                    let record = NetworkRecord { on_demand, revision: self.revision(), ..record };
                    self.save(Table::Networks, &id, &record)?;
                    self.touch_mode(&id, &record)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a network is to be on demand.
    pub(super) fn on_demand(&self, mode: MappingMode, was: bool, addresses: u64) -> bool {
        is_on_demand(mode, was, addresses, self.on_demand_above())
    }

    /// Engines have to hear that a network is on demand, or is not any more.
    pub(super) fn touch_mode(&mut self, id: &str, record: &NetworkRecord) -> Result<()> {
        let vnet = record.vnet;
        self.touch(Touch::Vnet { vnet, deleted: None });
        for (_, other) in super::peering::of_network(self.view(), id)? {
            self.touch(Touch::Vnet { vnet: other.vnet, deleted: None });
        }
        if !record.on_demand {
            self.touch(Touch::Whole { vnet });
        }
        Ok(())
    }

    /// A network is gone, and with it how many addresses it had.
    pub(super) fn forget_size(&mut self, vnet: u32) -> Result<()> {
        self.delete(Table::Meta, key(vnet).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_on_demand_above_the_limit_until_it_is_below_half_of_it() {
        let mut was = false;
        for (addresses, wanted) in [(10, false), (11, true), (6, true), (5, false), (10, false), (11, true)] {
            was = is_on_demand(MappingMode::Automatic, was, addresses, 10);
            assert_eq!(was, wanted, "{addresses}");
        }
        assert!(is_on_demand(MappingMode::OnDemand, false, 0, 10));
        assert!(!is_on_demand(MappingMode::Subscribe, true, 1000, 10));
    }
}
