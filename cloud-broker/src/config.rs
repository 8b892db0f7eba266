//! Settings: what an operator writes ([`Config`]), and what the process runs on ([`Settings`]).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use broker_coordinator::OFFSETS_TOPIC;
use broker_core::{RetentionDefaults, TOPIC_PARTITIONS_MAX};
use broker_log::SLOT_BYTES_MAX;
use thiserror::Error;
use wire::limits::{DEFAULT_TOPIC, UPLINK_FRAME_BYTES_MAX, is_topic_name};

use crate::tls::TlsFiles;

/// The flag of the Kafka listener, as errors name it.
pub(crate) const KAFKA_FLAG: &str = "--kafka-listen";

/// The flag of the uplink listener, as errors name it.
pub(crate) const QUIC_FLAG: &str = "--quic-listen";

/// Smallest WAL file that may be set: tests use small ones.
const WAL_FILE_BYTES_MIN: u32 = 64 << 10;

/// Largest WAL file that may be set: positions in it have 32 bits.
const WAL_FILE_BYTES_MAX: u32 = 2 << 30;

const _: () = assert!(WAL_FILE_BYTES_MAX as usize + SLOT_BYTES_MAX < u32::MAX as usize);

/// Longest wait for more members of a group that may be set: clients give up a rebalance after five minutes by default.
const REBALANCE_DELAY_MS_MAX: u64 = 60_000;

/// Smallest memory for requests that may be set: its shares then have room for a full record batch each.
const REQUEST_MEMORY_BYTES_MIN: usize = 64 << 20;

const _: () = assert!(REQUEST_MEMORY_BYTES_MIN / 4 > UPLINK_FRAME_BYTES_MAX);

process::layered! {
    /// What an operator may set: by flag, environment variable or key in the file, in this order.
    pub struct Config {
        /// Folder for everything that is kept.
        data_dir: PathBuf = "CULVERT_BROKER_DATA_DIR",
        /// Where Kafka clients connect.
        kafka_listen: SocketAddr = "CULVERT_BROKER_KAFKA_LISTEN",
        /// HOST:PORT that Kafka clients are told to connect to; by default where it listens.
        kafka_advertise: String = "CULVERT_BROKER_KAFKA_ADVERTISE",
        /// Where gateways connect, over QUIC (UDP).
        quic_listen: SocketAddr = "CULVERT_BROKER_QUIC_LISTEN",
        /// Where /metrics, /healthz and /readyz are served.
        http_listen: SocketAddr = "CULVERT_BROKER_HTTP_LISTEN",
        /// The broker's certificate for the uplink, in PEM, with the certificates between it and the root.
        tls_cert: PathBuf = "CULVERT_BROKER_TLS_CERT",
        /// The certificate's private key, in PEM.
        tls_key: PathBuf = "CULVERT_BROKER_TLS_KEY",
        /// The certificates that gateways' certificates must be signed by, in PEM.
        tls_client_ca: PathBuf = "CULVERT_BROKER_TLS_CLIENT_CA",
        /// Topics that gateways may append to, besides culvert.gateways.
        #[arg(value_delimiter = ',')]
        uplink_topics: Vec<String> = "CULVERT_BROKER_UPLINK_TOPICS",
        /// Allow the Kafka listener, which has no authentication yet, on an address that is not loopback.
        insecure: bool = "CULVERT_BROKER_INSECURE",
        /// Whether clients make topics by asking for them.
        auto_create_topics: bool = "CULVERT_BROKER_AUTO_CREATE_TOPICS",
        /// Partitions of topics that clients make by asking for them.
        default_partitions: u32 = "CULVERT_BROKER_DEFAULT_PARTITIONS",
        /// Partitions of __consumer_offsets, which is made when the first consumer group asks for its coordinator.
        offsets_partitions: u32 = "CULVERT_BROKER_OFFSETS_PARTITIONS",
        /// How long the offsets of a consumer group without members are kept, in minutes.
        offsets_retention_minutes: u64 = "CULVERT_BROKER_OFFSETS_RETENTION_MINUTES",
        /// How long an empty consumer group waits for more members after its first one, in milliseconds.
        group_initial_rebalance_delay_ms: u64 = "CULVERT_BROKER_GROUP_INITIAL_REBALANCE_DELAY_MS",
        /// How long records are kept of topics that do not set retention.ms, in milliseconds; -1: for ever.
        #[arg(allow_negative_numbers = true)]
        log_retention_ms: i64 = "CULVERT_BROKER_LOG_RETENTION_MS",
        /// Bytes of a partition beyond which its oldest records go, of topics that do not set retention.bytes; -1: no limit.
        #[arg(allow_negative_numbers = true)]
        log_retention_bytes: i64 = "CULVERT_BROKER_LOG_RETENTION_BYTES",
        /// Largest replication factor that clients may ask for when they make topics; everything is stored once.
        replication_factor_max: i16 = "CULVERT_BROKER_REPLICATION_FACTOR_MAX",
        /// Bytes of a file of the write-ahead log. Larger files are fewer.
        wal_file_bytes: u32 = "CULVERT_BROKER_WAL_FILE_BYTES",
        /// Memory for what was written last, in bytes: consumers at the end of the log are served from it.
        tail_bytes: usize = "CULVERT_BROKER_TAIL_BYTES",
        /// Memory for requests that are being received and answers that are being read, in bytes.
        request_memory_bytes: usize = "CULVERT_BROKER_REQUEST_MEMORY_BYTES",
        /// Most Kafka connections at a time.
        kafka_connections_max: usize = "CULVERT_BROKER_KAFKA_CONNECTIONS_MAX",
    }
}

/// What the process runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder for everything that is kept.
    pub data_dir: PathBuf,
    /// Where Kafka clients connect; port 0 lets the system choose.
    pub kafka_listen: SocketAddr,
    /// Where Kafka clients are told to connect; `None`: where it listens.
    pub kafka_advertise: Option<HostPort>,
    /// Where gateways connect; port 0 lets the system choose.
    pub quic_listen: SocketAddr,
    /// The uplink's certificates.
    pub tls: TlsFiles,
    /// Topics that gateways may append to, besides the control topic.
    pub uplink_topics: BTreeSet<String>,
    /// Whether the Kafka listener may be reached by strangers.
    pub insecure: bool,
    /// Whether clients make topics by asking for them, as Kafka's `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// Partitions of topics made that way, as Kafka's `num.partitions`.
    pub default_partitions: u32,
    /// Partitions of `__consumer_offsets`, as Kafka's `offsets.topic.num.partitions`. It is made once.
    pub offsets_partitions: u32,
    /// How long the offsets of a consumer group without members are kept, in minutes, as Kafka's
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: u64,
    /// How long an empty consumer group waits for more members, in milliseconds, as Kafka's
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u64,
    /// How long records are kept of topics that set nothing else, as Kafka's `log.retention.ms` and `log.retention.bytes`.
    pub retention: RetentionDefaults,
    /// Largest replication factor that clients may ask for. It says nothing here, and tools ask for what they are used to.
    pub replication_factor_max: i16,
    /// Bytes of a file of the write-ahead log.
    pub wal_file_bytes: u32,
    /// Memory for what was written last, in bytes.
    pub tail_bytes: usize,
    /// Memory for requests that are being received, and again as much for answers that are being read, in bytes.
    pub request_memory_bytes: usize,
    /// Most Kafka connections at a time; each costs two tasks and a few kilobytes.
    pub kafka_connections_max: usize,
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why settings cannot be used: the operator must mend the named one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}: {detail}")]
pub struct SettingsError {
    /// The setting.
    pub key: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl Settings {
    /// Defaults: loopback addresses, Kafka's own defaults for topics.
    #[must_use]
    pub fn new(data_dir: PathBuf, tls: TlsFiles) -> Self {
        Self {
            data_dir,
            kafka_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            kafka_advertise: None,
            quic_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4433)),
            tls,
            uplink_topics: BTreeSet::from([DEFAULT_TOPIC.to_owned()]),
            insecure: false,
            auto_create_topics: true,
            default_partitions: 1,
            offsets_partitions: 50,
            offsets_retention_minutes: 7 * 24 * 60,
            group_initial_rebalance_delay_ms: 3_000,
            retention: RetentionDefaults::default(),
            replication_factor_max: 3,
            wal_file_bytes: 128 << 20,
            tail_bytes: 64 << 20,
            request_memory_bytes: 256 << 20,
            kafka_connections_max: 10_000,
        }
    }

    /// Checks the relations that types do not hold. [`crate::start`] does it too.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        let wrong = |key, detail: String| Err(SettingsError { key, detail });
        if let Some(name) = self.uplink_topics.iter().find(|name| !is_topic_name(name)) {
            return wrong("uplink_topics", format!("{name:?} is not a topic name"));
        }
        if self.uplink_topics.contains(OFFSETS_TOPIC) {
            return wrong("uplink_topics", format!("{OFFSETS_TOPIC} belongs to the broker"));
        }
        for (key, partitions) in [
            ("default_partitions", self.default_partitions),
            ("offsets_partitions", self.offsets_partitions),
        ] {
            if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
                let detail = format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions");
                return wrong(key, detail);
            }
        }
        if self.group_initial_rebalance_delay_ms > REBALANCE_DELAY_MS_MAX {
            let detail = format!("at most {REBALANCE_DELAY_MS_MAX} ms");
            return wrong("group_initial_rebalance_delay_ms", detail);
        }
        if self.replication_factor_max < 1 {
            return wrong("replication_factor_max", "at least 1".to_owned());
        }
        if !(WAL_FILE_BYTES_MIN..=WAL_FILE_BYTES_MAX).contains(&self.wal_file_bytes) {
            let detail = format!("{WAL_FILE_BYTES_MIN} to {WAL_FILE_BYTES_MAX} bytes");
            return wrong("wal_file_bytes", detail);
        }
        if self.request_memory_bytes < REQUEST_MEMORY_BYTES_MIN {
            let detail = format!("at least {REQUEST_MEMORY_BYTES_MIN} bytes");
            return wrong("request_memory_bytes", detail);
        }
        if self.kafka_connections_max == 0 {
            return wrong("kafka_connections_max", "at least 1".to_owned());
        }
        Ok(())
    }
}

impl Config {
    /// The settings, with defaults for what is not set, and the address for HTTP.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting that is missing or wrong.
    pub fn resolve(self) -> Result<(Settings, SocketAddr), SettingsError> {
        let required = |key, value: Option<PathBuf>| {
            value.ok_or(SettingsError { key, detail: "must be set".to_owned() })
        };
        let tls = TlsFiles {
            cert: required("tls_cert", self.tls_cert)?,
            key: required("tls_key", self.tls_key)?,
            client_ca: required("tls_client_ca", self.tls_client_ca)?,
        };
        let defaults = Settings::new(required("data_dir", self.data_dir)?, tls);
        let advertise = self.kafka_advertise.as_deref().map(HostPort::parse);
        let topics = self.uplink_topics.map(BTreeSet::from_iter);
        let keep = defaults.retention;
        let retention = RetentionDefaults {
            ms: limit("log_retention_ms", self.log_retention_ms, keep.ms)?,
            bytes: limit("log_retention_bytes", self.log_retention_bytes, keep.bytes)?,
        };
        let settings = Settings {
            kafka_listen: self.kafka_listen.unwrap_or(defaults.kafka_listen),
            kafka_advertise: advertise.transpose()?,
            quic_listen: self.quic_listen.unwrap_or(defaults.quic_listen),
            uplink_topics: topics.unwrap_or(defaults.uplink_topics),
            insecure: self.insecure.unwrap_or(defaults.insecure),
            auto_create_topics: self.auto_create_topics.unwrap_or(defaults.auto_create_topics),
            default_partitions: self.default_partitions.unwrap_or(defaults.default_partitions),
            offsets_partitions: self.offsets_partitions.unwrap_or(defaults.offsets_partitions),
            offsets_retention_minutes: self
                .offsets_retention_minutes
                .unwrap_or(defaults.offsets_retention_minutes),
            group_initial_rebalance_delay_ms: self
                .group_initial_rebalance_delay_ms
                .unwrap_or(defaults.group_initial_rebalance_delay_ms),
            retention,
            replication_factor_max: self
                .replication_factor_max
                .unwrap_or(defaults.replication_factor_max),
            wal_file_bytes: self.wal_file_bytes.unwrap_or(defaults.wal_file_bytes),
            tail_bytes: self.tail_bytes.unwrap_or(defaults.tail_bytes),
            request_memory_bytes: self
                .request_memory_bytes
                .unwrap_or(defaults.request_memory_bytes),
            kafka_connections_max: self
                .kafka_connections_max
                .unwrap_or(defaults.kafka_connections_max),
            data_dir: defaults.data_dir,
            tls: defaults.tls,
        };
        settings.check()?;
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
        Ok((settings, self.http_listen.unwrap_or(http)))
    }
}

/// A limit as Kafka writes it, with −1 for none.
fn limit(
    key: &'static str,
    wanted: Option<i64>,
    default: Option<u64>,
) -> Result<Option<u64>, SettingsError> {
    match wanted {
        None => Ok(default),
        Some(-1) => Ok(None),
        Some(limit) => u64::try_from(limit)
            .map(Some)
            .map_err(|_| SettingsError { key, detail: "from 0 on, or -1 for no limit".to_owned() }),
    }
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

#[cfg(test)]
mod tests {
    use process::Layer;

    use super::*;

    fn minimal() -> Config {
        Config {
            data_dir: Some("/data".into()),
            tls_cert: Some("cert.pem".into()),
            tls_key: Some("key.pem".into()),
            tls_client_ca: Some("ca.pem".into()),
            ..Config::default()
        }
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let (settings, http) = minimal().resolve().unwrap();
        let expected = Settings::new(
            "/data".into(),
            TlsFiles { cert: "cert.pem".into(), key: "key.pem".into(), client_ca: "ca.pem".into() },
        );
        assert_eq!(settings, expected);
        assert_eq!(http.to_string(), "127.0.0.1:8081");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let config = |change: fn(&mut Config)| {
            let mut config = minimal();
            change(&mut config);
            config
        };
        let cases = [
            (config(|c| c.data_dir = None), "data_dir"),
            (config(|c| c.tls_key = None), "tls_key"),
            (config(|c| c.uplink_topics = Some(vec!["a b".into()])), "uplink_topics"),
            (config(|c| c.uplink_topics = Some(vec![OFFSETS_TOPIC.into()])), "uplink_topics"),
            (config(|c| c.default_partitions = Some(0)), "default_partitions"),
            (config(|c| c.offsets_partitions = Some(0)), "offsets_partitions"),
            (
                config(|c| c.group_initial_rebalance_delay_ms = Some(60_001)),
                "group_initial_rebalance_delay_ms",
            ),
            (config(|c| c.log_retention_ms = Some(-2)), "log_retention_ms"),
            (config(|c| c.log_retention_bytes = Some(-2)), "log_retention_bytes"),
            (config(|c| c.replication_factor_max = Some(0)), "replication_factor_max"),
            (config(|c| c.wal_file_bytes = Some(1)), "wal_file_bytes"),
            (config(|c| c.request_memory_bytes = Some(1)), "request_memory_bytes"),
            (config(|c| c.kafka_advertise = Some("broker".into())), "kafka_advertise"),
        ];
        for (config, key) in cases {
            assert_eq!(config.resolve().unwrap_err().key, key);
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Config { default_partitions: Some(3), ..Config::default() };
        let file = Config { default_partitions: Some(5), insecure: Some(true), ..minimal() };
        let (settings, _) = flags.over(file).resolve().unwrap();
        assert_eq!((settings.default_partitions, settings.insecure), (3, true));
    }

    #[test]
    fn minus_one_is_no_limit() {
        let of = |ms, bytes| {
            let wanted = Config { log_retention_ms: ms, log_retention_bytes: bytes, ..minimal() };
            let retention = wanted.resolve().unwrap().0.retention;
            (retention.ms, retention.bytes)
        };
        assert_eq!(of(None, None), (Some(604_800_000), None));
        assert_eq!(of(Some(-1), Some(5)), (None, Some(5)));
        assert_eq!(of(Some(0), Some(-1)), (Some(0), None));
    }

    #[test]
    fn advertised_addresses_are_hosts_with_ports() {
        for (text, expected) in [
            ("broker.example:9092", Some(("broker.example", 9092))),
            ("10.0.0.1:19092", Some(("10.0.0.1", 19092))),
            ("[::1]:9092", Some(("::1", 9092))),
            ("::1:9092", None),
            (":9092", None),
            ("broker:0", None),
            ("broker:99999", None),
            ("broker", None),
        ] {
            let parsed = HostPort::parse(text).ok();
            let found = parsed.as_ref().map(|p| (p.host.as_str(), p.port));
            assert_eq!(found, expected, "{text}");
        }
    }
}
