//! The `cloud-broker` command.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cloud_broker::{Config, Settings, start};
use process::{
    Clock, Layer, ListenerSpec, Protection, Shutdown, ShutdownTrigger, announce, bind_tcp,
    init_logging, install_metrics, read_toml, require_safe, serve, watch_signals,
};

/// Shown unless `CULVERT_LOG` says otherwise.
const LOG_FILTER: &str = "info";

/// How long threads that still read or write a file may take after everything else has ended.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Culvert's broker: a partitioned log that gateways write to over QUIC and consumers read over the Kafka protocol.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// TOML file with settings; flags and environment variables win over it.
    #[arg(long, env = "CULVERT_BROKER_CONFIG")]
    config: Option<PathBuf>,
    /// Check settings and certificates, and exit.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    flags: Config,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    init_logging(LOG_FILTER);
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let file = match &arguments.config {
        Some(path) => read_toml(path)?,
        None => Config::default(),
    };
    let insecure = arguments.flags.insecure.or(file.insecure).unwrap_or(false);
    let (settings, http) = arguments.flags.over(file).resolve()?;
    let http = ListenerSpec { flag: "--http-listen", address: http };
    let protection = if insecure { Protection::Insecure } else { Protection::None };
    require_safe(&http, protection)?;
    if arguments.check {
        cloud_broker::check(&settings)?;
        tracing::info!("the settings are fine");
        return Ok(());
    }
    let settings = settings.within_files(process::raise_file_limit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(broker(settings, &http));
    runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
    outcome
}

/// One processor is left to the thread that writes the log. With a worker for each of two processors, every packet woke the
/// worker that had nothing to do, and the broker took a fifth more processor time for a record of 1 KiB.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
}

async fn broker(settings: Settings, http: &ListenerSpec) -> Result<(), Failure> {
    let metrics = install_metrics();
    let (trigger, shutdown) = Shutdown::new();
    watch_signals(trigger.clone());
    let http = bind_tcp(http)?;
    let http_address = http.local_addr()?;

    let starting = start(settings, Clock::start(), trigger.clone(), shutdown.clone());
    let running = tokio::select! {
        running = starting => running?,
        // A long log or a disk that hangs keeps nobody from ending: nothing is served yet, and a start can be cut off anywhere.
        () = shutdown.requested() => return outcome(&trigger),
    };
    // Probes are answered until the broker has ended, so that they see it end.
    let (http_trigger, http_shutdown) = Shutdown::new();
    let probes = vec![Arc::clone(&running.probe)];
    let serving = tokio::spawn(serve(http, probes, metrics, http_shutdown));
    announce("kafka", running.kafka_address);
    announce("quic", running.quic_address);
    announce("http", http_address);

    shutdown.requested().await;
    running.finished().await;
    http_trigger.stop();
    serving.await?;
    outcome(&trigger)
}

fn outcome(trigger: &ShutdownTrigger) -> Result<(), Failure> {
    trigger.outcome().map_or(Ok(()), |error| Err(error.into()))
}
