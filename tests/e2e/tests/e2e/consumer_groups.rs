//! Consumer groups of foreign clients: what is committed stays, and whoever is left reads on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    ClientKind, Consumer, ConsumerPlan, Launch, PATIENCE, Settings, Site, Stage, Tool, kafka_tool,
    read_topic, run_tool, scenario, until,
};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: usize = 12;

/// What confluent-kafka is driven by.
const GROUP_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/group_client.py");

/// A rebalance after a kill takes a session of six seconds; a JVM on a busy machine takes its time to start.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(150);

fn broker(site: &Site<'_>) -> Result<Launch> {
    Ok(site.broker()?.flag("--default-partitions", PARTITIONS.to_string()))
}

/// Numbered values with keys, so that they spread over all partitions.
#[derive(Default)]
struct Orders {
    sent: usize,
}

impl Orders {
    fn send(&mut self, stage: &Stage, site: &Site<'_>, count: usize) -> Result<()> {
        let numbers = self.sent..self.sent + count;
        let lines: String = numbers.map(|n| format!("key-{}:order-{n}\n", n % 500)).collect();
        let file = stage.path("orders");
        std::fs::write(&file, lines)?;
        let (kafka, file) = (site.kafka().to_string(), file.to_string_lossy());
        let arguments = ["-P", "-b", &kafka, "-t", TOPIC, "-K", ":", "-l", &file];
        let output = run_tool("kcat", &arguments, PATIENCE)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && complaint.is_empty(), "kcat: {complaint}");
        self.sent += count;
        Ok(())
    }

    fn all(&self) -> BTreeSet<String> {
        (0..self.sent).map(|number| format!("order-{number}")).collect()
    }
}

fn start(stage: &Stage, site: &Site<'_>, kind: ClientKind) -> Result<Consumer> {
    ConsumerPlan { kind, kafka: site.kafka(), group: GROUP, topic: TOPIC }.start(stage)
}

/// Runs confluent-kafka's administrator.
fn admin(site: &Site<'_>, command: &str) -> Result<String> {
    let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
    let kafka = site.kafka().to_string();
    let output = run_tool(python, &[GROUP_CLIENT, command, &kafka, GROUP], PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn wait_for_group(site: &Site<'_>, expected: &str) -> Result<()> {
    let mut last = String::new();
    let outcome = until("the group", REBALANCE_PATIENCE, || {
        last = admin(site, "describe")?;
        Ok((last == expected).then_some(()))
    });
    outcome.with_context(|| format!("the group is {last:?}, {expected:?} is due"))
}

fn wait_until_read(consumers: &[&Consumer], expected: &BTreeSet<String>) -> Result<()> {
    let mut missing = 0;
    let outcome = until("every record", REBALANCE_PATIENCE, || {
        let mut read = BTreeSet::new();
        for consumer in consumers {
            read.extend(consumer.values()?);
        }
        missing = expected.difference(&read).count();
        Ok((missing == 0).then_some(()))
    });
    outcome.with_context(|| format!("{missing} of {} were not read", expected.len()))
}

#[test]
fn three_makes_of_clients_share_a_group_through_kills_of_each_and_of_the_broker() {
    use ClientKind::{Confluent, Java, Kcat};
    scenario(&[Tool::Kcat, Tool::ConfluentKafka, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let mut orders = Orders::default();
        orders.send(stage, &site, 2_000)?;
        let mut consumers = Vec::new();
        for kind in [Kcat, Confluent, Java] {
            consumers.push(start(stage, &site, kind)?);
        }
        wait_for_group(&site, "STABLE 4 4 4")?;
        orders.send(stage, &site, 2_000)?;
        wait_until_read(&consumers.iter().collect::<Vec<_>>(), &orders.all())?;
        for consumer in &consumers {
            ensure!(!consumer.records()?.is_empty(), "{:?} had no part", consumer.kind);
        }
        // Each is killed once, and comes back: whoever is left takes its partitions.
        for kind in [Java, Kcat, Confluent] {
            let at = consumers.iter().position(|consumer| consumer.kind == kind);
            let at = at.context("every make is there")?;
            consumers[at].kill()?;
            orders.send(stage, &site, 1_000)?;
            wait_for_group(&site, "STABLE 6 6")?;
            wait_until_read(&consumers.iter().collect::<Vec<_>>(), &orders.all())?;
            // The killed one stays behind those that live: what it has read counts.
            consumers.push(start(stage, &site, kind)?);
            let last = consumers.len() - 1;
            consumers.swap(at, last);
            wait_for_group(&site, "STABLE 4 4 4")?;
        }
        // The broker comes back to a group that goes on as if nothing had been.
        process.kill()?;
        process = broker(&site)?.start()?;
        orders.send(stage, &site, 1_000)?;
        wait_until_read(&consumers.iter().collect::<Vec<_>>(), &orders.all())?;
        wait_for_group(&site, "STABLE 4 4 4")?;
        for consumer in &mut consumers[..3] {
            consumer.check_running()?;
        }
        process.check_running()
    });
}

#[test]
fn committed_offsets_survive_a_kill_of_the_broker() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let mut orders = Orders::default();
        orders.send(stage, &site, 3_000)?;
        for (round, kind) in [ClientKind::Kcat, ClientKind::Confluent].into_iter().enumerate() {
            let mut first = start(stage, &site, kind)?;
            let read_before: BTreeSet<String> =
                if round == 0 { BTreeSet::new() } else { Orders { sent: orders.sent - 500 }.all() };
            let due: BTreeSet<String> = orders.all().difference(&read_before).cloned().collect();
            wait_until_read(&[&first], &due)?;
            ensure!(first.values()? == due, "{kind:?} read more than was not committed");
            first.stop()?;
            let committed = admin(&site, "offsets")?;
            process.kill()?;
            process = broker(&site)?.start()?;
            ensure!(admin(&site, "offsets")? == committed, "{committed}");
            let sum: usize = committed
                .lines()
                .filter_map(|line| line.split(' ').nth(1)?.parse::<usize>().ok())
                .sum();
            ensure!(sum == orders.sent, "{sum} records are committed of {}", orders.sent);
            orders.send(stage, &site, 500)?;
        }
        wait_for_group(&site, "EMPTY")?;
        ensure!(admin(&site, "delete")? == "deleted", "an empty group is deleted");
        ensure!(admin(&site, "offsets")?.is_empty(), "its offsets are gone");
        process.check_running()
    });
}

#[test]
fn kafka_s_own_tools_read_groups_and_their_records() {
    scenario(&[Tool::Kcat, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let mut orders = Orders::default();
        orders.send(stage, &site, 300)?;
        let mut consumer = start(stage, &site, ClientKind::Kcat)?;
        wait_until_read(&[&consumer], &orders.all())?;
        consumer.stop()?;
        let kafka = site.kafka().to_string();
        let java = |class: &str, arguments: &[&str]| -> Result<String> {
            let mut all = kafka_tool(class)?;
            all.extend(["--bootstrap-server", &kafka].map(str::to_owned));
            all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let output = run_tool("java", &all, PATIENCE)?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let groups = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let list = java(groups, &["--list"])?;
        ensure!(list.trim() == GROUP, "{list}");
        let described = java(groups, &["--describe", "--group", GROUP])?;
        let lines = described.lines().filter(|line| line.starts_with(GROUP));
        let lags = lines.map(|line| line.split_whitespace().nth(5).unwrap_or_default());
        ensure!(lags.collect::<Vec<_>>() == ["0"; PARTITIONS], "{described}");
        let earliest = ["--to-earliest", "--topic", TOPIC, "--execute"];
        let reset = [&["--group", GROUP, "--reset-offsets"][..], &earliest].concat();
        java(groups, &reset)?;
        let mut again = start(stage, &site, ClientKind::Kcat)?;
        wait_until_read(&[&again], &orders.all())?;
        again.stop()?;
        // The records are in Kafka's formats: its own formatters read them. They end when they have all of the group's
        // partition, not after a time in which a busy machine may have read nothing.
        let records = read_topic(site.kafka(), "__consumer_offsets")?;
        let of_group = records.iter().find(|record| record.key_text().contains(GROUP));
        let partition = of_group.context("no record of the group")?.partition;
        let count = records.iter().filter(|record| record.partition == partition).count();
        let (partition, count) = (partition.to_string(), count.to_string());
        let read = |formatter: &str| {
            let formatter = format!("org.apache.kafka.tools.consumer.{formatter}");
            #[rustfmt::skip]
            let arguments = [
                "--topic", "__consumer_offsets", "--partition", &partition, "--offset", "earliest",
                "--max-messages", &count, "--formatter", &formatter,
            ];
            java("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments)
        };
        let offsets = read("OffsetsMessageFormatter")?;
        let key = format!(r#""group":"{GROUP}","topic":"{TOPIC}","partition":11"#);
        ensure!(offsets.contains(&key), "{offsets}");
        let members = read("GroupMetadataMessageFormatter")?;
        for part in
            [r#""protocolType":"consumer""#, r#""protocol":"range""#, r#""clientId":"rdkafka""#]
        {
            ensure!(members.contains(part), "{part} is not in {members}");
        }
        let deleted = java(groups, &["--delete", "--group", GROUP])?;
        ensure!(deleted.contains("successful"), "{deleted}");
        process.check_running()
    });
}
