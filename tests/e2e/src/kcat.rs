//! The log as `kcat` reads and writes it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::tools::run_tool;

const READ_PATIENCE: Duration = Duration::from_secs(120);
const PRODUCE_PATIENCE: Duration = Duration::from_secs(30);

/// Lengths first, then the bytes, then the headers up to the line's end: keys and values may hold anything.
const FORMAT: &str = "%p %o %T %K %S %k%s%h\\n";

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Partition.
    pub partition: u32,
    /// Offset.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Value, if it has one.
    pub value: Option<Vec<u8>>,
    /// Names and values; values that hold a comma cannot be told apart.
    pub headers: Vec<(String, String)>,
}

impl Record {
    /// The value of the first header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The key as text.
    #[must_use]
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value as text.
    #[must_use]
    pub fn value_text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// All records of a topic, by partition and within it in the order read; CRCs are checked.
///
/// # Errors
/// If kcat fails, or prints what is not a record.
pub fn read_topic(kafka: SocketAddr, topic: &str) -> Result<Vec<Record>> {
    let broker = kafka.to_string();
    #[rustfmt::skip]
    let arguments = [
        "-C", "-e", "-q", "-b", &broker, "-t", topic, "-o", "beginning",
        "-X", "check.crcs=true", "-X", "fetch.wait.max.ms=50", "-f", FORMAT,
    ];
    let output = run_tool("kcat", &arguments, READ_PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kcat failed: {complaint}");
    let mut records = parse(&output.stdout).with_context(|| format!("kcat said: {complaint}"))?;
    // Stable: within a partition the order of reading stays.
    records.sort_by_key(|record| record.partition);
    Ok(records)
}

/// Produces one record with `acks=-1` and waits until it is acknowledged.
///
/// # Errors
/// If it is not, within `timeout`.
pub fn produce(kafka: SocketAddr, topic: &str, value: &str, timeout: Duration) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("value");
    std::fs::write(&file, value)?;
    let (broker, file) = (kafka.to_string(), file.to_string_lossy().into_owned());
    let timeout = format!("message.timeout.ms={}", timeout.as_millis());
    #[rustfmt::skip]
    let arguments = [
        "-P", "-b", &broker, "-t", topic, "-X", "acks=-1", "-X", &timeout,
        "-X", "queue.buffering.max.ms=0", &file,
    ];
    let output = run_tool("kcat", &arguments, PRODUCE_PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !complaint.contains("Delivery failed"),
        "kcat failed: {complaint}"
    );
    Ok(())
}

fn parse(mut bytes: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let partition = number(&mut bytes)?;
        let offset = number(&mut bytes)?;
        let timestamp = number(&mut bytes)?;
        let (key_len, value_len) = (number(&mut bytes)?, number(&mut bytes)?);
        let key = piece(&mut bytes, key_len)?;
        let value = piece(&mut bytes, value_len)?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let end = end.context("a record has no end")?;
        let headers = parse_headers(&String::from_utf8_lossy(&bytes[..end]));
        bytes = &bytes[end + 1..];
        records.push(Record {
            partition: u32::try_from(partition)?,
            offset: u64::try_from(offset)?,
            timestamp,
            key,
            value,
            headers,
        });
    }
    Ok(records)
}

fn number(bytes: &mut &[u8]) -> Result<i64> {
    let end = bytes.iter().position(|byte| *byte == b' ');
    let (text, rest) = bytes.split_at(end.context("a number has no end")?);
    *bytes = &rest[1..];
    let text = std::str::from_utf8(text)?;
    text.parse().with_context(|| format!("{text:?} is not a number"))
}

/// `len` bytes; a length below 0 means null.
fn piece(bytes: &mut &[u8], len: i64) -> Result<Option<Vec<u8>>> {
    let Ok(len) = usize::try_from(len) else {
        return Ok(None);
    };
    let (piece, rest) = bytes.split_at_checked(len).context("a record is cut off")?;
    *bytes = rest;
    Ok(Some(piece.to_vec()))
}

fn parse_headers(text: &str) -> Vec<(String, String)> {
    let headers = text.split(',').filter(|header| !header.is_empty());
    headers
        .map(|header| match header.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (header.to_owned(), String::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_anything() {
        let printed = b"3 7 1700 2 4 k1a\nb a=1,b=x\n0 0 1 -1 0 \n";
        let records = parse(printed).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].partition, records[0].offset), (3, 7));
        assert_eq!(records[0].key.as_deref(), Some(&b"k1"[..]));
        assert_eq!(records[0].value.as_deref(), Some(&b"a\nb "[..]));
        assert_eq!(records[0].header("b"), Some("x"));
        assert_eq!((&records[1].key, records[1].value.as_deref()), (&None, Some(&b""[..])));
        assert!(records[1].headers.is_empty());
        assert!(parse(b"3 7 1700 2 400 k1a").is_err());
        assert!(parse(b"x").is_err());
    }
}
