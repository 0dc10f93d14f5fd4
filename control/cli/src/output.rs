//! Results on standard output: columns for people, JSON for programs.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::args::Output;

/// Where results go, and how they are written.
pub struct Printer<'a> {
    output: Output,
    to: &'a mut dyn Write,
}

impl<'a> Printer<'a> {
    /// Writes to `to` in the form `output`.
    pub fn new(output: Output, to: &'a mut dyn Write) -> Self {
        Self { output, to }
    }

    /// Whether programs read what is written.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// One JSON document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.to, value)?;
        writeln!(self.to)
    }

    /// One line for people; programs do not get it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        if self.is_json() { Ok(()) } else { writeln!(self.to, "{}", printable(text)) }
    }

    /// Columns under a header.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table(&mut self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = plain_table();
        table.set_header(header);
        table.add_rows(rows.into_iter().map(printable_row));
        self.write_table(&table)
    }

    /// More of the same columns, for those who have seen the header.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rows(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = plain_table();
        table.add_rows(rows.into_iter().map(printable_row));
        self.write_table(&table)
    }

    /// Shows what has been written so far, if more is to come only later.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Names and values, one a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn facts(&mut self, facts: impl IntoIterator<Item = (&'static str, String)>) -> io::Result<()> {
        let mut table = plain_table();
        table.add_rows(facts.into_iter().map(|(name, value)| printable_row(vec![format!("{name}:"), value])));
        self.write_table(&table)
    }

    fn write_table(&mut self, table: &Table) -> io::Result<()> {
        for line in table.lines() {
            writeln!(self.to, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// No lines, so that `cut`, `awk` and eyes read it equally well; folded to the terminal's width if there is one.
fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn printable_row(row: Vec<String>) -> Vec<String> {
    row.into_iter().map(|cell| printable(&cell).into_owned()).collect()
}

/// `text` without what could steer a terminal: whoever described an entity does not get to write on the operator's.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut written = Vec::new();
        let mut printer = Printer::new(Output::Table, &mut written);
        printer.table(&["ID"], [vec!["a\x1b[2Jb".to_owned()]]).unwrap();
        printer.facts([("description", "c\rd".to_owned())]).unwrap();
        printer.line("e\x07f").unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.chars().all(|c| c == '\n' || !c.is_control()), "{written:?}");
        assert!(written.contains("a\u{fffd}[2Jb"), "{written:?}");
    }

    #[test]
    fn programs_get_json_and_no_lines_for_people() {
        let mut written = Vec::new();
        let mut printer = Printer::new(Output::Json, &mut written);
        printer.line("created").unwrap();
        printer.json(&["a"]).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<String>>(&written).unwrap(), ["a"]);
    }
}
