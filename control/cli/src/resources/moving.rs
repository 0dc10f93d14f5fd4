//! `overlane node move`: asks for the move, and shows how far it is until the old location is retired.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use overlane_api::resource::{Move, MoveInterfaceSpec, MovePhase, MoveRequest, Node};
use tokio::time::Instant;

use super::Resource as _;
use super::node::attachment;
use crate::client::{Client, Failure};
use crate::output::{Printer, printable};

/// How often the service is asked how far the move is.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How to wait for the end of a move.
#[derive(Debug, Clone, Copy, Args)]
pub struct WaitArgs {
    /// Return as soon as the service has accepted the move
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after so many seconds; the move goes on
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120,
        conflicts_with = "no_wait",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub timeout: u64,
}

pub(crate) async fn run(
    client: &Client,
    printer: &mut Printer<'_>,
    id: &str,
    to: String,
    interfaces: Vec<MoveInterfaceSpec>,
    wait: WaitArgs,
) -> anyhow::Result<()> {
    let request = MoveRequest { host: to.clone(), interfaces };
    let mut node: Node = client.post(&format!("{}/move", Node::path(id)), &request).await?;
    // None: it was there already, or its move has been taken back.
    let accepted = node.moving.clone();
    if let Some(moving) = accepted.as_ref().filter(|_| !wait.no_wait) {
        node = follow(client, id, moving, Duration::from_secs(wait.timeout)).await?;
        if node.host != to {
            bail!("the move ended, but node {id} is on {}, not {to}", node.host);
        }
    }
    if printer.is_json() {
        printer.json(&node)?;
        return Ok(());
    }
    match (&accepted, &node.moving) {
        (_, Some(moving)) => printer.line(&format!("node {id}: {}", describe(moving)))?,
        (Some(moving), None) => printer.line(&format!("node {id} moved from {} to {to}", moving.from))?,
        (None, None) => printer.line(&format!("node {id} is on {to}"))?,
    }
    if !wait.no_wait {
        node.show(printer)?;
    }
    Ok(())
}

/// Waits until the move is over. A service that is away for a moment does not end the wait: the move goes on without
/// us, and without it.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    accepted: &Move,
    timeout: Duration,
) -> anyhow::Result<Node> {
    let progress = Progress::start(id);
    let deadline = Instant::now() + timeout;
    let mut last = describe(accepted);
    progress.tell(&last);
    loop {
        match client.get::<Node>(&Node::path(id)).await {
            Ok(Node { moving: Some(moving), .. }) => last = describe(&moving),
            Ok(node) => return Ok(node),
            Err(error @ (Failure::Unreachable { .. } | Failure::Timeout { .. })) => last = error.to_string(),
            Err(error) => return Err(error.into()),
        }
        progress.tell(&last);
        if Instant::now() >= deadline {
            bail!(
                "node {id} is still on its way after {} s: {last}\nThe move goes on; `overlane node show {id}` tells how far it is",
                timeout.as_secs()
            );
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// How far a move is, in a line.
pub(crate) fn describe(progress: &Move) -> String {
    let phase = match progress.phase {
        MovePhase::Prepare => "prepare",
        MovePhase::Switch => "switch",
        MovePhase::Retire => "retire",
    };
    let mut text = format!("{} → {}, {phase}", progress.from, progress.to);
    if !progress.waiting_for.is_empty() {
        text.push_str(&format!(", waiting for {}", progress.waiting_for));
    }
    if progress.stuck {
        text.push_str(" (longer than it should take)");
    }
    text
}

/// The interfaces where they are going.
pub(crate) fn show(progress: &Move, printer: &mut Printer<'_>) -> io::Result<()> {
    let on = format!("ON {}", progress.to);
    printer.table(
        &[on.as_str(), "SLOT", "ATTACHMENT", "STATE", "DETAIL"],
        progress.interfaces.iter().map(|interface| {
            vec![
                interface.name.clone(),
                interface.slot.to_string(),
                attachment(&interface.attachment),
                interface.state.to_string(),
                interface.detail.clone(),
            ]
        }),
    )
}

/// On standard error: a spinner on a terminal; elsewhere a line for each change.
struct Progress {
    bar: Option<ProgressBar>,
    prefix: String,
    last: std::cell::RefCell<String>,
}

impl Progress {
    fn start(id: &str) -> Self {
        let prefix = format!("node {id}: ");
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix}{msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_prefix(prefix.clone());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, prefix, last: std::cell::RefCell::default() }
    }

    fn tell(&self, text: &str) {
        let text = printable(text);
        if *self.last.borrow() == text {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(text.clone().into_owned()),
            None => eprintln!("{}{text}", self.prefix),
        }
        self.last.replace(text.into_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
