//! What there is of a lab on this machine: for `down`, which must leave none of it.

use super::netns::Namespace;
use super::plan::Plan;
use super::process::start_time;
use super::state::State;
use anyhow::Result;

/// The namespaces of the lab `name` that exist, also those of nodes that tests add.
///
/// # Errors
/// If the name does not do, or namespaces cannot be listed.
pub fn namespaces(name: &str) -> Result<Vec<Namespace>> {
    let known = Plan::standard(name)?.namespaces();
    let prefix = format!("{name}-");
    let mut all = Namespace::all()?;
    // Labs `a` and `a-b` may be up side by side: only what a lab makes is this one's.
    all.retain(|n| known.contains(n) || n.name().strip_prefix(&prefix).is_some_and(is_extra_node));
    Ok(all)
}

/// Whether this is the name of a node that a test adds to a lab.
fn is_extra_node(rest: &str) -> bool {
    rest.strip_prefix("extra").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Everything that there is of a lab: namespaces, processes, its directory; empty when there is nothing.
///
/// # Errors
/// If the name does not do, or the kernel does not tell.
pub fn of(name: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = namespaces(name)?.iter().map(|n| format!("namespace {n}")).collect();
    let state = State::of(name);
    let directory = format!("{}/", state.path().display());
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        // The process may be gone by now.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&directory) && start_time(pid).is_some() {
            found.push(format!("process {pid}: {}", command.trim()));
        }
    }
    if state.exists() {
        found.push(format!("directory {}", state.path().display()));
    }
    Ok(found)
}
