//! A lab leaves nothing behind, however it ends.

use crate::fixture::{Case, lab_name, up};
use anyhow::{Context, Result, ensure};
use overlane_cli::lab::handle::{self, Lab};
use overlane_cli::lab::probe::{IperfServer, ping};
use overlane_cli::lab::progress::Silent;
use overlane_cli::lab::state::Mode;
use overlane_cli::lab::{traces, wait};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    Case::Alone("the_substrate_is_a_plain_router_that_joins_hosts_and_service", plain_router),
    Case::Alone("down_leaves_nothing_behind", nothing_behind),
    Case::Alone("down_leaves_nothing_behind_after_the_lab_command_was_killed", nothing_behind_after_kill),
    Case::Alone("a_lab_that_is_up_is_not_made_twice", not_twice),
    Case::Alone("labs_side_by_side_do_not_disturb_each_other", side_by_side),
];

/// The machine's own network devices, and everything that there is of a lab.
fn everything(name: &str) -> Result<(BTreeSet<String>, Vec<String>)> {
    let devices = nix::net::if_::if_nameindex()?;
    let devices = devices.iter().map(|device| device.name().to_string_lossy().into_owned()).collect();
    Ok((devices, traces::of(name)?))
}

fn plain_router() -> Result<()> {
    let lab = up("wires", Mode::Wires)?;
    let outcome = (|| {
        let plan = lab.plan();
        for host in &plan.hosts {
            for target in plan.hosts.iter().map(|h| h.kernel()).chain([host.router()]) {
                let result = ping(&lab.namespace(&host.id), target, 2)?;
                ensure!(result.is_complete(), "{} to {target}: {result:?}", host.id);
            }
            let service = overlane_cli::lab::plan::service_address();
            let result = ping(&lab.namespace(&host.id), service, 2)?;
            ensure!(result.is_complete(), "{} to the service: {result:?}", host.id);
        }
        ensure!(
            plan.router().devices()? == ["host-a", "host-b", "lo", "svc"],
            "{:?}",
            plan.router().devices()?
        );
        Ok(())
    })();
    lab.down(&Silent)?;
    outcome
}

fn nothing_behind() -> Result<()> {
    let name = lab_name("gone");
    let before = everything(&name)?;
    let lab = up("gone", Mode::Wires)?;
    let node = lab.node("acme-1")?;
    let server = IperfServer::start(lab.state().path(), "left", &lab.namespace(&node.id), 5201)?;
    // As if the command that started it had ended: only its pid file is left.
    std::mem::forget(server);
    ensure!(!lab.namespace(&node.id).processes()?.is_empty(), "the server does not run in its namespace");
    // An operator's shell, say, that the lab knows nothing of.
    let mut stranger = lab.namespace(&node.id).command("sleep").arg("600").stdin(Stdio::null()).spawn()?;
    lab.down(&Silent)?;
    stranger.wait()?;
    let after = everything(&name)?;
    ensure!(before == after, "before {before:?}, after {after:?}");
    ensure!(!handle::down(&name, &Silent)?, "there was still something to take down");
    Ok(())
}

fn nothing_behind_after_kill() -> Result<()> {
    let name = lab_name("crash");
    let before = everything(&name)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_overlane"));
    command
        .args(["lab", "--name", &name, "up"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    // Killed at a moment when it has made some of its namespaces and not yet all.
    wait::until("the lab to be half made", Duration::from_secs(10), || {
        Ok((traces::namespaces(&name)?.len() > 3).then_some(()))
    })?;
    child.kill()?;
    child.wait()?;
    let half = everything(&name)?;
    let down =
        Command::new(env!("CARGO_BIN_EXE_overlane")).args(["lab", "--name", &name, "down"]).output()?;
    ensure!(down.status.success(), "down: {}", String::from_utf8_lossy(&down.stderr));
    let after = everything(&name)?;
    ensure!(before == after, "before {before:?}, when killed {half:?}, after {after:?}");
    Ok(())
}

fn not_twice() -> Result<()> {
    let lab = up("twice", Mode::Wires)?;
    let second = up("twice", Mode::Wires).map(|_| ());
    let still = ping(&lab.namespace("host-a"), lab.plan().host("host-b")?.kernel(), 1);
    lab.down(&Silent)?;
    let error = second.err().context("it was made twice")?;
    ensure!(format!("{error:#}").contains("up already"), "{error:#}");
    ensure!(still?.is_complete(), "the second attempt broke the first lab");
    Ok(())
}

fn side_by_side() -> Result<()> {
    let (one, other): (Lab, Lab) = (up("one", Mode::Wires)?, up("other", Mode::Wires)?);
    one.down(&Silent)?;
    let still = ping(&other.namespace("host-a"), other.plan().host("host-b")?.kernel(), 1);
    other.down(&Silent)?;
    ensure!(still?.is_complete(), "taking one lab down broke the other");
    Ok(())
}
