//! The lab: two hosts with an engine each, a plain IPv6 router between them, the provisioning service, and tenants'
//! nodes, all in network namespaces of one machine.
//!
//! Everything in it is the real thing: nodes are kernel network stacks, the router is Linux and knows nothing of
//! Overlane, engines and service are the shipped binaries. The end-to-end tests use this module.

pub mod args;
pub mod attack;
mod attack_classes;
pub mod behind;
pub mod capture;
pub mod certificates;
pub mod checks;
pub mod datagrams;
pub mod demo;
mod demo_outside;
mod demo_routed;
pub mod engine;
pub mod handle;
pub mod inject;
pub mod loss;
pub mod metrics;
pub mod netns;
pub mod outside;
pub mod path;
pub mod plan;
pub mod probe;
pub mod process;
pub mod progress;
pub mod provision;
pub mod results;
pub mod service;
pub mod session;
pub mod shape;
pub mod state;
pub mod status;
pub mod traces;
pub mod wait;
pub mod web;
pub mod wiring;

use args::LabCommand;
use handle::{Lab, LabOptions};
use progress::Progress;
use results::Results;
use state::Mode;
use std::process::ExitCode;

/// Runs one `overlane lab` command.
///
/// # Errors
/// Whatever made it fail, with what it was doing.
pub fn run(args: args::LabArgs) -> anyhow::Result<ExitCode> {
    let progress = progress::for_standard_error();
    let progress = progress.as_ref();
    let name = args.name.unwrap_or_else(|| {
        let demo = matches!(args.command, LabCommand::Demo);
        if demo { "demo" } else { "ovl" }.to_owned()
    });
    match args.command {
        LabCommand::Up(shape) => {
            down_on_signal(&name)?;
            let options =
                LabOptions { name: name.clone(), mode: Mode::Service, owned: false, shape: shape.shape()? };
            let lab = Lab::up(&options, progress)?;
            progress.done("the lab is up");
            status::show(&lab)?;
            let node = lab.namespace("acme-1");
            println!("try:     ip netns exec {node} ping 10.0.0.3");
        }
        LabCommand::Test => {
            let lab = Lab::find(&name)?;
            let results = checks::run(&lab, progress)?;
            return Ok(conclude(&results, progress));
        }
        LabCommand::Status => status::show(&Lab::find(&name)?)?,
        LabCommand::Down => {
            let was_there = handle::down(&name, progress)?;
            progress.done(if was_there { "the lab is down" } else { "no such lab is up" });
        }
        LabCommand::Demo => {
            down_on_signal(&name)?;
            let results = demo::run(&name, progress)?;
            return Ok(conclude(&results, progress));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn conclude(results: &Results, progress: &dyn Progress) -> ExitCode {
    let (passed, all) = results.count();
    progress.done(&format!("{passed} of {all} hold"));
    println!("{}", results.table());
    if results.all_passed() { ExitCode::SUCCESS } else { ExitCode::from(crate::EXIT_FAILED) }
}

/// Takes the lab down when the command is interrupted, and ends it.
fn down_on_signal(name: &str) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let name = name.to_owned();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
            }
        });
        eprintln!("\ninterrupted: taking the lab down");
        if let Err(error) = handle::down(&name, &progress::Lines) {
            eprintln!("overlane: {error:#}");
        }
        std::process::exit(128 + number);
    })?;
    Ok(())
}
