//! What is printed, made fit for terminals and for JSON.

use std::fmt::Write;

use serde::Serialize;

/// Longest text that people are shown, in characters.
const TEXT_CHARS_MAX: usize = 200;

const DAY_MS: i64 = 86_400_000;

/// Bytes in JSON: a text, or `{"hex":"…"}` for what is not UTF-8.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum JsonBytes<'a> {
    /// Not UTF-8.
    Hex {
        /// Two digits for each byte.
        hex: String,
    },
    /// UTF-8.
    Text(&'a str),
}

impl<'a> JsonBytes<'a> {
    /// `bytes`, if there are any.
    pub fn of(bytes: Option<&'a [u8]>) -> Option<Self> {
        let bytes = bytes?;
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        })
    }
}

/// Appends `text` without what a terminal would obey or what breaks the line, and not for ever.
pub fn push_plain(text: &str, line: &mut String) {
    for (at, character) in text.chars().enumerate() {
        if at == TEXT_CHARS_MAX {
            line.push('…');
            return;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// Appends a time in UTC as RFC 3339 has it, with milliseconds.
pub fn push_time(unix_ms: i64, line: &mut String) {
    let (day, of_day) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(day);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, ms) = (of_day / 1_000 % 60, of_day % 1_000);
    write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
        .expect("a String takes everything");
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that
/// the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    /// From 0000-03-01 to 1970-01-01.
    const EPOCH: i64 = 719_468;
    let days = days + EPOCH;
    let (era, of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, next_year) =
        if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut text = String::new();
            push_time(unix_ms, &mut text);
            assert_eq!(text, expected);
        }
        for extreme in [i64::MIN, i64::MAX] {
            push_time(extreme, &mut String::new());
        }
    }
}
