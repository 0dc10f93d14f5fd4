//! The lab's provisioning service: certificates, configuration, start, readiness.

use super::certificates::LIST;
use super::handle::{Lab, find_binary};
use super::metrics::Metrics;
use super::plan::{Plan, TELEMETRY};
use super::process::Process;
use super::state::State;
use super::{provision, wait};
use anyhow::{Result, ensure};
use overlane_api::pki::Authority;
use std::time::Duration;

/// The service's binary.
pub const PROGRAM: &str = "overlane-control";
/// The name of the service's process in the lab.
pub const NAME: &str = "service";
/// The name in the service's certificate.
pub const SERVER_NAME: &str = "control";
/// The name in the certificate of the lab's operator.
pub const OPERATOR: &str = "operator";
/// The service's store, in the lab's directory.
pub const STORE: &str = "store.redb";

/// Makes an authority and certificates for the service, the operator and every host, and a settings file with which
/// `overlane` finds the lab's service.
///
/// # Errors
/// If a file cannot be written.
pub fn make_pki(state: &State, plan: &Plan) -> Result<()> {
    let directory = state.file("pki");
    let authority = Authority::generate("the lab's authority")?;
    authority.save(&directory)?;
    state.write("pki/ca.crl", &authority.revocation_list(&[], 1, LIST)?)?;
    for name in plan.hosts.iter().map(|host| host.id.as_str()).chain([SERVER_NAME, OPERATOR]) {
        authority.provision(&directory, name, &[name])?;
    }
    state.write(
        "conf/cli.toml",
        &format!(
            "api = \"https://{}\"\nserver_name = \"{SERVER_NAME}\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            plan.api_endpoint(),
            directory.join("ca.crt"),
            directory.join(format!("{OPERATOR}.crt")),
            directory.join(format!("{OPERATOR}.key")),
        ),
    )?;
    Ok(())
}

/// A configuration file for the service.
#[must_use]
pub fn configuration(state: &State, plan: &Plan) -> String {
    let pki = state.file("pki");
    format!(
        "[store]\npath = {store:?}\n\n\
         [api]\nlisten = \"{api}\"\noperators = [\"{OPERATOR}\"]\n\n\
         [sync]\nlisten = \"{sync}\"\n\n\
         [tls]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\ncrl = {crl:?}\n\n\
         [telemetry]\nlisten = \"{TELEMETRY}\"\n",
        store = state.file(STORE),
        api = plan.api_endpoint(),
        sync = plan.sync_endpoint(),
        ca = pki.join("ca.crt"),
        cert = pki.join(format!("{SERVER_NAME}.crt")),
        key = pki.join(format!("{SERVER_NAME}.key")),
        crl = pki.join("ca.crl"),
    )
}

/// Starts the service in its namespace.
///
/// # Errors
/// If it cannot be started.
pub fn start(state: &State, plan: &Plan) -> Result<Process> {
    let file = state.write("conf/control.toml", &configuration(state, plan))?;
    let mut command = plan.service().command(find_binary(PROGRAM)?);
    command.arg("--config").arg(file);
    Process::start(state.path(), NAME, command)
}

/// Scrapes the service's metrics.
///
/// # Errors
/// If it does not answer.
pub fn scrape(lab: &Lab) -> Result<Metrics> {
    Metrics::scrape(&lab.plan().service(), TELEMETRY)
}

/// Waits until the service's API answers.
///
/// # Errors
/// If it ends, or at the deadline with the reason.
pub fn wait_ready(lab: &Lab) -> Result<()> {
    wait::until_ok("the service to answer", Duration::from_secs(10), || provision::status(lab).map(|_| ()))
        .or_else(|error| {
            let running = lab.with_process(NAME, |process| Ok(process.is_running()))?;
            ensure!(running, "the service has ended: {error:#}");
            Err(error)
        })
}
