//! Consumers of three makes, each a process of its own, in one group.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::wait_for_end;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::tools::kafka_tool;
use crate::wait::PATIENCE;

/// What confluent-kafka is driven by.
const GROUP_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/group_client.py");

/// Who wrote the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientKind {
    /// confluent-kafka, on a librdkafka of today.
    Confluent,
    /// Kafka's console consumer.
    Java,
    /// kcat, on a librdkafka of some years ago.
    Kcat,
}

/// A consumer that is about to be started. All of them assign by range, have sessions of six seconds, begin at the
/// beginning and commit often.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerPlan<'a> {
    /// Who wrote it.
    pub kind: ClientKind,
    /// Where the log is.
    pub kafka: SocketAddr,
    /// The group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
}

/// A consumer; killed when dropped.
#[derive(Debug)]
pub struct Consumer {
    /// Who wrote it.
    pub kind: ClientKind,
    child: Child,
    output: PathBuf,
}

impl ConsumerPlan<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, stage: &Stage) -> Result<Consumer> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("consumer-{number:02}-{:?}", self.kind);
        let output = stage.path(&format!("{name}.out"));
        let mut command = match self.kind {
            ClientKind::Confluent => self.confluent()?,
            ClientKind::Java => self.java()?,
            ClientKind::Kcat => self.kcat(),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(stage.path(&format!("{name}.log")))?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Consumer { kind: self.kind, child, output })
    }

    fn confluent(&self) -> Result<Command> {
        let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
        let mut command = Command::new(python);
        let kafka = self.kafka.to_string();
        command.args([GROUP_CLIENT, "consume", &kafka, self.group, self.topic]);
        Ok(command)
    }

    fn kcat(&self) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.kafka.to_string(), "-G", self.group, self.topic, "-u"]);
        // -E: a broker that is away for a moment is no reason to end.
        command.args(["-q", "-E", "-f", "%p %o %s\\n"]);
        for setting in [
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=500",
            "auto.offset.reset=earliest",
            "auto.commit.interval.ms=200",
            "partition.assignment.strategy=range",
            "reconnect.backoff.max.ms=200",
        ] {
            command.args(["-X", setting]);
        }
        command
    }

    fn java(&self) -> Result<Command> {
        let mut command = Command::new("java");
        command.args(kafka_tool("org.apache.kafka.tools.consumer.ConsoleConsumer")?);
        command.args(["--bootstrap-server", &self.kafka.to_string()]);
        command.args(["--topic", self.topic, "--group", self.group, "--from-beginning"]);
        for setting in [
            "session.timeout.ms=6000",
            "heartbeat.interval.ms=500",
            "auto.commit.interval.ms=200",
            "partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor",
        ] {
            command.args(["--consumer-property", setting]);
        }
        for setting in ["print.partition=true", "print.offset=true", "key.separator= "] {
            command.args(["--property", setting]);
        }
        Ok(command)
    }
}

impl Consumer {
    /// What it has read so far: partition, offset, value.
    ///
    /// # Errors
    /// If it printed something else.
    pub fn records(&self) -> Result<Vec<(u32, u64, String)>> {
        let text = std::fs::read_to_string(&self.output)?;
        // The last line may be half a line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| parse(line).with_context(|| line.to_owned())).collect()
    }

    /// The values that it has read.
    ///
    /// # Errors
    /// As [`Consumer::records`].
    pub fn values(&self) -> Result<BTreeSet<String>> {
        Ok(self.records()?.into_iter().map(|(_, _, value)| value).collect())
    }

    /// Kills it, as SIGKILL does.
    ///
    /// # Errors
    /// If it had ended.
    pub fn kill(&mut self) -> Result<()> {
        self.check_running()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, which commits what it has read, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(&mut self) -> Result<()> {
        self.check_running()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = wait_for_end(&mut self.child, PATIENCE)?;
        ensure!(status.is_some(), "the {:?} consumer does not end", self.kind);
        Ok(())
    }

    /// Checks that it has not ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check_running(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the {:?} consumer has ended: {ended:?}", self.kind);
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `3 17 value`, or as the console consumer prints it, `Partition:3 Offset:17 value`.
fn parse(line: &str) -> Option<(u32, u64, String)> {
    let mut words = line.splitn(3, [' ', '\t']);
    let partition = words.next()?.trim_start_matches("Partition:").parse().ok()?;
    let offset = words.next()?.trim_start_matches("Offset:").parse().ok()?;
    Some((partition, offset, words.next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_makes_are_read() {
        let expected = Some((3, 17, "a b".to_owned()));
        for line in ["3 17 a b", "Partition:3 Offset:17 a b", "Partition:3\tOffset:17\ta b"] {
            assert_eq!(parse(line), expected, "{line:?}");
        }
        assert_eq!(parse("% a complaint"), None);
    }
}
