//! A gateway and a broker as an operator runs them: each a process of its own, with certificates that one authority signed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::certificates::{Authority, Identity};
use crate::http::metric;
use crate::process::{Launch, Process};
use crate::settings::Tested;
use crate::stage::Stage;
use crate::wait::until;

/// Sizes of the broker's storage so small that within a second or two WAL files are rolled, sealed and sorted into units,
/// checkpoints written, and topics cut and compacted.
const SMALL_STORAGE: &[(&str, &str)] = &[
    ("--wal-file-bytes", "262144"),
    ("--tail-bytes", "65536"),
    ("--wal-ready-files", "1"),
    ("--checkpoint-bytes-min", "262144"),
    ("--space-checkpoint-ms", "100"),
    ("--l0-bytes-max", "600000"),
    ("--rewrite-bytes-min", "300000"),
    ("--own-unit-bytes", "200000"),
    ("--unit-bytes", "500000"),
    ("--maintenance-ms", "100"),
];

/// Figures are published right after the acknowledgements they count: one sample may be from just before.
const DELIVERED_SAMPLES: u32 = 5;

/// A gateway's and a broker's settings.
pub struct Site<'a> {
    /// Where it stands.
    pub stage: &'a Stage,
    /// Signs both certificates.
    pub authority: Authority,
    broker: Identity,
    gateway: Identity,
}

impl<'a> Site<'a> {
    /// The gateway's id.
    pub const GATEWAY: &'static str = "plant-1";

    /// Makes the certificates.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn new(stage: &'a Stage) -> Result<Self> {
        let authority = Authority::new(&stage.path("certs"), "authority")?;
        Ok(Self {
            stage,
            broker: authority.broker()?,
            gateway: authority.gateway(Self::GATEWAY)?,
            authority,
        })
    }

    /// The broker, to be started.
    ///
    /// # Errors
    /// If it is not built.
    pub fn broker(&self) -> Result<Launch> {
        let launch = Launch::new(self.stage, Tested::Broker)?
            .flag("--data-dir", self.stage.path("broker"))
            .flag("--kafka-listen", self.kafka().to_string())
            .flag("--quic-listen", self.quic().to_string())
            .flag("--http-listen", self.broker_http().to_string())
            .flag("--tls-cert", &self.broker.certificate)
            .flag("--tls-key", &self.broker.key)
            .flag("--tls-client-ca", &self.authority.certificate)
            // How full the disk of whoever runs this is says nothing.
            .env("CULVERT_BROKER_DISK_FREE_FLOOR_BYTES", "0");
        Ok(launch)
    }

    /// The broker with sizes so small that every part of its storage works all the time.
    ///
    /// # Errors
    /// If it is not built.
    pub fn small_storage_broker(&self) -> Result<Launch> {
        let broker = self.broker()?;
        Ok(SMALL_STORAGE.iter().fold(broker, |launch, (name, value)| launch.flag(name, value)))
    }

    /// The gateway, to be started.
    ///
    /// # Errors
    /// If it is not built.
    pub fn gateway(&self) -> Result<Launch> {
        let files = (&self.authority, &self.gateway);
        self.gateway_with("gateway", self.stage.address(Stage::MQTT_PORT), files)
    }

    /// A gateway whose data is in `folder`, on another MQTT address and with other certificates; its HTTP listener takes
    /// any port.
    ///
    /// # Errors
    /// If it is not built.
    pub fn other_gateway(
        &self,
        folder: &str,
        trusted: &Authority,
        own: &Identity,
    ) -> Result<Launch> {
        self.gateway_with(folder, self.stage.address(0), (trusted, own))
    }

    fn gateway_with(
        &self,
        folder: &str,
        mqtt: SocketAddr,
        (trusted, own): (&Authority, &Identity),
    ) -> Result<Launch> {
        let http_port = match mqtt.port() {
            0 => 0,
            _ => Stage::GATEWAY_HTTP_PORT,
        };
        let launch = Launch::new(self.stage, Tested::Gateway)?
            .flag("--data-dir", self.stage.path(folder))
            .flag("--mqtt-listen", mqtt.to_string())
            .flag("--http-listen", self.stage.address(http_port).to_string())
            .flag("--uplink-address", self.quic().to_string())
            .flag("--uplink-server-name", "localhost")
            .flag("--tls-ca", &trusted.certificate)
            .flag("--tls-cert", &own.certificate)
            .flag("--tls-key", &own.key);
        Ok(launch)
    }

    /// Where devices publish.
    #[must_use]
    pub fn mqtt(&self) -> SocketAddr {
        self.stage.address(Stage::MQTT_PORT)
    }

    /// Where consumers read.
    #[must_use]
    pub fn kafka(&self) -> SocketAddr {
        self.stage.address(Stage::KAFKA_PORT)
    }

    /// Where the gateway sends to.
    #[must_use]
    pub fn quic(&self) -> SocketAddr {
        self.stage.address(Stage::QUIC_PORT)
    }

    /// Where the gateway tells how it is.
    #[must_use]
    pub fn gateway_http(&self) -> SocketAddr {
        self.stage.address(Stage::GATEWAY_HTTP_PORT)
    }

    /// Where the broker tells how it is.
    #[must_use]
    pub fn broker_http(&self) -> SocketAddr {
        self.stage.address(Stage::BROKER_HTTP_PORT)
    }

    /// A metric of the gateway.
    ///
    /// # Errors
    /// If the gateway does not answer or does not have it.
    pub fn gateway_metric(&self, name: &str) -> Result<f64> {
        metric(self.gateway_http(), name)
    }
}

/// Waits until the gateway of `process` is connected and the log has acknowledged everything in its spool.
///
/// # Errors
/// If that does not happen within `patience`.
pub fn wait_until_delivered(process: &mut Process, patience: Duration) -> Result<()> {
    let http = process.address("http")?;
    let mut seen = 0;
    until("the gateway to deliver everything", patience, || {
        process.check_running()?;
        // A gateway that has just started has no figures yet.
        let spooled = metric(http, "culvert_gateway_spool_readings").unwrap_or(-1.0);
        let connected = metric(http, "culvert_gateway_uplink_connected").unwrap_or(0.0);
        let delivered = spooled == 0.0 && connected == 1.0;
        seen = if delivered { seen + 1 } else { 0 };
        Ok((seen == DELIVERED_SAMPLES).then_some(()))
    })
}

/// `culvert up` on any ports, with its data in `data`.
///
/// # Errors
/// If it is not built.
pub fn up(stage: &Stage) -> Result<Launch> {
    let mut launch =
        Launch::new(stage, Tested::Culvert)?.arg("up").flag("--data-dir", stage.path("data"));
    for flag in ["--mqtt-listen", "--kafka-listen", "--quic-listen", "--http-listen"] {
        launch = launch.flag(flag, stage.address(0).to_string());
    }
    Ok(launch)
}
