//! A line of output: a name and named values, the same for people and for programs.

use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};
use wire::ids::Incarnation;
use wire::time::UnixMs;

use crate::text::{JsonBytes, push_plain, push_time};

/// A line of output.
#[derive(Debug)]
pub struct Item<'a> {
    name: &'static str,
    depth: usize,
    fields: Vec<(&'static str, Value<'a>)>,
}

/// A value in it.
#[derive(Debug)]
pub enum Value<'a> {
    /// A number.
    Number(i128),
    /// Whether something is so.
    Flag(bool),
    /// A checksum or tag of 4 or 8 bytes, or an id of 16.
    Hex(String),
    /// A moment.
    Time(UnixMs),
    /// A word or a sentence.
    Text(String),
    /// What a record holds.
    Bytes(&'a [u8]),
    /// Names and values of a record's headers.
    Headers(Vec<(&'a str, Option<&'a [u8]>)>),
    /// There is none.
    Missing,
}

impl<'a> Item<'a> {
    /// A line, indented as deep as what it is part of, and once more.
    pub fn new(name: &'static str, depth: usize) -> Self {
        Self { name, depth, fields: Vec::new() }
    }

    /// Adds a value.
    pub fn with(mut self, name: &'static str, value: impl Into<Value<'a>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The line for people: `name field=value …`.
    pub fn text(&self, line: &mut String) {
        for _ in 0..self.depth {
            line.push_str("  ");
        }
        line.push_str(self.name);
        for (name, value) in &self.fields {
            if !value.is_nothing() {
                line.push(' ');
                line.push_str(name);
                value.text(line);
            }
        }
    }

    /// The line for programs; `file` is the file that it was found in, if it is about one.
    pub fn json(&self, file: &str, line: &mut String) {
        let text = serde_json::to_string(&InFile { file, item: self });
        line.push_str(&text.expect("keys are names, and there is no number that JSON lacks"));
    }
}

struct InFile<'a> {
    file: &'a str,
    item: &'a Item<'a>,
}

impl Serialize for InFile<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.item.fields.len()))?;
        map.serialize_entry("type", self.item.name)?;
        if !self.file.is_empty() {
            map.serialize_entry("file", self.file)?;
        }
        for (name, value) in &self.item.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Value<'_> {
    /// Whether people are not told of it.
    fn is_nothing(&self) -> bool {
        match self {
            Self::Missing | Self::Flag(false) => true,
            Self::Headers(headers) => headers.is_empty(),
            Self::Number(_)
            | Self::Flag(true)
            | Self::Hex(_)
            | Self::Time(_)
            | Self::Text(_)
            | Self::Bytes(_) => false,
        }
    }

    /// What stands behind the field's name.
    fn text(&self, line: &mut String) {
        match self {
            Self::Flag(_) | Self::Missing => {}
            Self::Number(number) => {
                write!(line, "={number}").expect("a String takes everything");
            }
            Self::Hex(digits) => {
                line.push('=');
                line.push_str(digits);
            }
            Self::Time(time) => {
                line.push('=');
                push_time(time.0, line);
            }
            Self::Text(word) if !word.contains(' ') => {
                line.push('=');
                push_plain(word, line);
            }
            Self::Text(text) => quoted(line, |line| push_plain(text, line)),
            Self::Bytes(bytes) => quoted(line, |line| push_bytes(bytes, line)),
            Self::Headers(headers) => quoted(line, |line| push_headers(headers, line)),
        }
    }
}

fn quoted(line: &mut String, push: impl FnOnce(&mut String)) {
    line.push_str("=\"");
    push(line);
    line.push('"');
}

fn push_bytes(bytes: &[u8], line: &mut String) {
    push_plain(&String::from_utf8_lossy(bytes), line);
}

fn push_headers(headers: &[(&str, Option<&[u8]>)], line: &mut String) {
    for (at, (name, value)) in headers.iter().enumerate() {
        line.push_str(if at == 0 { "" } else { ", " });
        push_plain(name, line);
        line.push_str(": ");
        push_bytes(value.unwrap_or_default(), line);
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => match u64::try_from(*number) {
                Ok(number) => serializer.serialize_u64(number),
                Err(_) => serializer.serialize_i64(i64::try_from(*number).unwrap_or(i64::MIN)),
            },
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Hex(text) | Self::Text(text) => serializer.serialize_str(text),
            Self::Time(time) => serializer.serialize_i64(time.0),
            Self::Bytes(bytes) => JsonBytes::of(Some(bytes)).serialize(serializer),
            Self::Headers(headers) => serializer
                .collect_seq(headers.iter().map(|(name, value)| (name, JsonBytes::of(*value)))),
            Self::Missing => serializer.serialize_none(),
        }
    }
}

macro_rules! from_numbers {
    ($($number:ty),*) => {
        $(impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Self::Number(number.into())
            }
        })*
    };
}

from_numbers!(u8, u16, u32, u64, i16, i32, i64);

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number as i128)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value<'_> {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<UnixMs> for Value<'_> {
    fn from(time: UnixMs) -> Self {
        Self::Time(time)
    }
}

impl From<Incarnation> for Value<'_> {
    fn from(incarnation: Incarnation) -> Self {
        Self::Hex(incarnation.to_string())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// A checksum.
pub fn hex32(number: u32) -> Value<'static> {
    Value::Hex(format!("{number:08x}"))
}

/// A tag, or a sum of checksums.
pub fn hex64(number: u64) -> Value<'static> {
    Value::Hex(format!("{number:016x}"))
}

impl<'a> From<Vec<(&'a str, Option<&'a [u8]>)>> for Value<'a> {
    fn from(headers: Vec<(&'a str, Option<&'a [u8]>)>) -> Self {
        Self::Headers(headers)
    }
}
