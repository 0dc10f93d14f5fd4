//! What is measured, and what the design asks of it.

use crate::frames::{Direction, PACKETS, Size};
use std::fmt;

/// A row's budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Budget {
    /// Below it the run has failed.
    pub(crate) floor: f64,
    /// What is hoped for.
    pub(crate) aim: f64,
}

const fn budget(floor: f64, aim: f64) -> Option<Budget> {
    Some(Budget { floor, aim })
}

/// What a row measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The engine on one worker, beside testpmd.
    Engine { direction: Direction, size: Size, mappings: u32 },
    /// The same in a stateful vnet: a flow with each of so many nodes, all of them alive.
    Stateful { direction: Direction, size: Size, flows: u32 },
    /// The capsule driver on one worker, beside testpmd.
    Capsule { direction: Direction, size: Size, mappings: u32 },
    /// The loop that only receives and sends, beside testpmd.
    Bare { direction: Direction, size: Size },
    /// The same loop with the stamp, beside testpmd: what engine rows with more mappings than the capture has packets
    /// contain that is not the engine's.
    Stamp { direction: Direction, size: Size },
    /// The engine on two workers, beside itself on one.
    TwoWorkers { direction: Direction, size: Size, mappings: u32 },
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) what: What,
    pub(crate) budget: Option<Budget>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |direction| match direction {
            Direction::FourToSix => "4to6",
            Direction::SixToFour => "6to4",
        };
        match self.what {
            What::Engine { direction, size, mappings } => {
                write!(f, "{}/{size}/{}", way(direction), count(mappings))
            }
            What::Stateful { direction, size, flows } => {
                write!(f, "{}/{size}/{}-flows", way(direction), count(flows))
            }
            What::Capsule { direction, size, mappings } => {
                write!(f, "capsule/{}/{size}/{}", way(direction), count(mappings))
            }
            What::Bare { direction, size } => write!(f, "bare/{}/{size}", way(direction)),
            What::Stamp { direction, size } => write!(f, "stamp/{}/{size}", way(direction)),
            What::TwoWorkers { direction, size, mappings } => {
                write!(f, "two-workers/{}/{size}/{}", way(direction), count(mappings))
            }
        }
    }
}

/// 1k, 64k, 1M, 16M.
fn count(number: u32) -> String {
    match number {
        0x10_0000.. => format!("{}M", number >> 20),
        _ => format!("{}k", number >> 10),
    }
}

impl Row {
    /// What the ratio is of.
    pub(crate) fn beside(&self) -> &'static str {
        match self.what {
            What::TwoWorkers { .. } => "one worker",
            _ => "testpmd",
        }
    }

    /// Mappings in the table.
    pub(crate) fn mappings(&self) -> u32 {
        match self.what {
            What::Engine { mappings, .. }
            | What::Capsule { mappings, .. }
            | What::TwoWorkers { mappings, .. } => mappings,
            What::Stateful { flows, .. } => flows,
            What::Bare { .. } | What::Stamp { .. } => 0,
        }
    }

    /// Flows in the flow table while it is measured.
    pub(crate) fn flows(&self) -> u32 {
        if let What::Stateful { flows, .. } = self.what { flows } else { 0 }
    }

    /// Addresses are varied by the stamp.
    pub(crate) fn is_stamped(&self) -> bool {
        self.mappings() > PACKETS || matches!(self.what, What::Stamp { .. })
    }

    /// Cores that forward.
    pub(crate) fn workers(&self) -> usize {
        if matches!(self.what, What::TwoWorkers { .. }) { 2 } else { 1 }
    }
}

/// Every row, in the order in which they are measured. The budgets are the design's; rows without one are there to be
/// compared with.
pub(crate) fn all() -> Vec<Row> {
    const SMALL: Size = Size::Bytes(64);
    let mut rows = Vec::new();
    for direction in [Direction::FourToSix, Direction::SixToFour] {
        let to_six = direction == Direction::FourToSix;
        let mut engine = |size, mappings, budget| {
            rows.push(Row { what: What::Engine { direction, size, mappings }, budget });
        };
        engine(SMALL, 1 << 10, if to_six { budget(0.40, 0.55) } else { None });
        engine(SMALL, 1 << 16, None);
        engine(SMALL, 1 << 20, if to_six { budget(0.33, 0.45) } else { budget(0.30, 0.40) });
        engine(SMALL, 1 << 24, budget(0.25, 0.35));
        engine(Size::Bytes(128), 1 << 20, None);
        engine(Size::Bytes(512), 1 << 20, None);
        engine(Size::Bytes(1_500), 1 << 10, None);
        engine(Size::Bytes(1_500), 1 << 20, budget(0.75, 0.85));
        engine(Size::Imix, 1 << 20, None);
        let what = What::Stateful { direction, size: SMALL, flows: 1 << 20 };
        rows.push(Row { what, budget: budget(0.22, 0.33) });
    }
    for direction in [Direction::FourToSix, Direction::SixToFour] {
        rows.push(Row { what: What::Bare { direction, size: SMALL }, budget: None });
        rows.push(Row { what: What::Stamp { direction, size: SMALL }, budget: None });
    }
    rows.push(Row {
        what: What::Bare { direction: Direction::FourToSix, size: Size::Bytes(1_500) },
        budget: None,
    });
    let what = What::Capsule { direction: Direction::FourToSix, size: SMALL, mappings: 1 << 10 };
    rows.push(Row { what, budget: None });
    for direction in [Direction::FourToSix, Direction::SixToFour] {
        let what = What::TwoWorkers { direction, size: SMALL, mappings: 1 << 20 };
        rows.push(Row { what, budget: budget(1.9, 2.0) });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_have_names_of_their_own() {
        let names: Vec<_> = all().iter().map(ToString::to_string).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        assert!(names.contains(&"4to6/64B/1M".to_owned()) && names.contains(&"6to4/IMIX/1M".to_owned()));
        assert!(
            names.contains(&"6to4/64B/64k".to_owned()) && names.contains(&"4to6/64B/1M-flows".to_owned())
        );
    }

    #[test]
    fn floors_are_below_aims() {
        assert!(all().iter().filter_map(|row| row.budget).all(|budget| budget.floor < budget.aim));
    }
}
