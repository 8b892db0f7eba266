//! `mosquitto_pub`, once or again and again, and `mosquitto_sub`.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::tools::run_tool;
use crate::wait::{PATIENCE, until};

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

/// What a subscriber prints before each message, to tell it from what it says of itself.
const MESSAGE_PREFIX: &str = "message ";

/// A `mosquitto_sub` at work; killed when dropped, so that its will is published.
#[derive(Debug)]
pub struct Subscriber {
    child: Child,
    out: NamedTempFile,
}

impl Subscriber {
    /// Starts it and waits until all its subscriptions are answered. Every message is printed by `format`, as `-F` has it.
    ///
    /// # Errors
    /// If it does not come so far.
    pub fn start(mqtt: SocketAddr, format: &str, arguments: &[&str]) -> Result<Self> {
        let out = NamedTempFile::new()?;
        // It says that it has subscribed, but keeps that to itself without a terminal. `stdbuf` becomes the program.
        let child = Command::new("stdbuf")
            .args([
                "-oL",
                "mosquitto_sub",
                "-d",
                "-h",
                &mqtt.ip().to_string(),
                "-p",
                &mqtt.port().to_string(),
            ])
            .args(["-F", &format!("{MESSAGE_PREFIX}{format}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.as_file().try_clone()?)
            .stderr(out.as_file().try_clone()?)
            .spawn()
            .context("cannot start mosquitto_sub")?;
        let subscriber = Self { child, out };
        until("a SUBACK", PATIENCE, || {
            Ok(subscriber.output()?.contains("Subscribed (mid").then_some(()))
        })?;
        Ok(subscriber)
    }

    /// Waits until it has at least `count` messages, and gives all that it has.
    ///
    /// # Errors
    /// If they do not come.
    pub fn messages(&self, count: usize) -> Result<Vec<String>> {
        let found = until(&format!("{count} messages"), PATIENCE, || {
            let messages = self.received()?;
            Ok((messages.len() >= count).then_some(messages))
        });
        match found {
            Ok(messages) => Ok(messages),
            Err(error) => Err(error.context(self.output()?)),
        }
    }

    /// The messages that it has now.
    ///
    /// # Errors
    /// If its output cannot be read.
    pub fn received(&self) -> Result<Vec<String>> {
        let output = self.output()?;
        // A line counts when it is whole.
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let messages = whole.lines().filter_map(|line| line.strip_prefix(MESSAGE_PREFIX));
        Ok(messages.map(str::to_owned).collect())
    }

    /// Everything that it has printed.
    ///
    /// # Errors
    /// If its output cannot be read.
    pub fn output(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.out.path())?).into_owned())
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
