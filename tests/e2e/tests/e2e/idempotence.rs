//! An idempotent producer over a broker that is killed: what it was told is stored is in the log, once and in order.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    CONFLUENT_KAFKA_CLIENT, Chance, PATIENCE, Record, Settings, Site, Stage, SyncShim, Tool,
    check_dense, confluent_kafka, read_topic, run_tool, scenario, until, wait_until_delivered,
};

const TOPIC: &str = "orders";

/// A sync of a poor disk: most kills find batches that are written and whose acknowledgement has not left.
const SLOW_SYNC: Duration = Duration::from_millis(20);

/// The longest that a broker lives between two kills, once it has taken something.
const LIFE_MAX: Duration = Duration::from_millis(400);

/// An idempotent producer, which produces each line that it is given.
struct Producer {
    child: Child,
    lines: Option<ChildStdin>,
    reports: PathBuf,
    complaints: PathBuf,
}

impl Producer {
    fn start(site: &Site<'_>, stage: &Stage) -> Result<Self> {
        let (reports, complaints) = (stage.path("producer.out"), stage.path("producer.log"));
        let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
        let mut child = Command::new(python)
            .args([CONFLUENT_KAFKA_CLIENT, "produce", &site.kafka().to_string(), TOPIC])
            .stdin(Stdio::piped())
            .stdout(File::create(&reports)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .context("cannot start the producer")?;
        let lines = child.stdin.take();
        Ok(Self { child, lines, reports, complaints })
    }

    /// Waits until everything is delivered, once the input has ended. Returns where each value is said to be: value,
    /// partition, offset.
    fn finish(mut self) -> Result<Vec<(String, u32, u64)>> {
        let ended = || Ok(self.child.try_wait()?);
        let status = until("the producer to deliver everything", 3 * PATIENCE, ended)?;
        let complaints = std::fs::read_to_string(&self.complaints)?;
        ensure!(status.success(), "the producer: {status}: {complaints}");
        let reports = std::fs::read_to_string(&self.reports)?;
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let value = words.next()?.to_owned();
            Some((value, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        reports.lines().map(|line| parse(line).with_context(|| line.to_owned())).collect()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn kcat_produces_idempotently() {
    scenario(&[Tool::Kcat], |stage| {
        let site = Site::new(stage)?;
        let _broker = site.broker()?.start()?;
        let expected: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        let file = stage.path("lines");
        std::fs::write(&file, expected.join("\n"))?;
        let (broker, file) = (site.kafka().to_string(), file.to_string_lossy());
        #[rustfmt::skip]
        let arguments = [
            "-P", "-b", &broker, "-t", TOPIC, "-l", &file, "-X", "enable.idempotence=true",
            "-X", "batch.num.messages=20",
        ];
        let output = run_tool("kcat", &arguments, PATIENCE)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && complaint.is_empty(), "kcat: {complaint}");
        let found = read_topic(site.kafka(), TOPIC)?;
        let found: Vec<String> = found.iter().map(Record::value_text).collect();
        ensure!(found == expected, "{} records", found.len());
        Ok(())
    });
}

#[test]
fn topics_are_made_described_and_deleted() {
    scenario(&[Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut broker = site.broker()?.start()?;
        let mut gateway = site.gateway()?.start()?;
        wait_until_delivered(&mut gateway, PATIENCE)?;
        let told = confluent_kafka(&["topics", &site.kafka().to_string()], PATIENCE)?;
        let expected = "create done\ncreate TOPIC_ALREADY_EXISTS\ncreate INVALID_CONFIG\n\
                        cleanup.policy compact False\nretention.ms 604800000 True\n\
                        max.message.bytes 8388608 True\npartitions 3\ndelete done\n\
                        delete UNKNOWN_TOPIC_OR_PART\ndelete TOPIC_EXCEPTION\n";
        ensure!(told == expected, "the client was told:\n{told}");
        broker.check_running()
    });
}

#[test]
fn an_idempotent_producer_over_killed_brokers_loses_and_doubles_nothing() {
    scenario(&[Tool::Cc, Tool::ConfluentKafka, Tool::Kcat], |stage| {
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let site = Site::new(stage)?;
        let mut chance = Chance::new(stage.settings.seed);
        let shim = SyncShim::new(stage)?;
        shim.delay(SLOW_SYNC)?;
        let start_broker = || shim.before(site.broker()?).start();
        let mut broker = start_broker()?;
        let mut producer = Producer::start(&site, stage)?;
        let mut lines = producer.lines.take().context("the producer has no input")?;
        let (given, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    let number = given.fetch_add(1, Ordering::Relaxed);
                    writeln!(lines, "{number}")?;
                    std::thread::sleep(Duration::from_micros(300));
                }
                drop(lines);
                Ok(())
            });
            let killing = kill_often(stage, &mut chance, &site, &mut broker, &start_broker);
            stop.store(true, Ordering::Relaxed);
            let written = writing.join().map_err(|_| anyhow::anyhow!("it panicked"))?;
            killing.and(written)
        })?;
        let reports = producer.finish()?;
        broker.check_running()?;
        let records = read_topic(site.kafka(), TOPIC)?;
        check_dense(&records)?;
        let found: Vec<String> = records.iter().map(Record::value_text).collect();
        let expected: Vec<String> =
            (0..given.load(Ordering::Relaxed)).map(|number| number.to_string()).collect();
        let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        ensure!(
            found == expected,
            "{} records where {} are due; the first that differs is {wrong:?}",
            found.len(),
            expected.len()
        );
        // Also who was answered for a copy was told where the original is.
        ensure!(reports.len() == expected.len(), "{} reports", reports.len());
        for (value, partition, offset) in &reports {
            let at = usize::try_from(*offset)?;
            let is_there = found.get(at).is_some_and(|found| found == value);
            ensure!(is_there && *partition == 0, "{value} is not at offset {offset}");
        }
        eprintln!("{} records, once and in order", found.len());
        Ok(())
    });
}

fn kill_often(
    stage: &Stage,
    chance: &mut Chance,
    site: &Site<'_>,
    broker: &mut e2e::Process,
    start_broker: &dyn Fn() -> Result<e2e::Process>,
) -> Result<()> {
    for round in 0..stage.settings.kill_rounds / 2 {
        // Something of this life is under way, or the kill would prove nothing.
        until("the broker to take what is produced", PATIENCE, || {
            broker.check_running()?;
            let written = e2e::metric(site.broker_http(), "culvert_broker_wal_bytes_total");
            // Before the first slot of a life there is no such figure.
            Ok(written.is_ok_and(|written| written > 0.0).then_some(()))
        })?;
        std::thread::sleep(chance.below(LIFE_MAX));
        broker.kill().with_context(|| format!("round {round}"))?;
        *broker = start_broker()?;
    }
    Ok(())
}
