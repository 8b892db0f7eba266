//! `mosquitto_pub`, once or again and again.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::tools::run_tool;

/// A `mosquitto_pub` that cannot get its reading acknowledged tries for ever; after this it is ended and counts for nothing.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);

/// Between two attempts when the gateway is away.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Runs `mosquitto_pub` against `mqtt` by QoS 1.
///
/// # Errors
/// If it does not end.
pub fn publish(mqtt: SocketAddr, arguments: &[&str]) -> Result<Output> {
    let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
    let mut all = vec!["-h", &host, "-p", &port, "-q", "1"];
    all.extend(arguments);
    run_tool("mosquitto_pub", &all, PUBLISH_PATIENCE)
}

/// A loop that publishes one reading after the other, each by a `mosquitto_pub` of its own.
#[derive(Debug)]
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<PublisherReport>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherReport {
    /// Its client identifier.
    pub client_id: String,
    /// The readings whose `mosquitto_pub` ended well.
    pub acked: Vec<String>,
    /// Those whose did not.
    pub failed: u32,
}

impl Publisher {
    /// Starts it; `version` is what `-V` takes.
    #[must_use]
    pub fn start(mqtt: SocketAddr, version: &'static str, client_id: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut report =
            PublisherReport { client_id: client_id.to_owned(), acked: Vec::new(), failed: 0 };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopping.load(Ordering::Acquire) {
                    break;
                }
                let reading = format!("{} {number}", report.client_id);
                let id = report.client_id.clone();
                let arguments = ["-V", version, "-i", &id, "-t", "loop", "-m", &reading];
                match publish(mqtt, &arguments) {
                    Ok(output) if output.status.success() => report.acked.push(reading),
                    Ok(_) | Err(_) => {
                        report.failed += 1;
                        std::thread::sleep(RETRY_DELAY);
                    }
                }
            }
            Ok(report)
        });
        Self { stop, thread }
    }

    /// Ends it after the current reading.
    ///
    /// # Errors
    /// If its thread panicked.
    pub fn finish(self) -> Result<PublisherReport> {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(report) => report,
            Err(_) => bail!("a publisher's thread panicked"),
        }
    }
}
