//! The lab that cases share, and the shape of a case.

use anyhow::{Context, Result, anyhow};
use libtest_mimic::Failed;
use overlane_cli::lab::handle::{self, Lab, LabOptions};
use overlane_cli::lab::progress::{Lines, Silent};
use overlane_cli::lab::shape::Shape;
use overlane_cli::lab::state::Mode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One behaviour to prove.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// In the lab that all such cases share; leaves it as it was.
    Shared(&'static str, fn(&Lab) -> Result<()>),
    /// On its own.
    Alone(&'static str, fn() -> Result<()>),
}

impl Case {
    /// The behaviour that it proves.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Shared(name, _) | Self::Alone(name, _) => name,
        }
    }

    /// Proves it, or says what does not hold.
    pub(crate) fn run(&self) -> Result<(), Failed> {
        let outcome = match self {
            Self::Shared(_, case) => in_shared_lab(*case),
            Self::Alone(_, case) => case(),
        };
        outcome.map_err(|error| Failed::from(format!("{error:#}")))
    }
}

/// The shared lab, or why it could not be made; made when the first case wants it.
static LAB: Mutex<Option<Result<Lab, String>>> = Mutex::new(None);

fn in_shared_lab(case: fn(&Lab) -> Result<()>) -> Result<()> {
    let mut lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let lab = lab.get_or_insert_with(|| up("share", Mode::Service).map_err(|error| format!("{error:#}")));
    let lab = lab.as_ref().map_err(|error| anyhow!("the shared lab: {error}"))?;
    // What an earlier case left broken is that case's failure: this one says so before it starts.
    lab.wait_healthy(Duration::from_secs(20)).map_err(|error| error.context("before the case began"))?;
    case(lab).map_err(|error| error.context(lab.last_words()))
}

/// The name of a lab of this test process.
pub(crate) fn lab_name(label: &str) -> String {
    format!("{label}{:x}", std::process::id() % 0xff_ffff)
}

/// Makes a lab that ends with this process at the latest.
pub(crate) fn up(label: &str, mode: Mode) -> Result<Lab> {
    up_shaped(label, mode, Shape::default())
}

/// Makes such a lab with other links.
pub(crate) fn up_shaped(label: &str, mode: Mode, shape: Shape) -> Result<Lab> {
    handle::clear_orphans(&Silent)?;
    Lab::up(&LabOptions { name: lab_name(label), mode, owned: true, shape }, &Silent)
}

/// Does `work` in a lab of its own, provisioned by a file.
pub(crate) fn in_lab(label: &str, shape: Shape, work: fn(&Lab) -> Result<()>) -> Result<()> {
    let lab = up_shaped(label, Mode::File, shape)?;
    let outcome = work(&lab);
    let words = lab.last_words();
    lab.down(&Silent)?;
    outcome.with_context(|| words)
}

/// Takes the shared lab down, if it was made.
pub(crate) fn take_down() -> Result<()> {
    match LAB.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(lab)) => lab.down(&Silent),
        Some(Err(_)) | None => Ok(()),
    }
    .inspect_err(|_| {
        let _ = handle::down(&lab_name("share"), &Lines);
    })
}
