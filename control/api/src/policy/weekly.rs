//! Times of a week, in UTC.

use super::{Day, FieldError, Window};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Minutes of a day and of a week.
const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
/// Day of the week of 1970-01-01, a Thursday; Monday is 0.
const FIRST_DAY: u64 = 3;

/// A [`Window`], checked: from a time of some days on, for less than or just a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weekly {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes since midnight, 0 to 1439.
    from: u16,
    /// As `from`; if it is not later, it is the next day's.
    until: u16,
}

impl Weekly {
    /// Every day.
    pub const EVERY_DAY: u8 = 0x7f;

    /// Checks and wraps what is in a message: days (bit 0 is Monday, at least one), and minutes since midnight.
    #[must_use]
    pub fn new(days: u32, from: u32, until: u32) -> Option<Self> {
        let minute = |value: u32| u16::try_from(value).ok().filter(|value| u32::from(*value) < DAY);
        let days = u8::try_from(days).ok().filter(|days| (1..=Self::EVERY_DAY).contains(days))?;
        Some(Self { days, from: minute(from)?, until: minute(until)? })
    }

    /// The days as bits, and the minutes since midnight from which and until which.
    #[must_use]
    pub const fn parts(self) -> (u8, u16, u16) {
        (self.days, self.from, self.until)
    }

    const fn length(self) -> u32 {
        let (from, until) = (self.from as u32, self.until as u32);
        if until > from { until - from } else { until + DAY - from }
    }

    fn starts(self) -> impl Iterator<Item = u32> {
        (0..7).filter(move |day| self.days >> day & 1 != 0).map(move |day| day * DAY + u32::from(self.from))
    }

    /// Whether a moment is in it.
    #[must_use]
    pub fn contains(self, moment: SystemTime) -> bool {
        let (minute, _) = minute_of_week(moment);
        self.starts().any(|start| (minute + WEEK - start) % WEEK < self.length())
    }

    /// How long after a moment it may begin or end next.
    #[must_use]
    pub fn next_turn(self, moment: SystemTime) -> Duration {
        let (minute, seconds) = minute_of_week(moment);
        let turns = self.starts().flat_map(|start| [start, start + self.length()]);
        // A turn that is just now was already seen to: the next one is a week away.
        let minutes = turns.map(|turn| (turn + 2 * WEEK - minute - 1) % WEEK + 1).min().unwrap_or(WEEK);
        Duration::from_secs(u64::from(minutes) * 60).saturating_sub(seconds)
    }
}

/// The minute of the week, and how much of it has passed.
fn minute_of_week(moment: SystemTime) -> (u32, Duration) {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let minutes = since.as_secs() / 60;
    let minute = (minutes + FIRST_DAY * u64::from(DAY)) % u64::from(WEEK);
    (minute as u32, since.saturating_sub(Duration::from_secs(minutes * 60)))
}

impl TryFrom<&Window> for Weekly {
    type Error = FieldError;

    fn try_from(window: &Window) -> Result<Self, FieldError> {
        let days = window.days.iter().fold(0, |days, day| days | bit(*day));
        let days = if window.days.is_empty() { Self::EVERY_DAY } else { days };
        let minutes = |field: &'static str, text: &str| {
            let parsed = text.split_once(':').and_then(|(hours, minutes)| {
                let number = |text: &str, below: u16| {
                    let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                    text.parse::<u16>().ok().filter(|number| two && *number < below)
                };
                Some(number(hours, 24)? * 60 + number(minutes, 60)?)
            });
            parsed.ok_or_else(|| FieldError::new(field, text, "a time from 00:00 to 23:59, like 08:30"))
        };
        let (from, until) = (minutes("window.from", &window.from)?, minutes("window.until", &window.until)?);
        Ok(Self { days, from, until })
    }
}

const fn bit(day: Day) -> u8 {
    1 << day as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, until: &str) -> Weekly {
        let window = Window { days: days.to_vec(), from: from.to_owned(), until: until.to_owned() };
        Weekly::try_from(&window).unwrap()
    }

    /// 2024-01-01 was a Monday.
    fn monday(minutes: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_704_067_200 + minutes * 60)
    }

    #[test]
    fn a_window_opens_and_closes_on_its_days() {
        let window = window(&[Day::Mon, Day::Wed], "08:00", "18:30");
        for (minute, open) in [
            (0, false),
            (8 * 60 - 1, false),
            (8 * 60, true),
            (18 * 60 + 29, true),
            (18 * 60 + 30, false),
            (1440 + 8 * 60, false),
            (2 * 1440 + 8 * 60, true),
            (7 * 1440 + 8 * 60, true),
        ] {
            assert_eq!(window.contains(monday(minute)), open, "{minute}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let window = window(&[Day::Sun], "22:00", "06:00");
        assert!(window.contains(monday(5 * 60 + 59)));
        assert!(!window.contains(monday(6 * 60)));
        assert!(!window.contains(monday(22 * 60)));
        assert!(window.contains(monday(6 * 1440 + 22 * 60)));
    }

    #[test]
    fn equal_times_are_a_whole_day() {
        let window = window(&[Day::Tue], "12:00", "12:00");
        assert!(window.contains(monday(1440 + 12 * 60)));
        assert!(window.contains(monday(2 * 1440 + 12 * 60 - 1)));
        assert!(!window.contains(monday(2 * 1440 + 12 * 60)));
    }

    #[test]
    fn the_next_turn_is_where_being_open_changes() {
        let window = window(&[Day::Mon, Day::Sun], "22:00", "06:00");
        for minute in (0..7 * 1440).step_by(7) {
            let moment = monday(minute) + Duration::from_secs(20);
            let turn = moment + window.next_turn(moment);
            let before = turn - Duration::from_secs(1);
            assert_eq!(window.contains(moment), window.contains(before), "{minute}");
            assert_ne!(window.contains(before), window.contains(turn), "{minute}");
        }
        // At a turn the one behind it is meant.
        assert_eq!(window.next_turn(monday(6 * 60)), Duration::from_secs(16 * 3600));
    }

    #[test]
    fn times_that_are_none_are_refused_by_field() {
        for bad in ["8:00", "24:00", "08:60", "0800", "+8:00", ""] {
            let window = Window { days: Vec::new(), from: bad.to_owned(), until: "09:00".to_owned() };
            assert_eq!(Weekly::try_from(&window).unwrap_err().field, "window.from");
        }
        assert_eq!(Weekly::new(0, 0, 0), None);
        assert_eq!(Weekly::new(0x80, 0, 0), None);
        assert_eq!(Weekly::new(1, 1440, 0), None);
        assert_eq!(Weekly::new(0x7f, 1439, 0).unwrap().parts(), (0x7f, 1439, 0));
    }
}
