//! A record as a line: for people, or for programs.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::kafka::LogRecord;
use crate::text::{JsonBytes, push_plain, push_time};

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
    let headers =
        record.headers.iter().map(|(name, value)| (&**name, JsonBytes::of(value.as_deref())));
    let object = JsonRecord {
        topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp_ms,
        key: JsonBytes::of(record.key.as_deref()),
        headers: headers.collect(),
        value: JsonBytes::of(record.value.as_deref()),
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
}
