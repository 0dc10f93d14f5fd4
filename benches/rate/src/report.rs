//! Results as a table and as JSON.

use crate::measure::{Parts, Spread};
use crate::rows::Row;
use crate::run::{Effort, Measured, Outcome};
use anyhow::Context;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::path::Path;

/// What a row's ratio is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The aim is reached.
    Aim,
    /// The floor holds.
    Floor,
    /// It does not.
    BelowFloor,
    /// Nothing is asked of it.
    NoBudget,
}

impl Verdict {
    fn of(row: &Row, ratio: f64) -> Self {
        match row.budget {
            Some(budget) if ratio >= budget.aim => Self::Aim,
            Some(budget) if ratio >= budget.floor => Self::Floor,
            Some(_) => Self::BelowFloor,
            None => Self::NoBudget,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Floor => "floor",
            Self::BelowFloor => "BELOW FLOOR",
            Self::NoBudget => "",
        }
    }
}

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    /// Both sides' packet memory is on hugepages.
    hugepages: bool,
    /// It was built with optimisation; without it ratios mean nothing.
    optimised: bool,
    rounds: usize,
    seconds: f64,
    rows: Vec<Line>,
    skipped: Vec<Skipped>,
    /// No row is below its floor.
    passed: bool,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    beside: &'static str,
    /// Addresses are varied by the stamp, whose cost is in it.
    stamped: bool,
    /// CPU time per packet, in nanoseconds.
    nanoseconds: f64,
    baseline_nanoseconds: f64,
    ratio: Spread,
    /// Where the time goes, as the engine's workers count it.
    parts: Option<PartNanoseconds>,
    floor: Option<f64>,
    aim: Option<f64>,
    verdict: Verdict,
}

/// CPU time per packet of each part of a turn, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct PartNanoseconds {
    receive: f64,
    classify: f64,
    authorise: f64,
    translate: f64,
    send: f64,
    /// The loop around them, and what is counted.
    rest: f64,
}

impl PartNanoseconds {
    /// `whole` is shared out as the parts are; `None` if nothing was counted.
    fn of(parts: &Parts, whole: f64) -> Option<Self> {
        let Parts { receive, classify, authorise, translate, send, turns } = *parts;
        let known = receive + classify + authorise + translate + send;
        let share = |cycles: u64| whole * cycles as f64 / turns as f64;
        (turns > 0).then(|| Self {
            receive: share(receive),
            classify: share(classify),
            authorise: share(authorise),
            translate: share(translate),
            send: share(send),
            rest: share(turns.saturating_sub(known)),
        })
    }
}

#[derive(Debug, Serialize)]
struct Skipped {
    name: String,
    reason: String,
}

impl Report {
    pub(crate) fn new(measured: &[Measured], effort: Effort, hugepages: bool) -> Self {
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for Measured { row, outcome } in measured {
            match outcome {
                Outcome::Compared(compared) => rows.push(Line {
                    name: row.to_string(),
                    beside: row.beside(),
                    stamped: row.is_stamped(),
                    nanoseconds: 1e9 / compared.rate.median,
                    baseline_nanoseconds: 1e9 / compared.baseline_rate.median,
                    ratio: compared.ratio,
                    parts: compared
                        .parts
                        .and_then(|parts| PartNanoseconds::of(&parts, 1e9 / compared.rate.median)),
                    floor: row.budget.map(|budget| budget.floor),
                    aim: row.budget.map(|budget| budget.aim),
                    verdict: Verdict::of(row, compared.ratio.median),
                }),
                Outcome::Skipped(reason) => {
                    skipped.push(Skipped { name: row.to_string(), reason: reason.clone() });
                }
            }
        }
        let passed = rows.iter().all(|row| row.verdict != Verdict::BelowFloor);
        Self {
            machine: Machine::this(),
            hugepages,
            optimised: !cfg!(debug_assertions),
            rounds: effort.rounds,
            seconds: effort.time.as_secs_f64(),
            rows,
            skipped,
            passed,
        }
    }

    /// Whether no row is below its floor.
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    /// Prints the table and what is to be known of it.
    pub(crate) fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["row", "ns", "beside", "ns", "ratio", "min", "max", "floor", "aim", "reached"]);
        for row in &self.rows {
            let number = |digits: usize, number: f64| format!("{number:.digits$}");
            let budget = |value: Option<f64>| value.map_or_else(String::new, |value| number(2, value));
            table.add_row([
                Cell::new(format!("{}{}", row.name, if self.hugepages { "" } else { " (no hugepages)" })),
                Cell::new(number(1, row.nanoseconds)).set_alignment(CellAlignment::Right),
                Cell::new(row.beside),
                Cell::new(number(1, row.baseline_nanoseconds)).set_alignment(CellAlignment::Right),
                Cell::new(number(3, row.ratio.median)),
                Cell::new(number(3, row.ratio.min)),
                Cell::new(number(3, row.ratio.max)),
                Cell::new(budget(row.floor)),
                Cell::new(budget(row.aim)),
                Cell::new(row.verdict.name()),
            ]);
        }
        println!("{table}");
        self.print_parts();
        println!(
            "{}, {} cores, Linux {}; {} rounds of {} s for each side; ns: CPU time per packet; ratio: the median of \
             rounds' ratios of packets per CPU second. Rows with more than 1k mappings contain the stamp, which is not \
             taken off: a stamp row less its bare row is what it costs.",
            self.machine.processor, self.machine.cores, self.machine.kernel, self.rounds, self.seconds
        );
        for Skipped { name, reason } in &self.skipped {
            println!("SKIPPED {name}: {reason}");
        }
        if !self.optimised {
            println!("WARNING: this program was built without optimisation: its figures mean nothing");
        }
        for row in self.rows.iter().filter(|row| row.verdict == Verdict::BelowFloor) {
            println!("BELOW FLOOR {}: {:.3}", row.name, row.ratio.median);
        }
    }

    /// Prints where the time of the engine's rows goes.
    fn print_parts(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["ns of row", "receive", "classify", "authorise", "translate", "send", "rest"]);
        for (name, parts) in self.rows.iter().filter_map(|row| Some((&row.name, row.parts?))) {
            let PartNanoseconds { receive, classify, authorise, translate, send, rest } = parts;
            let cells = [receive, classify, authorise, translate, send, rest].map(|nanoseconds| {
                Cell::new(format!("{nanoseconds:.1}")).set_alignment(CellAlignment::Right)
            });
            table.add_row([Cell::new(name)].into_iter().chain(cells));
        }
        if !table.is_empty() {
            println!("{table}");
        }
    }

    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

impl Machine {
    fn this() -> Self {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: model.map_or("unknown processor", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Comparison;
    use crate::rows::all;
    use std::time::Duration;

    fn report(ratio: f64) -> Report {
        let row = all().into_iter().find(|row| row.to_string() == "4to6/64B/1M").unwrap();
        let spread = |median| Spread { median, min: median, max: median };
        let parts =
            Some(Parts { receive: 40, classify: 20, authorise: 4, translate: 16, send: 10, turns: 100 });
        let compared =
            Comparison { rate: spread(2e7), baseline_rate: spread(5e7), ratio: spread(ratio), parts };
        let measured = Measured { row, outcome: Outcome::Compared(compared) };
        Report::new(&[measured], Effort { rounds: 5, time: Duration::from_secs(1) }, true)
    }

    #[test]
    fn row_below_its_floor_fails_the_run_and_one_at_it_does_not() {
        let verdict = |ratio| (report(ratio).passed(), report(ratio).rows[0].verdict);
        assert_eq!(verdict(0.329), (false, Verdict::BelowFloor));
        assert_eq!(verdict(0.33), (true, Verdict::Floor));
        assert_eq!(verdict(0.45), (true, Verdict::Aim));
    }

    #[test]
    fn rates_become_nanoseconds_per_packet() {
        let row = &report(0.4).rows[0];
        assert_eq!((row.nanoseconds, row.baseline_nanoseconds), (50.0, 20.0));
        let wanted = PartNanoseconds {
            receive: 20.0,
            classify: 10.0,
            authorise: 2.0,
            translate: 8.0,
            send: 5.0,
            rest: 5.0,
        };
        assert_eq!(row.parts, Some(wanted));
        assert_eq!(PartNanoseconds::of(&Parts::default(), 50.0), None);
    }
}
