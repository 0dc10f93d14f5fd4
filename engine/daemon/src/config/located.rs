//! Errors in TOML files that say where: file, line, field, legal values, on one line.

use core::fmt;
use core::ops::Range;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, from 1; `None` when the file as a whole is wrong.
    pub line: Option<usize>,
    /// The field, like `[workers] idle`; may be empty.
    pub field: String,
    /// What is wrong, and what would be legal.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for FileError {}

/// A TOML file's text, to turn spans into lines and fields.
#[derive(Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
}

/// Files larger than this are refused: 64 MiB.
const MAX_FILE: u64 = 64 << 20;

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, is too large or is not UTF-8.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let whole =
            |message: String| FileError { file: file.to_owned(), line: None, field: String::new(), message };
        let size = std::fs::metadata(file).map_err(|error| whole(format!("cannot be read: {error}")))?.len();
        if size > MAX_FILE {
            return Err(whole(format!("is {size} bytes long; at most {MAX_FILE} are read")));
        }
        let text = std::fs::read(file).map_err(|error| whole(format!("cannot be read: {error}")))?;
        let text = String::from_utf8(text).map_err(|_| whole("is not UTF-8 text".to_owned()))?;
        Ok(Self::new(file, text))
    }

    /// Takes text as the contents of `file`.
    #[must_use]
    pub fn new(file: &Path, text: String) -> Self {
        Self { file: file.to_owned(), text }
    }

    /// Parses the text.
    ///
    /// # Errors
    /// [`FileError`] naming line and field.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(&self.text).map_err(|error| {
            let message = error.message().replace('`', "'").replace('\n', ", ");
            match error.span() {
                Some(span) => self.error(&span, message),
                None => FileError { file: self.file.clone(), line: None, field: String::new(), message },
            }
        })
    }

    /// An error at a place of the text.
    #[must_use]
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>) -> FileError {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        FileError {
            file: self.file.clone(),
            line: Some(line),
            field: self.field(line),
            message: message.into(),
        }
    }

    /// An error about the file as a whole, or about something that is missing in it.
    #[must_use]
    pub fn missing(&self, field: impl Into<String>, message: impl Into<String>) -> FileError {
        FileError { file: self.file.clone(), line: None, field: field.into(), message: message.into() }
    }

    /// The directory that relative paths in the file start from.
    #[must_use]
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// `[table] key` of a line, for messages.
    fn field(&self, line: usize) -> String {
        let bare = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let (mut table, mut key) = (String::new(), "");
        for text in self.text.lines().take(line).map(str::trim) {
            let header = text.split('#').next().unwrap_or(text).trim();
            let name = header.trim_start_matches('[').trim_end_matches(']').trim();
            if header.starts_with('[') && header.ends_with(']') && bare(name) {
                (table, key) = (header.to_owned(), "");
            } else if let Some((name, _)) = text.split_once('=')
                && bare(name.trim())
            {
                key = name.trim();
            }
        }
        match (table.as_str(), key) {
            ("", key) => key.to_owned(),
            (table, "") => table.to_owned(),
            (table, key) => format!("{table} {key}"),
        }
    }
}
