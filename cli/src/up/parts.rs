//! The two processes as parts of this one: what `culvert up` sets of their settings, everything else at its default.

use std::net::SocketAddr;

use anyhow::Result;
use process::Clock;

use super::dev_certs::DevCerts;
use super::{Arguments, Part, welcome};

/// The name under which the gateway knows the broker; its development certificate holds it.
const BROKER_NAME: &str = "localhost";

/// Starts the broker with its data in `broker/`.
///
/// # Errors
/// If a listener is taken or the data cannot be read.
pub async fn start_broker(
    arguments: &Arguments,
    certs: &DevCerts,
    clock: Clock,
    part: &Part,
) -> Result<cloud_broker::Running> {
    let config = cloud_broker::Config {
        data_dir: Some(arguments.data_dir.join("broker")),
        kafka_listen: Some(arguments.kafka_listen),
        kafka_advertise: arguments.kafka_advertise.clone(),
        quic_listen: Some(arguments.quic_listen),
        tls_cert: Some(certs.broker.certificate.clone()),
        tls_key: Some(certs.broker.key.clone()),
        tls_client_ca: Some(certs.authority.clone()),
        insecure: Some(arguments.insecure),
        ..cloud_broker::Config::default()
    };
    // The address for HTTP is not used: this process serves both parts on one.
    let (settings, _) = config.resolve()?;
    let (trigger, shutdown) = (part.trigger.clone(), part.shutdown.clone());
    Ok(cloud_broker::start(settings, clock, trigger, shutdown).await?)
}

/// Starts the gateway with its data in `gateway/`, forwarding to the broker that listens on `uplink`.
///
/// # Errors
/// As [`start_broker`].
pub async fn start_gateway(
    arguments: &Arguments,
    certs: &DevCerts,
    uplink: SocketAddr,
    clock: Clock,
    part: &Part,
) -> Result<edge_gateway::Running> {
    let config = edge_gateway::Config {
        data_dir: Some(arguments.data_dir.join("gateway")),
        mqtt_listen: Some(arguments.mqtt_listen),
        uplink_address: Some(welcome::reachable(uplink).to_string()),
        uplink_server_name: Some(BROKER_NAME.to_owned()),
        tls_ca: Some(certs.authority.clone()),
        tls_cert: Some(certs.gateway.certificate.clone()),
        tls_key: Some(certs.gateway.key.clone()),
        insecure: Some(arguments.insecure),
        ..edge_gateway::Config::default()
    };
    let settings = config.resolve()?;
    let (trigger, shutdown) = (part.trigger.clone(), part.shutdown.clone());
    Ok(edge_gateway::start(settings, clock, trigger, shutdown).await?)
}
