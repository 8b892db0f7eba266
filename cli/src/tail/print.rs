//! A record as a line: for people, or for programs.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kafka::LogRecord;

/// Longest value that people are shown, in characters.
const VALUE_CHARS_MAX: usize = 200;

const DAY_MS: i64 = 86_400_000;

/// Time, device, and what was measured: `sensor=value unit` of a reading, else the MQTT topic and the value as it came.
/// Whatever could drive a terminal is escaped.
pub fn human_line(record: &LogRecord, line: &mut String) {
    push_time(record.timestamp_ms, line);
    line.push_str("  ");
    match record.key.as_deref() {
        Some(key) => push_plain(&String::from_utf8_lossy(key), line),
        None => line.push('-'),
    }
    line.push_str("  ");
    let Some(value) = record.value.as_deref() else {
        line.push_str("(no value)");
        return;
    };
    if let Ok(reading) = serde_json::from_slice::<Reading<'_>>(value) {
        push_reading(&reading, line);
        return;
    }
    if let Some(topic) = record.header("mqtt.topic") {
        push_plain(topic, line);
        line.push_str("  ");
    }
    push_plain(&String::from_utf8_lossy(value), line);
}

/// One JSON object. Keys and values are texts; what is not UTF-8 is `{"hex":"…"}`.
pub fn json_line(topic: &str, record: &LogRecord, line: &mut String) {
    let headers = record.headers.iter().map(|(name, value)| (&**name, bytes(value.as_deref())));
    let object = JsonRecord {
        topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp_ms,
        key: bytes(record.key.as_deref()),
        headers: headers.collect(),
        value: bytes(record.value.as_deref()),
    };
    let text = serde_json::to_string(&object).expect("no map keys and no numbers that JSON lacks");
    line.push_str(&text);
}

/// The value of a record that a gateway made of a device's reading (docs/protocols/records.md).
#[derive(Deserialize)]
struct Reading<'a> {
    #[serde(borrow)]
    sensor: Cow<'a, str>,
    /// As it is written: scaled values are exact decimals.
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow, default)]
    unit: Cow<'a, str>,
    #[serde(borrow, default)]
    quality: Cow<'a, str>,
}

#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<JsonBytes<'a>>,
    headers: Vec<(&'a str, Option<JsonBytes<'a>>)>,
    value: Option<JsonBytes<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonBytes<'a> {
    Hex { hex: String },
    Text(&'a str),
}

fn bytes(bytes: Option<&[u8]>) -> Option<JsonBytes<'_>> {
    let bytes = bytes?;
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => JsonBytes::Text(text),
        Err(_) => JsonBytes::Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
    })
}

fn push_reading(reading: &Reading<'_>, line: &mut String) {
    push_plain(&reading.sensor, line);
    line.push('=');
    push_plain(reading.value.get(), line);
    if !reading.unit.is_empty() {
        line.push(' ');
        push_plain(&reading.unit, line);
    }
    if !matches!(&*reading.quality, "" | "good") {
        line.push_str(" (");
        push_plain(&reading.quality, line);
        line.push(')');
    }
}

/// Appends `text` without what a terminal would obey or what breaks the line, and not for ever.
fn push_plain(text: &str, line: &mut String) {
    for (at, character) in text.chars().enumerate() {
        if at == VALUE_CHARS_MAX {
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
fn push_time(unix_ms: i64, line: &mut String) {
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

    fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> LogRecord {
        LogRecord {
            partition: 3,
            offset: 17,
            timestamp_ms: 1_700_000_000_123,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: vec![
                ("mqtt.topic".to_owned(), Some(b"plant/1".to_vec())),
                ("odd".to_owned(), Some(vec![0xff, 0x00])),
                ("none".to_owned(), None),
            ],
        }
    }

    #[test]
    fn people_read_one_line() {
        let reading = br#"{"sensor":"temp","time":1,"value":21.500,"unit":"Cel","quality":"good"}"#;
        let doubtful = br#"{"sensor":"rh","time":1,"value":null,"unit":"","quality":"bad"}"#;
        let time = "2023-11-14T22:13:20.123Z";
        for (key, value, expected) in [
            (Some(&b"dev1"[..]), Some(&reading[..]), "dev1  temp=21.500 Cel"),
            (Some(b"dev1"), Some(doubtful), "dev1  rh=null (bad)"),
            (Some(b"dev1"), Some(b"21.5"), "dev1  plant/1  21.5"),
            (None, Some(b"a\nb\x1b[31m"), "-  plant/1  a\\nb\\u{1b}[31m"),
            (Some(b"\xff"), None, "\u{fffd}  (no value)"),
        ] {
            let mut line = String::new();
            human_line(&record(key, value), &mut line);
            assert_eq!(line, format!("{time}  {expected}"));
        }
        let mut line = String::new();
        human_line(&record(None, Some(&b"x".repeat(10_000))), &mut line);
        assert!(line.ends_with("xx…") && line.chars().count() < 300, "{line}");
    }

    #[test]
    fn programs_read_everything() {
        let mut line = String::new();
        json_line("telemetry", &record(Some(b"dev1"), Some(b"a\n\"b")), &mut line);
        let expected = r#"{"topic":"telemetry","partition":3,"offset":17,"timestamp":1700000000123,"key":"dev1","headers":[["mqtt.topic","plant/1"],["odd",{"hex":"ff00"}],["none",null]],"value":"a\n\"b"}"#;
        assert_eq!(line, expected);
        line.clear();
        json_line("t", &record(None, None), &mut line);
        assert!(line.contains(r#""key":null"#) && line.ends_with(r#""value":null}"#), "{line}");
    }

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
