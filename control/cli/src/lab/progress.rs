//! How the lab says what it is doing while it does it.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Hears about every step. Steps follow one another: a new one means that the one before is done.
pub trait Progress: Sync {
    /// A step begins.
    fn step(&self, what: &str);
    /// The last step is done.
    fn done(&self, summary: &str);
}

/// A spinner on terminals, plain lines otherwise.
#[must_use]
pub fn for_standard_error() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Spinner::new()) } else { Box::new(Lines) }
}

/// One line per step on standard error.
#[derive(Debug)]
pub struct Lines;

impl Progress for Lines {
    fn step(&self, what: &str) {
        eprintln!("  - {what}");
    }

    fn done(&self, summary: &str) {
        eprintln!("  {summary}");
    }
}

/// Says nothing.
#[derive(Debug)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
    fn done(&self, _: &str) {}
}

/// A spinner that shows the step under way.
#[derive(Debug)]
struct Spinner(ProgressBar);

impl Spinner {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Spinner {
    fn step(&self, what: &str) {
        if self.0.is_finished() {
            self.0.reset();
        }
        self.0.enable_steady_tick(Duration::from_millis(120));
        self.0.set_message(what.to_owned());
    }

    fn done(&self, summary: &str) {
        self.0.println(format!("  {summary}"));
        self.0.finish_and_clear();
    }
}
