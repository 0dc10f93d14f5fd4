//! Mapping look-ups, a burst at once.

use super::{Burst, Carrier};
use crate::pipeline::BURST;
use crate::table::mapping::{Mapping, MappingKey, MappingTable};
use crate::table::qsbr::Reader;
use arrayvec::ArrayVec;

/// Looks each packet's key up, and gives the packet what was found.
#[inline]
pub(crate) fn run<'r, I: Carrier>(
    table: &'r MappingTable,
    reader: &'r Reader,
    burst: &mut Burst<I>,
    key: impl Fn(&I) -> MappingKey,
    mut found: impl FnMut(&mut I, Option<&'r Mapping>),
) {
    let keys: ArrayVec<MappingKey, BURST> = burst.items().iter().map(key).collect();
    let mut mappings = [None; BURST];
    let Some(mappings) = mappings.get_mut(..keys.len()) else { return };
    table.lookup_burst(reader, &keys, mappings);
    for (item, mapping) in burst.items_mut().iter_mut().zip(mappings) {
        found(item, *mapping);
    }
}
