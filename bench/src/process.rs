//! Programs that are started, listened to, and ended.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Time for a server to start or to end.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Lines of a server's log that are shown when a load on it fails.
const LOG_LINES_SHOWN: usize = 20;

/// A server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`, whose output goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let errors = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    /// Waits until `address` takes connections.
    pub fn wait_for_listener(&mut self, address: SocketAddr) -> Result<()> {
        self.wait("listens", || Ok(TcpStream::connect(address).is_ok()))
    }

    /// Waits until `condition` holds.
    pub fn wait(&mut self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !condition()? {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}; see {}", self.log.display());
            }
            ensure!(begun.elapsed() < PATIENCE, "never {what}; see {}", self.log.display());
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn end(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "does not end; see {}", self.log.display());
            sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end and returns what it printed.
pub fn output(mut command: Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let errors = String::from_utf8_lossy(&done.stderr);
        bail!("{command:?} ended with {}: {text}{errors}", done.status);
    }
    Ok(text)
}

/// The path of what is called `name` in `folder`, where nothing is any more.
pub fn fresh(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(path)
}
