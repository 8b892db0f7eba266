//! The `edge-gateway` process.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use edge_gateway::{Config, Settings};
use process::{Clock, Layer, Shutdown};

/// Takes readings by MQTT, keeps them on its disk, and forwards them to a Culvert broker.
#[derive(Debug, Parser)]
#[command(name = "edge-gateway", version)]
struct Arguments {
    /// TOML file with settings
    #[arg(long, env = "CULVERT_GATEWAY_CONFIG")]
    config: Option<PathBuf>,
    /// Check settings and certificates, and end
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    settings: Config,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::init_logging("info");
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let file = match &arguments.config {
        Some(path) => process::read_toml(path)?,
        None => Config::default(),
    };
    let settings = arguments.settings.over(file).resolve()?;
    if arguments.check {
        settings.check()?;
        tracing::info!("settings are fine");
        return Ok(());
    }
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let (trigger, shutdown) = Shutdown::new();
    process::watch_signals(trigger.clone());
    let metrics = process::install_metrics();
    let http = settings.http_listener();
    process::require_safe(&http, settings.protection)?;
    let listener = process::bind_tcp(&http)?;
    let http_address = listener.local_addr()?;
    let running =
        edge_gateway::start(settings, Clock::start(), trigger.clone(), shutdown.clone()).await?;
    process::announce("mqtt", running.mqtt_address);
    process::announce("http", http_address);
    let probes = vec![running.probe.clone()];
    let http = tokio::spawn(process::serve(listener, probes, metrics, shutdown));
    running.finished().await;
    http.await?;
    match trigger.outcome() {
        Some(fatal) => Err(fatal.into()),
        None => Ok(()),
    }
}
