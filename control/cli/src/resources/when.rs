//! Times, for people.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970 as UTC, like `2026-01-31T07:08:09Z` (RFC 3339).
pub(super) fn utc(seconds: u64) -> String {
    let time =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{seconds} s"))
}

/// A whole number with a unit behind it, like `90d`, in seconds.
pub(super) fn parse_seconds(text: &str) -> Result<u64, String> {
    let legal = || "legal: a whole number with s, m, h or d behind it, like 90d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(legal()),
    };
    let number = text.get(..text.len() - 1).and_then(|number| number.parse::<u64>().ok());
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_calendar_has_are_shown_as_they_are() {
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 s");
    }

    #[test]
    fn spans_have_a_unit() {
        assert_eq!((parse_seconds("90d"), parse_seconds("60s")), (Ok(7_776_000), Ok(60)));
        for bad in
            ["", "d", "90", "-1d", "1.5h", "1w", "1é", "99999999999999999999d", "18446744073709551615d"]
        {
            assert!(parse_seconds(bad).unwrap_err().contains("90d"), "{bad}");
        }
    }
}
