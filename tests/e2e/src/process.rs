//! A process: started, listened to, killed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::PipeWriter;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::settings::Tested;
use crate::stage::Stage;
use crate::wait::{PATIENCE, until};

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A process that is about to be started.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    arguments: Vec<String>,
    flags: BTreeMap<String, OsString>,
    out: PathBuf,
    log: PathBuf,
    /// What it logs goes here instead.
    unread: Option<PipeWriter>,
    listeners: &'static [&'static str],
}

impl Launch {
    /// A program under test, with nothing set: variables of the surroundings that begin with `CULVERT_` are not handed on.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn new(stage: &Stage, tested: Tested) -> Result<Self> {
        let listeners: &[&str] = match tested {
            Tested::Broker => &["kafka", "quic", "http"],
            Tested::Culvert => &["mqtt", "kafka", "quic", "http"],
            Tested::Gateway => &["mqtt", "http"],
        };
        Ok(Self { listeners, ..Self::foreign(stage, &tested.path()?) })
    }

    /// A program that is not ours.
    #[must_use]
    pub fn foreign(stage: &Stage, path: &Path) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let program = path.file_name().unwrap_or_default().to_string_lossy();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let out = stage.path(&format!("{number:03}-{program}.out.log"));
        let log = stage.path(&format!("{number:03}-{program}.err.log"));
        let mut command = Command::new(path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CULVERT_") {
                command.env_remove(name);
            }
        }
        Self {
            command,
            arguments: Vec::new(),
            flags: BTreeMap::new(),
            out,
            log,
            unread: None,
            listeners: &[],
        }
    }

    /// Sets a flag, in place of the value that it has.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.flags.insert(name.to_owned(), value);
        self
    }

    /// Adds an argument without a value.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Lets it log to somebody who has gone.
    ///
    /// # Errors
    /// If the system has no pipe.
    pub fn unread(mut self) -> Result<Self> {
        let (_, writer) = std::io::pipe()?;
        self.unread = Some(writer);
        Ok(self)
    }

    /// Starts it, without waiting for anything.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(mut self) -> Result<Process> {
        self.command.args(&self.arguments);
        for (name, value) in &self.flags {
            self.command.arg(name).arg(value);
        }
        let log = File::create(&self.log)?;
        let log = self.unread.map_or_else(|| Stdio::from(log), Stdio::from);
        self.command.stdin(Stdio::null()).stdout(File::create(&self.out)?).stderr(log);
        let started = Instant::now();
        let child = self.command.spawn();
        let child = child.with_context(|| format!("cannot start {:?}", self.command))?;
        Ok(Process { child, ended: None, out: self.out, log: self.log, started })
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// If it cannot be started, or ends instead.
    pub fn start(self) -> Result<Process> {
        let listeners = self.listeners;
        let mut process = self.spawn()?;
        for name in listeners {
            process.address(name)?;
        }
        Ok(process)
    }
}

/// A process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    ended: Option<ExitStatus>,
    out: PathBuf,
    log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Process {
    /// Where it listens for `name`, as soon as it says so.
    ///
    /// # Errors
    /// If it ends instead, or says nothing.
    pub fn address(&mut self, name: &str) -> Result<SocketAddr> {
        let prefix = format!("listening {name} ");
        until(&format!("\"{prefix}…\""), PATIENCE, || {
            let text = self.output();
            // A line counts when it is whole.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let line = whole.lines().find_map(|line| line.strip_prefix(&prefix));
            if let Some(address) = line {
                return Ok(Some(address.parse()?));
            }
            if let Some(status) = self.poll_end()? {
                bail!("it ended with {status} instead of listening:\n{}", self.log());
            }
            Ok(None)
        })
    }

    /// What it has printed on standard output.
    #[must_use]
    pub fn output(&self) -> String {
        read(&self.out)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// How often `text` is in its log.
    #[must_use]
    pub fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Waits until `text` is in its log.
    ///
    /// # Errors
    /// If it does not come.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        until(&format!("{text:?} in the log"), PATIENCE, || {
            Ok((self.logged(text) > 0).then_some(()))
        })
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// If it had ended already by itself.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.poll_end()? {
            bail!("it had ended already, with {status}:\n{}", self.log());
        }
        self.child.kill()?;
        self.ended = Some(self.child.wait()?);
        Ok(())
    }

    /// SIGINT, as Ctrl-C sends it.
    ///
    /// # Errors
    /// If it is gone.
    pub fn interrupt(&self) -> Result<()> {
        ensure!(self.ended.is_none(), "it has ended");
        Ok(kill_process(Pid::from_child(&self.child), Signal::INT)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        if self.ended.is_none() {
            self.ended = wait_for_end(&mut self.child, patience)?;
        }
        self.ended.with_context(|| format!("it did not end within {} s", patience.as_secs()))
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.poll_end()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}:\n{}", self.log()),
        }
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u64 = kib.with_context(|| format!("no VmRSS in {path}"))?.parse()?;
        Ok(kib << 10)
    }

    /// Bytes that it has given to disks since its start.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn written_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/io", self.child.id());
        let counts = std::fs::read_to_string(&path)?;
        let line = counts.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.with_context(|| format!("no write_bytes in {path}"))?.parse()?)
    }

    fn poll_end(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may be gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits for the end of `child`; `None` if it still runs after `patience`.
pub(crate) fn wait_for_end(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Logs hold what peers sent, which need not be text.
fn read(path: &PathBuf) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
