//! What an operator's tools ask over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers, in small letters.
    pub headers: String,
    /// Body.
    pub body: String,
}

/// GETs `path`.
///
/// # Errors
/// If there is no answer.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    request(address, "GET", path)
}

/// Asks for `path` by `method`.
///
/// # Errors
/// If there is no answer.
pub fn request(address: SocketAddr, method: &str, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("no HTTP at {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: culvert\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) =
        text.split_once("\r\n\r\n").with_context(|| format!("not an HTTP answer: {text:?}"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.with_context(|| format!("no status in {head:?}"))?,
        headers: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

/// The value of a metric; the sum where it has labels.
///
/// # Errors
/// If there is no such metric.
pub fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    let text = get(address, "/metrics")?.body;
    value_of(&text, name).with_context(|| format!("no metric {name} in:\n{text}"))
}

fn value_of(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Otherwise it is a longer name.
        let rest = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest,
        };
        rest.strip_prefix(' ')?.trim().parse::<f64>().ok()
    });
    samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "# TYPE a counter\na_total 7\na{x=\"1\"} 2\na{x=\"}\"} 3\n\nb 1.5\n";
        assert_eq!(value_of(text, "a"), Some(5.0));
        assert_eq!(value_of(text, "a_total"), Some(7.0));
        assert_eq!(value_of(text, "b"), Some(1.5));
        assert_eq!(value_of(text, "c"), None);
    }
}
