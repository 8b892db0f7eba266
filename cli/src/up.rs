//! `culvert up`: a gateway and a broker in one process, joined as two machines would be, over QUIC with certificates.

mod welcome;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use process::{
    Clock, ListenerSpec, Protection, announce, bind_tcp, init_logging, install_metrics,
    require_safe, serve, watch_signals,
};

use crate::parts::{self, Layout, Part, loopback};
use welcome::{Addresses, reachable};

/// Shown unless `CULVERT_LOG` says otherwise: the terminal belongs to the welcome.
const LOG_FILTER: &str = "warn";

/// How long threads that still read or write a file may take after everything else has ended.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(1);

/// What `culvert up` takes. Every address may have port 0: the real one is printed.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder for everything that is kept.
    #[arg(long, default_value = "./culvert-data")]
    data_dir: PathBuf,
    /// Where devices publish, over MQTT 3.1.1 or 5.
    #[arg(long, default_value_t = loopback(1883))]
    mqtt_listen: SocketAddr,
    /// Where consumers read, over the Kafka protocol.
    #[arg(long, default_value_t = loopback(9092))]
    kafka_listen: SocketAddr,
    /// HOST:PORT that Kafka clients are told to connect to; by default where it listens.
    #[arg(long)]
    kafka_advertise: Option<String>,
    /// Where gateways connect, over QUIC.
    #[arg(long, default_value_t = loopback(4433))]
    quic_listen: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, default_value_t = loopback(8080))]
    http_listen: SocketAddr,
    /// Name of this gateway in its certificate and in the log.
    #[arg(long, default_value = "gateway")]
    gateway_id: String,
    /// Allow listeners without authentication on addresses that are not loopback.
    #[arg(long)]
    insecure: bool,
}

/// Runs until a signal or a fatal error ends it: exit code 0 after a signal, 1 after an error.
pub fn run(arguments: &Arguments) -> ExitCode {
    init_logging(LOG_FILTER);
    match run_to_the_end(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_to_the_end(arguments: &Arguments) -> Result<()> {
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(up(arguments));
    runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
    outcome
}

/// The order is the point: the broker starts first and ends last, so that what the gateway has sent is answered.
async fn up(arguments: &Arguments) -> Result<()> {
    let clock = Clock::start();
    let metrics = install_metrics();
    let signals = Part::new();
    watch_signals(signals.trigger.clone());

    let http_spec = ListenerSpec { flag: "--http-listen", address: arguments.http_listen };
    require_safe(&http_spec, arguments.open_protection())?;
    let http_listener = bind_tcp(&http_spec)?;
    let layout = arguments.layout();
    let certs = layout.prepare(clock)?;

    let broker_part = Part::new();
    let broker = parts::start_broker(&layout, &certs, clock, &broker_part).await?;
    let gateway_part = Part::new();
    let uplink = reachable(broker.quic_address);
    let gateway = match parts::start_gateway(&layout, &certs, uplink, clock, &gateway_part).await {
        Ok(gateway) => gateway,
        Err(error) => {
            broker_part.trigger.stop();
            broker.finished().await;
            return Err(error);
        }
    };

    let addresses = Addresses {
        mqtt: gateway.mqtt_address,
        kafka: broker.kafka_address,
        quic: broker.quic_address,
        http: http_listener.local_addr()?,
    };
    let http_part = Part::new();
    let probes = vec![Arc::clone(&gateway.probe), Arc::clone(&broker.probe)];
    let http = tokio::spawn(serve(http_listener, probes, metrics, http_part.shutdown.clone()));
    greet(&addresses, &arguments.data_dir);

    tokio::select! {
        () = signals.shutdown.requested() => {}
        () = gateway_part.shutdown.requested() => {}
        () = broker_part.shutdown.requested() => {}
    }
    gateway_part.trigger.stop();
    gateway.finished().await;
    broker_part.trigger.stop();
    broker.finished().await;
    http_part.trigger.stop();
    http.await.context("the HTTP listener failed")?;

    let fatal = [gateway_part, broker_part, signals].iter().find_map(|part| part.trigger.outcome());
    fatal.map_or(Ok(()), |error| Err(error.into()))
}

impl Arguments {
    /// What protects a listener that has no authentication of its own.
    fn open_protection(&self) -> Protection {
        if self.insecure { Protection::Insecure } else { Protection::None }
    }

    fn layout(&self) -> Layout {
        Layout {
            data_dir: self.data_dir.clone(),
            gateway_id: self.gateway_id.clone(),
            mqtt_listen: self.mqtt_listen,
            kafka_listen: self.kafka_listen,
            kafka_advertise: self.kafka_advertise.clone(),
            quic_listen: self.quic_listen,
            insecure: self.insecure,
        }
    }
}

fn greet(addresses: &Addresses, data_dir: &Path) {
    announce("mqtt", addresses.mqtt);
    announce("kafka", addresses.kafka);
    announce("quic", addresses.quic);
    announce("http", addresses.http);
    // Whoever closed the output does not want to read it.
    let _ = std::io::stdout().write_all(welcome::text(addresses, data_dir).as_bytes());
}
