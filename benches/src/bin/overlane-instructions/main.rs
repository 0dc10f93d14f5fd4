//! `overlane-instructions`: how many instructions hot functions take, against a committed baseline.
//!
//! Times depend on what else a machine does; instruction counts do not, so a change that makes the packet path longer
//! shows here wherever it is tried. Counted is the difference between a run of so many rounds and one of twice as many,
//! so neither start nor set-up is in it.

mod baseline;
mod callgrind;
mod cases;

use anyhow::{Context, Result, bail};
use baseline::{Baseline, Machine};
use cases::{CASES, Case};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The largest rise that passes.
const TOLERANCE: f64 = 0.03;
/// Rounds of the shorter run.
const ROUNDS: u64 = 256;

/// Counts the instructions of the data plane's hot functions under callgrind, and compares them with a baseline.
///
/// A rise of more than 3 % fails: explain it, and commit the new baseline with the change that caused it. The counts hold for one
/// compiler and one set of vector instructions; with others the comparison is skipped, and says so.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 nothing rose (or not comparable), 1 something did or could not be counted."
)]
struct Arguments {
    /// The committed counts.
    #[arg(long, value_name = "FILE", default_value = "benches/instructions.json")]
    baseline: PathBuf,
    /// Writes what is counted now as the new baseline.
    #[arg(long)]
    update: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one case; what callgrind counts.
    #[command(hide = true)]
    Run {
        /// Its name.
        case: String,
        /// How often.
        rounds: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Run { case, rounds }) => run(case, *rounds).map(|()| true),
        None => compare(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("overlane-instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, rounds: u64) -> Result<()> {
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("there is no case {name:?}"))?;
    (case.run)(rounds).map_err(|error| anyhow::anyhow!("{name}: {error}"))
}

/// Instructions for one operation of a case.
fn count(case: &Case) -> Result<f64> {
    let once = callgrind::instructions(case.name, ROUNDS)?;
    let twice = callgrind::instructions(case.name, 2 * ROUNDS)?;
    Ok(twice.saturating_sub(once) as f64 / (ROUNDS * case.operations) as f64)
}

/// Whether nothing rose.
fn compare(arguments: &Arguments) -> Result<bool> {
    let machine = Machine::here()?;
    let known = if arguments.update { None } else { Some(Baseline::read(&arguments.baseline)?) };
    if let Some(known) = known.as_ref().filter(|known| known.machine != machine) {
        println!("SKIPPED instruction counts: the baseline is of {}, here is {machine}", known.machine);
        return Ok(true);
    }
    let mut counted = Baseline::new(machine);
    let mut passes = true;
    println!("{:32} {:>12} {:>12} {:>8}", "instructions per operation", "baseline", "now", "change");
    for case in CASES {
        let now = count(case)?;
        counted.set(case.name, now);
        let Some(known) = &known else {
            println!("{:32} {:>12} {now:>12.1} {:>8}", case.name, "", "");
            continue;
        };
        let Some(before) = known.get(case.name) else {
            bail!("{} has no {:?}: run with --update", arguments.baseline.display(), case.name);
        };
        let change = now / before - 1.0;
        let verdict = match change {
            rise if rise > TOLERANCE => "ROSE",
            fall if fall < -TOLERANCE => "fell: --update the baseline, so that it stays so",
            _ => "",
        };
        passes &= change <= TOLERANCE;
        println!("{:32} {before:>12.1} {now:>12.1} {:>+7.1}% {verdict}", case.name, change * 100.0);
    }
    if arguments.update {
        counted.write(&arguments.baseline)?;
        println!("written to {}", arguments.baseline.display());
    }
    Ok(passes)
}
