//! JSON as the gateway writes it: a reading's value, in the order and form of docs/protocols/records.md.
//!
//! Written by hand because numbers must be exact: a scaled value keeps its decimal places, and no library of the
//! workspace prints an integer as a decimal fraction.

use std::fmt::Write;

use wire::reading::{Quality, Reading, Sensor, Value, ValueKind};
use wire::time::UnixMs;

/// Appends the JSON object of `reading`, which `sensor` made; `time` is the record's timestamp.
pub fn push_reading(out: &mut String, time: UnixMs, sensor: &Sensor<'_>, reading: &Reading) {
    out.push_str("{\"sensor\":");
    push_text(out, sensor.name);
    out.push_str(",\"time\":");
    push_display(out, time.0);
    out.push_str(",\"value\":");
    match (reading.value, sensor.kind) {
        (Value::Float(value), _) => push_float(out, value),
        (Value::Scaled(value), ValueKind::Scaled { decimals }) => push_scaled(out, value, decimals),
        // The batch's reader lets no such reading pass; without decimal places the integer is the value.
        (Value::Scaled(value), ValueKind::Float) => push_scaled(out, value, 0),
    }
    out.push_str(",\"unit\":");
    push_text(out, sensor.unit);
    out.push_str(",\"quality\":\"");
    out.push_str(match reading.quality {
        Quality::Bad => "bad",
        Quality::Good => "good",
        Quality::Uncertain => "uncertain",
    });
    out.push_str("\"}");
}

/// RFC 8259, section 7: quotation mark, reverse solidus and U+0000 to U+001F must be escaped, all else stands for itself.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest decimal that reads back as the same single-precision number; JSON has no other numbers than finite ones.
fn push_float(out: &mut String, value: f32) {
    if value.is_finite() {
        push_display(out, value);
    } else {
        out.push_str("null");
    }
}

/// `value` × 10⁻ᵈ, exactly and with all `decimals` places.
fn push_scaled(out: &mut String, value: i64, decimals: u8) {
    if value < 0 {
        out.push('-');
    }
    let digits = value.unsigned_abs().to_string();
    let decimals = usize::from(decimals);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals));
    out.push_str(if whole.is_empty() { "0" } else { whole });
    if decimals > 0 {
        out.push('.');
        out.extend(std::iter::repeat_n('0', decimals - fraction.len()));
        out.push_str(fraction);
    }
}

/// Writing to a string cannot fail.
fn push_display(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(push: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        push(&mut out);
        out
    }

    #[test]
    fn a_reading_has_its_fields_in_order() {
        let sensor = Sensor { name: "temp", unit: "Cel", kind: ValueKind::Scaled { decimals: 1 } };
        for (quality, word) in
            [(Quality::Good, "good"), (Quality::Uncertain, "uncertain"), (Quality::Bad, "bad")]
        {
            let reading = Reading { sensor: 0, time_ms: 5, value: Value::Scaled(215), quality };
            let json =
                text_of(|out| push_reading(out, UnixMs(1_700_000_000_123), &sensor, &reading));
            let expected = format!(
                r#"{{"sensor":"temp","time":1700000000123,"value":21.5,"unit":"Cel","quality":"{word}"}}"#
            );
            assert_eq!(json, expected);
        }
        let float = Sensor { name: "", unit: "", kind: ValueKind::Float };
        let value = Value::Float(f32::NAN);
        let reading = Reading { sensor: 0, time_ms: 5, value, quality: Quality::Bad };
        let json = text_of(|out| push_reading(out, UnixMs(-1), &float, &reading));
        assert_eq!(json, r#"{"sensor":"","time":-1,"value":null,"unit":"","quality":"bad"}"#);
    }

    #[test]
    fn names_are_escaped_and_nothing_else() {
        for (text, expected) in [
            ("", r#""""#),
            ("a\"b\\c/", r#""a\"b\\c/""#),
            ("\0\t\n\r\u{1f}", r#""\u0000\u0009\u000a\u000d\u001f""#),
            (" ~\u{7f}\u{80}", "\" ~\u{7f}\u{80}\""),
            ("Ωm\u{2028}😀", "\"Ωm\u{2028}😀\""),
        ] {
            assert_eq!(text_of(|out| push_text(out, text)), expected, "{text:?}");
        }
    }

    #[test]
    fn scaled_values_are_exact() {
        for (value, decimals, expected) in [
            (215, 1, "21.5"),
            (-215, 1, "-21.5"),
            (215, 0, "215"),
            (0, 0, "0"),
            (0, 2, "0.00"),
            (2150, 2, "21.50"),
            (5, 3, "0.005"),
            (-5, 3, "-0.005"),
            (i64::MAX, 18, "9.223372036854775807"),
            (i64::MIN, 18, "-9.223372036854775808"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MAX, 19, "0.9223372036854775807"),
            (i64::MIN, 21, "-0.009223372036854775808"),
        ] {
            let json = text_of(|out| push_scaled(out, value, decimals));
            assert_eq!(json, expected, "{value} with {decimals} places");
        }
        let smallest = text_of(|out| push_scaled(out, -1, u8::MAX));
        assert_eq!(smallest, format!("-0.{}1", "0".repeat(254)));
    }

    #[test]
    fn floats_read_back_as_they_were() {
        for (value, expected) in [
            (21.5, "21.5"),
            (0.1, "0.1"),
            (-3.0, "-3"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f32::NAN, "null"),
            (f32::INFINITY, "null"),
            (f32::NEG_INFINITY, "null"),
        ] {
            assert_eq!(text_of(|out| push_float(out, value)), expected);
        }
        for value in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), 1e-7, 16_777_217.0]
        {
            let json = text_of(|out| push_float(out, value));
            assert!(json.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-'), "{json}");
            assert_eq!(json.parse::<f32>().unwrap().to_bits(), value.to_bits(), "{json}");
        }
    }
}
