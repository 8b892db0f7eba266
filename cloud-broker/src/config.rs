//! Settings: what an operator writes ([`Config`]), and what the process runs on ([`Settings`]).

mod host_port;
mod storage;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use broker_coordinator::OFFSETS_TOPIC;
use broker_core::{RetentionDefaults, TOPIC_PARTITIONS_MAX};
use thiserror::Error;
use wire::limits::{DEFAULT_TOPIC, UPLINK_FRAME_BYTES_MAX, is_topic_name};

use crate::tls::TlsFiles;

pub use host_port::HostPort;
pub use storage::StorageSettings;

/// The flag of the Kafka listener, as errors name it.
pub(crate) const KAFKA_FLAG: &str = "--kafka-listen";

/// The flag of the uplink listener, as errors name it.
pub(crate) const QUIC_FLAG: &str = "--quic-listen";

/// Longest wait for more members of a group that may be set: clients give up a rebalance after five minutes by default.
const REBALANCE_DELAY_MS_MAX: u64 = 60_000;

/// Smallest memory for requests that may be set: its shares then have room for a full record batch each.
const REQUEST_MEMORY_BYTES_MIN: usize = 64 << 20;

const _: () = assert!(REQUEST_MEMORY_BYTES_MIN / 4 > UPLINK_FRAME_BYTES_MAX);

/// Files that the broker may have open beside Kafka connections: those that it reads and writes, HTTP connections, what the
/// runtime needs.
const FILES_RESERVED: u64 = 512;

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
        /// How long a file of the write-ahead log is written to at most, in milliseconds.
        wal_file_age_ms_max: u64 = "CULVERT_BROKER_WAL_FILE_AGE_MS_MAX",
        /// Files of the write-ahead log to keep ready: each takes the room of one.
        wal_ready_files: usize = "CULVERT_BROKER_WAL_READY_FILES",
        /// Bytes of the disk that must be free, or nothing is taken in; by default 5 %, at least 1 GiB.
        disk_free_floor_bytes: u64 = "CULVERT_BROKER_DISK_FREE_FLOOR_BYTES",
        /// How long a sync may take before the broker gives the disk up and ends, in milliseconds.
        sync_timeout_ms: u64 = "CULVERT_BROKER_SYNC_TIMEOUT_MS",
        /// Bytes of the write-ahead log from one checkpoint to the next, at least: what a start after a crash replays.
        checkpoint_bytes_min: u64 = "CULVERT_BROKER_CHECKPOINT_BYTES_MIN",
        /// Time between checkpoints that are only made to give space back, in milliseconds.
        space_checkpoint_ms: u64 = "CULVERT_BROKER_SPACE_CHECKPOINT_MS",
        /// Bytes of full WAL files with short runs beyond which the oldest are sorted into units; at most 25 % of the disk.
        l0_bytes_max: u64 = "CULVERT_BROKER_L0_BYTES_MAX",
        /// Runs in such files beyond which the oldest are sorted into units.
        l0_entries_max: u64 = "CULVERT_BROKER_L0_ENTRIES_MAX",
        /// Age at which such a file is sorted into units, in milliseconds.
        l0_age_ms_max: u64 = "CULVERT_BROKER_L0_AGE_MS_MAX",
        /// Bytes that are sorted at once, if there are so many.
        rewrite_bytes_min: u64 = "CULVERT_BROKER_REWRITE_BYTES_MIN",
        /// Bytes of a partition, in one sorting, that get units of their own.
        own_unit_bytes: u64 = "CULVERT_BROKER_OWN_UNIT_BYTES",
        /// Bytes of a unit.
        unit_bytes: u64 = "CULVERT_BROKER_UNIT_BYTES",
        /// Bytes per second that sorting and key compaction may write.
        compaction_bytes_per_second: u64 = "CULVERT_BROKER_COMPACTION_BYTES_PER_SECOND",
        /// How often retention and key compaction look for work, in milliseconds.
        maintenance_ms: u64 = "CULVERT_BROKER_MAINTENANCE_MS",
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
    /// How the log is kept on its disk.
    pub storage: StorageSettings,
    /// Memory for requests that are being received, and again as much for answers that are being read, in bytes.
    pub request_memory_bytes: usize,
    /// Most Kafka connections at a time; each costs two tasks and a few kilobytes.
    pub kafka_connections_max: usize,
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
            storage: StorageSettings::default(),
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
        self.storage.check()?;
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

impl Settings {
    /// The same for a process that may have so many files open; `None` means no limit. A connection is a file, and whoever opens
    /// too many of them must not keep the log from its next one: that would end the process.
    #[must_use]
    pub fn within_files(mut self, files: Option<u64>) -> Self {
        let left = files.map_or(u64::MAX, |files| files.saturating_sub(FILES_RESERVED).max(1));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left < self.kafka_connections_max {
            let wanted = self.kafka_connections_max;
            tracing::warn!(
                wanted,
                left,
                "kafka_connections_max is more than the system's limit of open files leaves"
            );
            self.kafka_connections_max = left;
        }
        self
    }
}

impl Config {
    /// The settings, with defaults for what is not set, and the address for HTTP.
    ///
    /// # Errors
    /// [`SettingsError`] names the setting that is missing or wrong.
    pub fn resolve(self) -> Result<(Settings, SocketAddr), SettingsError> {
        let mut storage = StorageSettings::default();
        storage.take(&self);
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
            storage,
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

#[cfg(test)]
mod tests;
