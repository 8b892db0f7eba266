//! Addresses that others are told.

use super::SettingsError;

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// [`SettingsError`] of `kafka_advertise`.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let wrong = || SettingsError {
            key: "kafka_advertise",
            detail: format!("{text:?} is not HOST:PORT"),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bracketed {
            Some(address) => address,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        match port {
            Some(port) if !host.is_empty() && host.len() <= HOST_BYTES_MAX => {
                Ok(Self { host: host.to_owned(), port })
            }
            Some(_) | None => Err(wrong()),
        }
    }
}

/// Longest name that DNS knows.
const HOST_BYTES_MAX: usize = 255;
