//! The gateway's settings: flags over environment over file over defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use gateway_core::mqtt::MqttLimits;
use gateway_core::spool::quota::Quota;
use process::{ListenerSpec, Protection};
use thiserror::Error;
use wire::limits::{MQTT_PACKET_BYTES_DEFAULT, MQTT_PACKET_BYTES_MAX};

use crate::tls::TlsFiles;

/// Flag of the MQTT listener.
pub const MQTT_LISTEN_FLAG: &str = "--mqtt-listen";

/// Flag of the HTTP listener.
pub const HTTP_LISTEN_FLAG: &str = "--http-listen";

const SPOOL_BYTES_DEFAULT: u64 = 1 << 30;
const CONNECTIONS_DEFAULT: usize = 10_000;
const CONNECTIONS_MAX: usize = 1_000_000;
/// Smallest useful limit: a CONNECT and a short reading.
const MQTT_PACKET_BYTES_MIN: usize = 1 << 10;
/// Between session records, in milliseconds.
const RECORD_INTERVAL_MS: u64 = 60_000;

process::layered! {
    /// What a gateway can be told, by flag, environment variable or TOML key of the same name.
    pub struct Config {
        /// Folder of the spool [default: ./culvert-gateway]
        data_dir: PathBuf = "CULVERT_GATEWAY_DATA_DIR",
        /// Where devices connect by MQTT [default: 127.0.0.1:1883]
        mqtt_listen: SocketAddr = "CULVERT_GATEWAY_MQTT_LISTEN",
        /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:8080]
        http_listen: SocketAddr = "CULVERT_GATEWAY_HTTP_LISTEN",
        /// The broker's uplink address, host:port [default: 127.0.0.1:4433]
        uplink_address: String = "CULVERT_GATEWAY_UPLINK_ADDRESS",
        /// The name in the broker's certificate [default: the host of uplink_address]
        uplink_server_name: String = "CULVERT_GATEWAY_UPLINK_SERVER_NAME",
        /// PEM file of the certificates that may sign the broker's
        tls_ca: PathBuf = "CULVERT_GATEWAY_TLS_CA",
        /// PEM file of the gateway's certificate chain; its common name is the gateway's id
        tls_cert: PathBuf = "CULVERT_GATEWAY_TLS_CERT",
        /// PEM file of the gateway's key
        tls_key: PathBuf = "CULVERT_GATEWAY_TLS_KEY",
        /// Most bytes of disk for the spool's database; its write-ahead log adds about 20 MiB, up to 100 under load [default: 1073741824]
        spool_bytes_max: u64 = "CULVERT_GATEWAY_SPOOL_BYTES_MAX",
        /// Largest MQTT packet in bytes, up to 4194304; costs that much memory per connection [default: 1048576]
        mqtt_packet_bytes_max: usize = "CULVERT_GATEWAY_MQTT_PACKET_BYTES_MAX",
        /// Most MQTT connections; further ones wait [default: 10000]
        mqtt_connections_max: usize = "CULVERT_GATEWAY_MQTT_CONNECTIONS_MAX",
        /// Listen without authentication on addresses that others can reach [default: false]
        insecure: bool = "CULVERT_GATEWAY_INSECURE",
    }
}

/// Why settings cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// A setting without a default is not set.
    #[error(
        "{0} is not set: a gateway needs a certificate that names it (`culvert up` makes one for trying things out)"
    )]
    Missing(&'static str),
    /// A value outside its range.
    #[error("{setting} is {value}, allowed are {min} to {max}")]
    Range {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value.
        min: u64,
        /// Greatest value.
        max: u64,
    },
    /// Not `host:port`.
    #[error("uplink_address is {0:?}, expected host:port")]
    UplinkAddress(String),
}

/// Settings with all defaults filled in and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder of the spool.
    pub data_dir: PathBuf,
    /// Where devices connect.
    pub mqtt_listen: SocketAddr,
    /// Where metrics and probes are served, if this process serves them itself.
    pub http_listen: SocketAddr,
    /// The broker's uplink address, `host:port`.
    pub uplink_address: String,
    /// The name in the broker's certificate.
    pub uplink_server_name: String,
    /// Certificates.
    pub tls: TlsFiles,
    /// The spool's budget.
    pub quota: Quota,
    /// Limits of an MQTT connection.
    pub limits: MqttLimits,
    /// MQTT connections that may be open.
    pub connections_max: usize,
    /// Between session records, in milliseconds.
    pub record_interval_ms: u64,
    /// What protects listeners that have no authentication.
    pub protection: Protection,
}

impl Config {
    /// Fills defaults in and checks what was given.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn resolve(self) -> Result<Settings, SettingError> {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let uplink_address = self.uplink_address.unwrap_or_else(|| "127.0.0.1:4433".into());
        let host = host_of(&uplink_address)?;
        let spool_bytes = self.spool_bytes_max.unwrap_or(SPOOL_BYTES_DEFAULT);
        range("spool_bytes_max", spool_bytes, Quota::BUDGET_BYTES_MIN, 1 << 46)?;
        let packet = self.mqtt_packet_bytes_max.unwrap_or(MQTT_PACKET_BYTES_DEFAULT) as u64;
        let (least, most) = (MQTT_PACKET_BYTES_MIN as u64, MQTT_PACKET_BYTES_MAX as u64);
        let packet = range("mqtt_packet_bytes_max", packet, least, most)?;
        let connections = self.mqtt_connections_max.unwrap_or(CONNECTIONS_DEFAULT);
        range("mqtt_connections_max", connections as u64, 1, CONNECTIONS_MAX as u64)?;
        let packet_len_max = u32::try_from(packet).ok().and_then(NonZeroU32::new);
        let limits = MqttLimits {
            packet_len_max: packet_len_max.unwrap_or(MqttLimits::default().packet_len_max),
            ..MqttLimits::default()
        };
        let insecure = self.insecure.unwrap_or(false);
        Ok(Settings {
            data_dir: self.data_dir.unwrap_or_else(|| "./culvert-gateway".into()),
            mqtt_listen: self.mqtt_listen.unwrap_or(loopback(1883)),
            http_listen: self.http_listen.unwrap_or(loopback(8080)),
            uplink_server_name: self.uplink_server_name.unwrap_or(host),
            uplink_address,
            tls: TlsFiles {
                ca: self.tls_ca.ok_or(SettingError::Missing("tls_ca"))?,
                cert: self.tls_cert.ok_or(SettingError::Missing("tls_cert"))?,
                key: self.tls_key.ok_or(SettingError::Missing("tls_key"))?,
            },
            quota: Quota::new(spool_bytes),
            limits,
            connections_max: connections,
            record_interval_ms: RECORD_INTERVAL_MS,
            protection: if insecure { Protection::Insecure } else { Protection::None },
        })
    }
}

fn range(setting: &'static str, value: u64, min: u64, max: u64) -> Result<u64, SettingError> {
    let error = SettingError::Range { setting, value, min, max };
    if (min..=max).contains(&value) { Ok(value) } else { Err(error) }
}

fn host_of(address: &str) -> Result<String, SettingError> {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
        }
        _ => Err(SettingError::UplinkAddress(address.to_owned())),
    }
}

impl Settings {
    /// Checks what a start would: listeners' safety and certificates. Opens and writes nothing.
    ///
    /// # Errors
    /// [`crate::StartError`].
    pub fn check(&self) -> Result<(), crate::StartError> {
        process::require_safe(&self.mqtt_listener(), self.protection)?;
        process::require_safe(&self.http_listener(), self.protection)?;
        crate::tls::load(&self.tls)?;
        Ok(())
    }

    /// The MQTT listener.
    #[must_use]
    pub fn mqtt_listener(&self) -> ListenerSpec {
        ListenerSpec { flag: MQTT_LISTEN_FLAG, address: self.mqtt_listen }
    }

    /// The HTTP listener.
    #[must_use]
    pub fn http_listener(&self) -> ListenerSpec {
        ListenerSpec { flag: HTTP_LISTEN_FLAG, address: self.http_listen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_tls() -> Config {
        Config {
            tls_ca: Some("ca.pem".into()),
            tls_cert: Some("gw.pem".into()),
            tls_key: Some("gw.key".into()),
            ..Config::default()
        }
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = with_tls().resolve().unwrap();
        assert_eq!(settings.mqtt_listen.to_string(), "127.0.0.1:1883");
        assert_eq!(settings.http_listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.uplink_address, "127.0.0.1:4433");
        assert_eq!(settings.uplink_server_name, "127.0.0.1");
        assert_eq!(settings.quota.budget_bytes(), 1_073_741_824);
        assert_eq!(settings.limits.packet_len_max.get(), 1_048_576);
        assert_eq!(settings.protection, Protection::None);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let cases: [(Config, &str); 5] = [
            (Config { spool_bytes_max: Some(1), ..with_tls() }, "spool_bytes_max is 1"),
            (Config { mqtt_packet_bytes_max: Some(5 << 20), ..with_tls() }, "5242880"),
            (Config { mqtt_connections_max: Some(0), ..with_tls() }, "mqtt_connections_max is 0"),
            (Config { uplink_address: Some("broker".into()), ..with_tls() }, "expected host:port"),
            (Config { tls_key: None, ..with_tls() }, "tls_key is not set"),
        ];
        for (config, expected) in cases {
            let message = config.resolve().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_ipv6_broker_keeps_its_brackets_where_they_belong() {
        let address = Some("[::1]:4433".to_owned());
        let settings = Config { uplink_address: address, ..with_tls() }.resolve().unwrap();
        assert_eq!(settings.uplink_server_name, "::1");
        assert_eq!(settings.uplink_address, "[::1]:4433");
    }
}
