//! Gateway, broker and the line between them, for one demonstration.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use edge_gateway::Status;
use process::Clock;
use tokio::sync::watch;

use super::relay::Relay;
use crate::parts::{self, Layout, Part, loopback};

/// Name of the gateway in the log.
const GATEWAY_ID: &str = "demo";

/// Everything that runs besides the devices.
pub struct Site {
    /// The line between gateway and broker.
    pub relay: Relay,
    /// How the gateway stands.
    pub status: watch::Receiver<Status>,
    broker: cloud_broker::Running,
    broker_part: Part,
    gateway: edge_gateway::Running,
    gateway_part: Part,
}

impl Site {
    /// Starts broker, line and gateway on free ports, with their data in `folder`.
    ///
    /// # Errors
    /// If one of them cannot start; none is left running.
    pub async fn start(folder: &Path, clock: Clock) -> Result<Self> {
        let layout = Layout {
            data_dir: folder.to_owned(),
            gateway_id: GATEWAY_ID.to_owned(),
            mqtt_listen: loopback(0),
            kafka_listen: loopback(0),
            kafka_advertise: None,
            quic_listen: loopback(0),
            insecure: false,
        };
        let certs = layout.prepare(clock)?;
        let broker_part = Part::new();
        let broker = parts::start_broker(&layout, &certs, clock, &broker_part).await?;
        let gateway_part = Part::new();
        let behind = async {
            let relay = Relay::start(broker.quic_address).await.context("no relay")?;
            let uplink = relay.address();
            let gateway =
                parts::start_gateway(&layout, &certs, uplink, clock, &gateway_part).await?;
            Ok((relay, gateway))
        };
        match behind.await {
            Ok((relay, gateway)) => {
                let status = gateway.status.clone();
                Ok(Self { relay, status, broker, broker_part, gateway, gateway_part })
            }
            Err(error) => {
                broker_part.trigger.stop();
                broker.finished().await;
                Err(error)
            }
        }
    }

    /// Where devices publish.
    pub fn mqtt(&self) -> SocketAddr {
        self.gateway.mqtt_address
    }

    /// Where consumers read.
    pub fn kafka(&self) -> SocketAddr {
        self.broker.kafka_address
    }

    /// Waits for a part to fail, and says why it did.
    pub async fn failed(&self) -> anyhow::Error {
        let part = tokio::select! {
            () = self.broker_part.shutdown.requested() => &self.broker_part,
            () = self.gateway_part.shutdown.requested() => &self.gateway_part,
        };
        part.trigger.outcome().map_or_else(|| anyhow!("a part has ended by itself"), Into::into)
    }

    /// Ends everything in order: the gateway first, so that what it has sent is answered.
    pub async fn stop(self) {
        self.gateway_part.trigger.stop();
        self.gateway.finished().await;
        self.broker_part.trigger.stop();
        self.broker.finished().await;
    }
}
