//! The brokers that are measured, each a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use crate::broker;
use crate::process::{Server, fresh, output};

const KAFKA_PORT: u16 = 29_092;
const KAFKA_CONTROLLER_PORT: u16 = 29_093;

/// What `kafka-server-start.sh` and `kafka-run-class.sh` of Kafka 4.1 give to Java.
const KAFKA_JAVA_OPTIONS: &[&str] = &[
    "-Xms1G",
    "-Xmx1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// Where the programs are.
#[derive(Debug, clap::Args)]
pub struct Programs {
    /// The `cloud-broker` to measure.
    #[arg(long, default_value = "target/release/cloud-broker")]
    pub broker: PathBuf,
    /// The folder of Kafka's jars.
    #[arg(long, default_value = "target/bench/kafka/classes")]
    pub classes: PathBuf,
    /// `clients/kafka_load.c`, compiled.
    #[arg(long, default_value = "target/bench/kafka_load")]
    pub load: PathBuf,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// Culvert's broker, which syncs before it acknowledges.
    Culvert,
    /// Apache Kafka as it comes: what it acknowledges is in the page cache.
    Kafka,
    /// The same process with `flush.messages=1` on the topic: synced before it is acknowledged.
    KafkaFlush,
}

impl Peer {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Culvert, Self::Kafka, Self::KafkaFlush];

    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Culvert => "culvert",
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka, flush.messages=1",
        }
    }

    /// Configs of the topics that it is measured with.
    pub fn topic_configs(self) -> &'static [&'static str] {
        match self {
            Self::Culvert | Self::Kafka => &[],
            Self::KafkaFlush => &["flush.messages=1"],
        }
    }
}

/// The brokers, running.
#[derive(Debug)]
pub struct Brokers {
    culvert: Server,
    kafka: Server,
}

impl Brokers {
    /// Starts both with empty folders under `folder`.
    pub fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        let data = fresh(folder, "culvert")?;
        let mut culvert = broker::start(&programs.broker, folder, &data)?;
        culvert.wait_for_listener(address(Peer::Culvert))?;
        let mut kafka = kafka(&programs.classes, folder)?;
        kafka.wait_for_listener(address(Peer::Kafka))?;
        Ok(Self { culvert, kafka })
    }

    /// The process of a peer.
    pub fn pid(&self, peer: Peer) -> u32 {
        match peer {
            Peer::Culvert => self.culvert.pid(),
            Peer::Kafka | Peer::KafkaFlush => self.kafka.pid(),
        }
    }

    /// What a peer has to say of a load that failed, before it is killed.
    pub fn evidence(&self, peer: Peer) -> String {
        match peer {
            Peer::Culvert => {
                let metrics = broker::metrics().unwrap_or_else(|error| error.to_string());
                format!("{metrics}\n{}", self.culvert.log_end())
            }
            Peer::Kafka | Peer::KafkaFlush => self.kafka.log_end(),
        }
    }

    /// Ends both.
    pub fn end(self) -> Result<()> {
        self.culvert.end()?;
        self.kafka.end()
    }
}

/// Where a peer's clients connect.
pub fn address(peer: Peer) -> SocketAddr {
    match peer {
        Peer::Culvert => broker::kafka_address(),
        Peer::Kafka | Peer::KafkaFlush => SocketAddr::from((Ipv4Addr::LOCALHOST, KAFKA_PORT)),
    }
}

/// A program of Kafka's.
pub fn java(classes: &Path, options: &[&str], class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(options).arg("-cp").arg(classes.join("*")).arg(class);
    command
}

fn kafka(classes: &Path, folder: &Path) -> Result<Server> {
    let logs = fresh(folder, "kafka")?;
    let properties = folder.join("kafka.properties");
    std::fs::write(&properties, kafka_properties(&logs))?;
    let mut format = java(classes, &[], "kafka.tools.StorageTool");
    format.args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c"]).arg(&properties);
    output(format)?;
    let mut command = java(classes, KAFKA_JAVA_OPTIONS, "kafka.Kafka");
    command.arg(&properties);
    Server::start(command, &folder.join("kafka.log"))
}

/// One node, replication 1, otherwise as it comes; only deleted topics are gone at once, for the sake of the disk.
fn kafka_properties(logs: &Path) -> String {
    let host = Ipv4Addr::LOCALHOST;
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{host}:{KAFKA_CONTROLLER_PORT}\n\
         listeners=PLAINTEXT://{host}:{KAFKA_PORT},CONTROLLER://{host}:{KAFKA_CONTROLLER_PORT}\n\
         advertised.listeners=PLAINTEXT://{host}:{KAFKA_PORT}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         log.segment.delete.delay.ms=1000\n",
        logs.display()
    )
}
