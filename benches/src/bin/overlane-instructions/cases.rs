//! What is counted.

use core::hint::black_box;
use overlane_benches::Result;
use overlane_benches::bed::{ADDRESS, Bed, HEADERS_6, LAYOUT};
use overlane_benches::round::{four_to_six, six_to_four};
use overlane_dataplane::address::{HostPrefix, Locator};
use overlane_dataplane::id::{Slot, VnetId};
use overlane_dataplane::pipeline::BURST;
use overlane_dataplane::wire::checksum::Sum;

/// Something that is counted.
pub(crate) struct Case {
    /// Its name in the table and the baseline.
    pub(crate) name: &'static str,
    /// Operations in a round.
    pub(crate) operations: u64,
    /// Runs it so many rounds.
    pub(crate) run: fn(u64) -> Result<()>,
}

/// Everything that is counted.
pub(crate) const CASES: &[Case] = &[
    Case { name: "4 to 6, 64 B", operations: BURST as u64, run: |rounds| out(60, rounds) },
    Case { name: "4 to 6, 1480 B", operations: BURST as u64, run: |rounds| out(1476, rounds) },
    Case { name: "6 to 4, 64 B", operations: BURST as u64, run: |rounds| back(HEADERS_6 + 26, rounds) },
    Case { name: "6 to 4, 1500 B", operations: BURST as u64, run: |rounds| back(1496, rounds) },
    Case { name: "address, decode", operations: 1, run: decode },
    Case { name: "address, encode", operations: 1, run: encode },
    Case { name: "checksum of 1460 B", operations: 1, run: checksum },
];

/// Mappings: few enough that building the table is quick, and many enough that it is like any other.
const MAPPINGS: u32 = 1 << 10;

fn out(length: usize, rounds: u64) -> Result<()> {
    let mut bed = Bed::new(MAPPINGS)?;
    let mut round = four_to_six(&mut bed, length)?;
    (0..rounds).for_each(|_| round.run());
    Ok(())
}

fn back(length: usize, rounds: u64) -> Result<()> {
    let mut bed = Bed::new(MAPPINGS)?;
    let mut round = six_to_four(&mut bed, length)?;
    (0..rounds).for_each(|_| round.run());
    Ok(())
}

fn locator() -> Result<Locator> {
    Ok(Locator::new(LAYOUT, HostPrefix::parse(LAYOUT, "fd00:0:0:a::/64")?, Slot::ZERO, VnetId::new(7)?)?)
}

fn decode(rounds: u64) -> Result<()> {
    let address = locator()?.address(ADDRESS);
    for _ in 0..rounds {
        black_box(LAYOUT.decode(black_box(address))?);
    }
    Ok(())
}

fn encode(rounds: u64) -> Result<()> {
    let fields = LAYOUT.decode(locator()?.address(ADDRESS))?;
    for _ in 0..rounds {
        black_box(LAYOUT.encode(black_box(&fields))?);
    }
    Ok(())
}

fn checksum(rounds: u64) -> Result<()> {
    let bytes: Vec<u8> = (0..1460).map(|index: usize| index as u8).collect();
    for _ in 0..rounds {
        black_box(Sum::ZERO.add_bytes(black_box(&bytes)).checksum());
    }
    Ok(())
}
