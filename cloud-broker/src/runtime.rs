//! Who owns what, and in which order it begins and ends.
//!
//! | part | owner | reached through |
//! |---|---|---|
//! | broker (log, metadata, who waits) | the engine's task | two mailboxes of 1,024 |
//! | WAL files being written | the WAL's thread | one slot in flight; events come back through a channel of 4 |
//! | sealing, checkpoints, giving space back | the housekeeping thread | one job; reports come back through a channel of 2 |
//! | sorting and key compaction | the compaction thread | the same |
//! | WAL files to come, what is left of the disk | the keeper's thread | reports come back through a watch |
//! | cold reads | eight at a time, on blocking threads | asked for by connections and the engine |
//! | `ctl/cluster` | one blocking write at a time, asked for by the engine | a channel of 1 |
//! | Kafka sockets | one task each | 64 requests in flight each |
//! | QUIC connections | one task each, and one for each stream | 64 frames in flight each |
//!
//! Begin: recover the log, which makes its OPEN slot durable; read the metadata; start the engine; listen. End: stop
//! accepting and reading, answer what is in flight, say goodbye; with the last connection the last handle of the engine
//! goes, which then finishes what is staged, has a last checkpoint made and lets go of the disk.

use std::net::SocketAddr;
use std::sync::Arc;

use broker_coordinator::GroupSettings;
use broker_core::{Broker, BrokerError, BrokerSettings, StoredError};
use process::{
    Clock, ListenError, ListenerSpec, Probe, Protection, Shutdown, ShutdownTrigger, bind_tcp,
    bind_udp, require_safe,
};
use quinn::{Endpoint, TokioRuntime};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cold_reader::ColdReader;
use crate::config::{HostPort, KAFKA_FLAG, QUIC_FLAG, Settings, SettingsError};
use crate::data_folder::OpenedData;
use crate::engine::{Engine, LogThreads, log_events, mailboxes};
use crate::health::Health;
use crate::ingest_quic::{self, UplinkShared};
use crate::kafka_tcp::{self, KafkaShared};
use crate::log_folder::WalError;
use crate::memory::{RequestMemory, ResponseMemory};
use crate::metrics;
use crate::quic_keys::QuicKeysError;
use crate::tls::{self, TlsError};

/// Why the broker does not start. Each says what the operator has to change.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Log and metadata do not belong together.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The metadata cannot be read or made.
    #[error("metadata: {0}")]
    Control(String),
    /// The system gives no randomness.
    #[error("no randomness from the system: {0}")]
    Entropy(getrandom::Error),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The stored metadata is damaged, or of a newer release.
    #[error("ctl/cluster: {0}")]
    Metadata(#[from] StoredError),
    /// The keys of QUIC cannot be read or made.
    #[error(transparent)]
    QuicKeys(#[from] QuicKeysError),
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Anything else the system says.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// TLS is not possible with these files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log cannot be opened.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// A broker that serves.
pub struct Running {
    /// Where Kafka clients connect.
    pub kafka_address: SocketAddr,
    /// Where gateways connect.
    pub quic_address: SocketAddr,
    /// How it is.
    pub probe: Arc<dyn Probe>,
    tasks: Tasks,
}

struct Tasks {
    kafka: JoinHandle<()>,
    uplink: JoinHandle<()>,
    engine: JoinHandle<()>,
}

impl Running {
    /// Waits until everything has ended, which begins when the end is requested of `start`'s `Shutdown`.
    pub async fn finished(self) {
        // A task that panicked has said so, and the others end all the same.
        let _ = self.tasks.kafka.await;
        let _ = self.tasks.uplink.await;
        let _ = self.tasks.engine.await;
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("kafka_address", &self.kafka_address)
            .field("quic_address", &self.quic_address)
            .finish_non_exhaustive()
    }
}

/// Checks what a start would, as far as that needs no port and writes nothing: settings, listeners' safety, certificates.
///
/// # Errors
/// [`StartError`].
pub fn check(settings: &Settings) -> Result<(), StartError> {
    settings.check()?;
    safe_kafka_listener(settings)?;
    tls::server_config(&settings.tls)?;
    Ok(())
}

fn safe_kafka_listener(settings: &Settings) -> Result<ListenerSpec, ListenError> {
    let kafka = ListenerSpec { flag: KAFKA_FLAG, address: settings.kafka_listen };
    let protection = if settings.insecure { Protection::Insecure } else { Protection::None };
    require_safe(&kafka, protection)?;
    Ok(kafka)
}

/// Opens the log and serves. Returns when clients can connect.
///
/// A failure of the log, now or later, is reported to `trigger` as fatal; nothing is acknowledged after it.
///
/// # Errors
/// [`StartError`]. Nothing keeps running then.
pub async fn start(
    settings: Settings,
    clock: Clock,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    settings.check()?;
    metrics::describe();
    // Listeners first: a busy port is found before the log is touched, and clients wait in the kernel's queue.
    let listeners = Listeners::bind(&settings)?;
    let tls = tls::server_config(&settings.tls)?;
    let (wal, space, log_reports) = log_events();
    let opening = {
        let (settings, clock) = (settings.clone(), clock);
        tokio::task::spawn_blocking(move || OpenedData::open(&settings, clock, wal, space))
    };
    let begun = clock.mono();
    let data = opening.await.map_err(std::io::Error::other)??;
    metrics::recovered(&data.log.report, clock.mono() - begun);
    let broker = Broker::new(
        broker_settings(&settings, listeners.kafka_address),
        &data.identity,
        data.log.log,
        data.image,
    )?;
    let endpoint = Endpoint::new(
        data.keys.endpoint_config(),
        Some(ingest_quic::server_config(tls, &data.keys)),
        listeners.quic,
        Arc::new(TokioRuntime),
    )?;

    let reader = ColdReader::new(data.log.folder);
    let threads = (data.log.keeper, data.log.writer);
    // The last step that can fail: that these threads end would end the process.
    let log = LogThreads::begin(&settings.storage, &reader, threads, log_reports, &trigger)?;
    let health = Arc::new(Health::new(clock));
    let (handle, mailboxes) = mailboxes();
    let ends = trigger.clone();
    let engine = Engine {
        broker,
        clock,
        control: Arc::new(data.control),
        health: Arc::clone(&health),
        log,
        trigger,
    };
    let request_memory = RequestMemory::new(settings.request_memory_bytes);
    let kafka = KafkaShared {
        engine: handle.clone(),
        reader,
        request_memory: request_memory.clone(),
        response_memory: ResponseMemory::new(settings.request_memory_bytes),
        connections_max: settings.kafka_connections_max,
    };
    let uplink = UplinkShared { engine: handle, request_memory };
    let kafka = kafka_tcp::serve(listeners.kafka, kafka, shutdown.clone());
    let uplink = ingest_quic::serve(endpoint, uplink, shutdown);
    let tasks = Tasks {
        engine: ends.spawn_vital("engine", engine.run(mailboxes)),
        kafka: ends.spawn_vital("kafka listener", kafka),
        uplink: ends.spawn_vital("uplink listener", uplink),
    };
    Ok(Running {
        kafka_address: listeners.kafka_address,
        quic_address: listeners.quic_address,
        probe: health,
        tasks,
    })
}

struct Listeners {
    kafka: TcpListener,
    kafka_address: SocketAddr,
    quic: std::net::UdpSocket,
    quic_address: SocketAddr,
}

impl Listeners {
    fn bind(settings: &Settings) -> Result<Self, StartError> {
        let kafka = bind_tcp(&safe_kafka_listener(settings)?)?;
        let quic = bind_udp(&ListenerSpec { flag: QUIC_FLAG, address: settings.quic_listen })?;
        Ok(Self {
            kafka_address: kafka.local_addr()?,
            kafka,
            quic_address: quic.local_addr()?,
            quic,
        })
    }
}

fn broker_settings(settings: &Settings, kafka_address: SocketAddr) -> BrokerSettings {
    let advertised = settings.kafka_advertise.clone();
    let advertised = advertised.unwrap_or_else(|| HostPort {
        host: kafka_address.ip().to_string(),
        port: kafka_address.port(),
    });
    BrokerSettings {
        advertised_host: advertised.host,
        advertised_port: advertised.port,
        log_dir: std::path::absolute(&settings.data_dir)
            .unwrap_or_else(|_| settings.data_dir.clone())
            .to_string_lossy()
            .into_owned(),
        auto_create_topics: settings.auto_create_topics,
        default_partitions: settings.default_partitions,
        replication_factor_max: settings.replication_factor_max,
        uplink_topics: settings.uplink_topics.clone(),
        offsets_partitions: settings.offsets_partitions,
        groups: GroupSettings {
            initial_rebalance_delay_ms: settings.group_initial_rebalance_delay_ms,
            offsets_retention_ms: settings.offsets_retention_minutes.saturating_mul(60_000),
        },
        retention: settings.retention,
    }
}
