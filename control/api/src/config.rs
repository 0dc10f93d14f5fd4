//! The one way configuration files are read: strict TOML, and errors that say where: file, line, field, legal values,
//! on one line.
//!
//! A file is read into raw types whose values are [`Text`] and [`Value`], which remember their place; then its
//! [`Source`] checks them one by one. Times are text: a whole number with a unit behind it, like `"10s"`.

use serde::de::DeserializeOwned;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A value that may be left out, with its place.
pub type Value<T> = Option<Spanned<T>>;
/// Text that may be left out, with its place.
pub type Text = Value<String>;

/// What a directive of `[log] level` must be, for messages.
pub const LOG_LEVEL_LEGAL: &str =
    "error, warn, info, debug or trace, or directives like info,overlane_engine::uplink=debug";

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

    /// A path of the file; relative ones start from its directory.
    #[must_use]
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Takes `value` as `parse` does, which knows no other values than `legal`.
    ///
    /// # Errors
    /// [`FileError`] naming `legal` if `parse` refuses the value.
    pub fn text<T>(
        &self,
        value: &Spanned<String>,
        legal: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, FileError> {
        let text = value.as_ref();
        parse(text).ok_or_else(|| self.error(&value.span(), format!("must be {legal}, not {text:?}")))
    }

    /// As [`Source::text`], where there is a value.
    ///
    /// # Errors
    /// As [`Source::text`].
    pub fn optional<T>(
        &self,
        value: &Text,
        legal: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, FileError> {
        value.as_ref().map(|value| self.text(value, legal, parse)).transpose()
    }

    /// A number of `what`, like `" packet buffers"`, which may be empty.
    ///
    /// # Errors
    /// [`FileError`] naming `range` if the number is not in it.
    pub fn number<T: Copy + PartialOrd + fmt::Display>(
        &self,
        value: &Value<T>,
        what: &str,
        range: &RangeInclusive<T>,
    ) -> Result<Option<T>, FileError> {
        let Some(value) = value else { return Ok(None) };
        if range.contains(value.as_ref()) {
            return Ok(Some(*value.as_ref()));
        }
        let (least, most) = (range.start(), range.end());
        Err(self.error(&value.span(), format!("must be {least} to {most}{what}, not {}", value.as_ref())))
    }

    /// A time: a whole number with its unit behind it.
    ///
    /// # Errors
    /// [`FileError`] naming `range` if the text is no time in it.
    pub fn duration(
        &self,
        value: &Text,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, FileError> {
        let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
        let legal = format!("a time from {least} to {most}, a number with ms, s, m, h or d behind it");
        self.optional(value, &legal, |text| parse_duration(text).filter(|time| range.contains(time)))
    }

    /// A path, which must not be empty; see [`Source::resolve`].
    ///
    /// # Errors
    /// [`FileError`] if it is empty.
    pub fn path(&self, value: &Spanned<String>) -> Result<PathBuf, FileError> {
        self.text(value, "a path", |text| (!text.is_empty()).then(|| self.resolve(text)))
    }

    /// An IP address and a port to listen at, of which `example` is one.
    ///
    /// # Errors
    /// [`FileError`] if it is not such.
    pub fn listen(&self, value: &Spanned<String>, example: &str) -> Result<SocketAddr, FileError> {
        let legal = format!("an address and port, like {example}");
        self.text(value, &legal, |text| text.parse().ok())
    }

    /// Refuses a value that is there, as one that has no effect there.
    ///
    /// # Errors
    /// [`FileError`] with `message` if there is a value.
    pub fn refuse<T>(&self, value: &Value<T>, message: &str) -> Result<(), FileError> {
        value.as_ref().map_or(Ok(()), |value| Err(self.error(&value.span(), message)))
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

/// A whole number with `ms`, `s`, `m`, `h` or `d` behind it.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number = u64::from(number.parse::<u32>().ok()?);
    Some(match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        "d" => Duration::from_secs(number * 86_400),
        _ => return None,
    })
}

/// The same, for messages.
fn show_duration(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        _ if milliseconds != 0 => format!("{}ms", duration.as_millis()),
        0 => "0s".to_owned(),
        _ if seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        time: Text,
        number: Value<u64>,
    }

    fn source(text: &str) -> Source {
        Source::new(Path::new("a.toml"), text.to_owned())
    }

    fn time(text: &str) -> Result<Option<Duration>, String> {
        let source = source(&format!("[wait]\ntime = {text:?}\n"));
        let table: std::collections::BTreeMap<String, Raw> = source.parse().map_err(|e| e.to_string())?;
        let range = Duration::ZERO..=Duration::from_secs(600);
        source.duration(&table["wait"].time, &range).map_err(|error| error.to_string())
    }

    #[test]
    fn a_time_is_a_whole_number_with_its_unit() {
        let good =
            [("0s", 0), ("20ms", 20), ("2s", 2000), ("10m", 600_000), ("0h", 0), ("0d", 0), ("007s", 7000)];
        for (text, milliseconds) in good {
            assert_eq!(time(text), Ok(Some(Duration::from_millis(milliseconds))), "{text}");
        }
        let bad = [
            "",
            "s",
            "2",
            "2 s",
            " 2s",
            "-2s",
            "+2s",
            "2.5s",
            "2S",
            "2µs",
            "4294967296ms",
            "11m",
            "1d",
            "2s2s",
        ];
        for text in bad {
            let wanted = format!(
                "a.toml:2: [wait] time: must be a time from 0s to 10m, a number with ms, s, m, h or d behind it, \
                 not {text:?}"
            );
            assert_eq!(time(text), Err(wanted));
        }
    }

    #[test]
    fn limits_are_shown_as_they_are_written() {
        for text in ["0s", "20ms", "1500ms", "1s", "90s", "5m", "60m", "1d", "365d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        let source = source("number = 7");
        let raw: Raw = source.parse().unwrap();
        assert_eq!(source.number(&raw.number, "", &(1..=7)), Ok(Some(7)));
        let error = source.number(&raw.number, " pieces", &(1..=6)).unwrap_err();
        assert_eq!(error.to_string(), "a.toml:1: number: must be 1 to 6 pieces, not 7");
    }
}
