//! What was shown, and whether it held.

use anyhow::Result;
use comfy_table::{Table, presets};

/// A list of things that were to be shown.
#[derive(Debug, Default)]
pub struct Results(Vec<Line>);

#[derive(Debug)]
struct Line {
    what: String,
    passed: bool,
    detail: String,
}

impl Results {
    /// Notes the outcome of one of them: a short detail, or what went wrong.
    pub fn note(&mut self, what: impl Into<String>, outcome: Result<String>) {
        let (passed, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        self.0.push(Line { what: what.into(), passed, detail });
    }

    /// Whether there was something, and all of it held.
    #[must_use]
    pub fn all_passed(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|line| line.passed)
    }

    /// How many held, of how many.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.0.iter().filter(|line| line.passed).count(), self.0.len())
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = table(&["", "result", "detail"]);
        for line in &self.0 {
            let result = if line.passed { "pass" } else { "FAIL" };
            table.add_row([line.what.as_str(), result, line.detail.as_str()]);
        }
        table.to_string()
    }
}

/// An empty table with these columns, as wide as the terminal allows.
#[must_use]
pub fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    table.set_header(columns.iter().copied());
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_all_and_nothing_shown_is_no_success() {
        let mut results = Results::default();
        assert!(!results.all_passed());
        results.note("ping", Ok("0.1 ms".to_owned()));
        assert!(results.all_passed());
        results.note("TCP", Err(anyhow::anyhow!("refused").context("connecting")));
        assert!(!results.all_passed());
        assert_eq!(results.count(), (1, 2));
        let table = results.table();
        assert!(table.contains("FAIL") && table.contains("connecting: refused"), "{table}");
    }
}
