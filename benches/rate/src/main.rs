//! The rate harness: the engine's real workers and `dpdk-testpmd`, in turns, on the same virtual devices.
//!
//! `benches/README.md` tells the method and how to read the rows.

mod bare;
mod capsule;
mod child;
mod clock;
mod engine;
mod frames;
mod hugepages;
mod measure;
mod piped;
mod report;
mod rows;
mod run;
mod site;
mod stamp;
mod testpmd;

use anyhow::bail;
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use report::Report;
use run::{Bench, Effort, Outcome};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Measures the engine beside dpdk-testpmd: CPU time per packet, on the same virtual devices, in turns.
///
/// Ends with 1 when a row is below its floor, with 2 when something could not be measured.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Rounds of each row; the result is the median of their ratios
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=999))]
    rounds: u16,
    /// Seconds for each side in each round, 0.01 to 60
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// One round of a tenth of a second: to see that everything works, not how fast it is
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only rows whose name contains this; may be given several times
    #[arg(long = "row", value_name = "PATTERN")]
    rows: Vec<String>,
    /// Write the results to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// List the rows, with their floors and aims, and measure nothing
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Internal>,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// What runs in a process of its own; the harness starts it
    #[command(hide = true)]
    Child {
        /// Devices and memory
        setup: String,
        /// What to run
        task: String,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    let legal = |seconds: &f64| (0.01..=60.0).contains(seconds);
    text.parse().ok().filter(legal).ok_or_else(|| "legal are 0.01 to 60".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Internal::Child { setup, task }) => {
            log_to_stderr();
            child::serve(setup, task).map(|()| true)
        }
        None if arguments.list => list(&arguments),
        None => measure(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("overlane-rate: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What goes wrong in a process of our own is told; what it does is not worth a word.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::new("warn,dpdk=error");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// The rows that were asked for.
fn chosen(arguments: &Arguments) -> anyhow::Result<Vec<rows::Row>> {
    let wanted = |row: &rows::Row| {
        let name = row.to_string();
        arguments.rows.is_empty() || arguments.rows.iter().any(|pattern| name.contains(pattern))
    };
    let rows: Vec<_> = rows::all().into_iter().filter(wanted).collect();
    if rows.is_empty() {
        bail!("no row's name contains {:?}; --list tells them", arguments.rows);
    }
    Ok(rows)
}

fn list(arguments: &Arguments) -> anyhow::Result<bool> {
    for row in chosen(arguments)? {
        match row.budget {
            Some(budget) => {
                println!("{row}: floor {} and aim {} of {}", budget.floor, budget.aim, row.beside())
            }
            None => println!("{row}"),
        }
    }
    Ok(true)
}

fn measure(arguments: &Arguments) -> anyhow::Result<bool> {
    let rows = chosen(arguments)?;
    let (rounds, seconds) = if arguments.quick { (1, 0.1) } else { (arguments.rounds, arguments.seconds) };
    let effort = Effort { rounds: usize::from(rounds), time: Duration::from_secs_f64(seconds) };
    let interrupted = watch_signals()?;
    let bench = Bench::new()?;
    let go_on = || match interrupted.load(Ordering::Relaxed) {
        true => bail!("interrupted"),
        false => Ok(()),
    };
    let mut measured = Vec::new();
    for row in rows {
        let done = bench.measure(row, effort, &go_on)?;
        match &done.outcome {
            Outcome::Compared(compared) => {
                eprintln!("{row}: {:.3} of {}", compared.ratio.median, row.beside());
            }
            Outcome::Skipped(reason) => eprintln!("SKIPPED {row}: {reason}"),
        }
        measured.push(done);
    }
    let report = Report::new(&measured, effort, bench.hugepages());
    report.print();
    if let Some(path) = &arguments.json {
        report.write(path)?;
    }
    Ok(report.passed())
}

/// Tells of an interrupt, so that hugepages are given back and children ended before the end.
fn watch_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // For threads to come as well; children begin with none blocked.
    signals.thread_block()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&interrupted);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.wait().is_ok() {
            told.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(interrupted)
}
