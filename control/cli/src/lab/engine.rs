//! The lab's engines: configuration, start, readiness, telemetry.

use super::handle::{Lab, find_binary};
use super::metrics::{self, Answer, Metrics};
use super::plan::{Host, Plan, TELEMETRY, UPLINK};
use super::process::Process;
use super::state::{Mode, State};
use super::{provision, service, wait};
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// The engine's binary.
pub const PROGRAM: &str = "overlane-engine";

/// The name of an engine's process in the lab.
#[must_use]
pub fn process_name(host: &str) -> String {
    format!("engine-{host}")
}

/// A configuration file for a host's engine.
///
/// # Errors
/// If the plan holds an illegal value.
pub fn configuration(state: &State, plan: &Plan, mode: Mode, host: &Host) -> Result<String> {
    let provisioning = match mode {
        Mode::Service => format!(
            "service = \"{}\"\nserver_name = \"{}\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            plan.sync_endpoint(),
            service::SERVER_NAME,
            state.file("pki/ca.crt"),
            state.file(&format!("pki/{}.crt", host.id)),
            state.file(&format!("pki/{}.key", host.id)),
        ),
        Mode::File => format!("file = {:?}\n", state.file(provision::FILE)),
        Mode::Wires => bail!("this lab has no engines"),
    };
    Ok(format!(
        "[engine]\nhost = \"{id}\"\n\n\
         [uplink]\nkind = \"packet\"\ndevice = \"{UPLINK}\"\naddress = \"{address}/64\"\ngateway = \"{router}\"\n\n\
         [workers]\nidle = \"backoff\"\n\n\
         [provisioning]\n{provisioning}\n\
         [state]\ndirectory = {directory:?}\n\n\
         [telemetry]\nlisten = \"{TELEMETRY}\"\n\n{extra}",
        id = host.id,
        address = host.engine(),
        router = host.router(),
        directory = state.file(&process_name(&host.id)),
        extra = plan.shape.engine,
    ))
}

/// Starts a host's engine in its namespace.
///
/// # Errors
/// If it cannot be started.
pub fn start(lab: &Lab, host: &str) -> Result<Process> {
    let plan = lab.plan();
    let text = configuration(lab.state(), &plan, lab.mode(), plan.host(host)?)?;
    let name = process_name(host);
    let file = lab.state().write(&format!("conf/{name}.toml"), &text)?;
    let mut command = plan.namespace(host).command(find_binary(PROGRAM)?);
    command.arg("--config").arg(file);
    Process::start(lab.state().path(), &name, command)
}

/// Asks an engine's telemetry listener.
///
/// # Errors
/// If nobody answers.
pub fn ask(lab: &Lab, host: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
    metrics::http(&lab.namespace(host), TELEMETRY, method, path, body)
}

/// Scrapes an engine's metrics.
///
/// # Errors
/// If it does not answer.
pub fn scrape(lab: &Lab, host: &str) -> Result<Metrics> {
    Metrics::scrape(&lab.namespace(host), TELEMETRY)
}

/// Waits until an engine says that it is ready.
///
/// # Errors
/// If it ends, or at the deadline with its own reason.
pub fn wait_ready(lab: &Lab, host: &str, deadline: Duration) -> Result<()> {
    let name = process_name(host);
    wait::until_ok(&format!("the engine of {host} to be ready"), deadline, || {
        let answer = ask(lab, host, "GET", "/readyz", "")?;
        ensure!(answer.status == 200, "/readyz answers {}: {}", answer.status, answer.body.trim());
        Ok(())
    })
    .or_else(|error| {
        let running = lab.with_process(&name, |process| Ok(process.is_running()))?;
        Err(if running { error } else { error.context(format!("{name} has ended")) })
    })
}

/// Waits until every node's interface is live in the service's eyes, or without a service, until nodes reach others.
///
/// # Errors
/// At the deadline, naming the first that is not.
pub fn wait_interfaces(lab: &Lab, deadline: Duration) -> Result<()> {
    match lab.mode() {
        Mode::Service => provision::wait_live(lab, deadline),
        Mode::File => provision::wait_reaching(lab, deadline),
        Mode::Wires => Ok(()),
    }
}
