//! A gateway and a broker as parts of this process: what the commands set of their settings, everything else at its
//! default.

mod dev_certs;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use process::{Clock, Shutdown, ShutdownTrigger};

pub use dev_certs::DevCerts;

/// The name under which the gateway knows the broker; its development certificate holds it.
const BROKER_NAME: &str = "localhost";

/// Where the parts listen and keep what they keep.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Folder of everything: `gateway/`, `broker/` and `dev-certs/`.
    pub data_dir: PathBuf,
    /// Name of the gateway in its certificate and in the log.
    pub gateway_id: String,
    /// Where devices publish.
    pub mqtt_listen: SocketAddr,
    /// Where consumers read.
    pub kafka_listen: SocketAddr,
    /// What Kafka clients are told to connect to, if not where it listens.
    pub kafka_advertise: Option<String>,
    /// Where the gateway connects.
    pub quic_listen: SocketAddr,
    /// Whether listeners without authentication may be open to others.
    pub insecure: bool,
}

impl Layout {
    /// Makes the folder, and the certificates that it lacks.
    ///
    /// # Errors
    /// If the folder cannot be written or the gateway's name cannot be in a certificate.
    pub fn prepare(&self, clock: Clock) -> Result<DevCerts> {
        let folder = &self.data_dir;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("--data-dir: cannot make {}", folder.display()))?;
        dev_certs::prepare(&folder.join("dev-certs"), &self.gateway_id, clock.wall())
    }
}

/// One part of the process, which can be ended by itself.
pub struct Part {
    /// Ends it.
    pub trigger: ShutdownTrigger,
    /// Waits for its end.
    pub shutdown: Shutdown,
}

impl Part {
    /// A part that has not been asked to end.
    pub fn new() -> Self {
        let (trigger, shutdown) = Shutdown::new();
        Self { trigger, shutdown }
    }
}

/// What the broker leaves free of the disk. A share of it, as for a broker of its own, would refuse to work on many a laptop.
const DISK_FREE_FLOOR_BYTES: u64 = 256 << 20;

/// Starts the broker with its data in `broker/`.
///
/// # Errors
/// If a listener is taken or the data cannot be read.
pub async fn start_broker(
    layout: &Layout,
    certs: &DevCerts,
    clock: Clock,
    part: &Part,
) -> Result<cloud_broker::Running> {
    let config = cloud_broker::Config {
        data_dir: Some(layout.data_dir.join("broker")),
        kafka_listen: Some(layout.kafka_listen),
        kafka_advertise: layout.kafka_advertise.clone(),
        quic_listen: Some(layout.quic_listen),
        tls_cert: Some(certs.broker.certificate.clone()),
        tls_key: Some(certs.broker.key.clone()),
        tls_client_ca: Some(certs.authority.clone()),
        insecure: Some(layout.insecure),
        disk_free_floor_bytes: Some(DISK_FREE_FLOOR_BYTES),
        ..cloud_broker::Config::default()
    };
    // The address for HTTP is not used: this process serves both parts on one, or none.
    let (settings, _) = config.resolve()?;
    let (trigger, shutdown) = (part.trigger.clone(), part.shutdown.clone());
    Ok(cloud_broker::start(settings, clock, trigger, shutdown).await?)
}

/// Starts the gateway with its data in `gateway/`, forwarding to `uplink`.
///
/// # Errors
/// As [`start_broker`].
pub async fn start_gateway(
    layout: &Layout,
    certs: &DevCerts,
    uplink: SocketAddr,
    clock: Clock,
    part: &Part,
) -> Result<edge_gateway::Running> {
    let config = edge_gateway::Config {
        data_dir: Some(layout.data_dir.join("gateway")),
        mqtt_listen: Some(layout.mqtt_listen),
        uplink_address: Some(uplink.to_string()),
        uplink_server_name: Some(BROKER_NAME.to_owned()),
        tls_ca: Some(certs.authority.clone()),
        tls_cert: Some(certs.gateway.certificate.clone()),
        tls_key: Some(certs.gateway.key.clone()),
        insecure: Some(layout.insecure),
        ..edge_gateway::Config::default()
    };
    let settings = config.resolve()?;
    let (trigger, shutdown) = (part.trigger.clone(), part.shutdown.clone());
    Ok(edge_gateway::start(settings, clock, trigger, shutdown).await?)
}

/// An address on this machine only; port 0 stands for any free one.
pub const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
