//! A disk that is full refuses what is new, serves what is there, and takes more as soon as somebody makes room.

use anyhow::{Context, Result, ensure};
use e2e::{
    PATIENCE, Process, Site, SmallDisk, Tool, check_dense, confluent_kafka, read_topic, scenario,
    until,
};

const TOOLS: &[Tool] = &[Tool::ConfluentKafka, Tool::Kcat];

const DISK_BYTES: u64 = 48 << 20;

/// More records than the disk has room for.
const TOO_MANY: u64 = 10_000;

/// What the client is told.
const REFUSED: &str = "KAFKA_STORAGE_ERROR";

fn start(site: &Site<'_>) -> Result<Process> {
    site.broker()?
        .flag("--wal-file-bytes", "1048576")
        .flag("--tail-bytes", "65536")
        .flag("--disk-free-floor-bytes", "4194304")
        .start()
}

/// A topic and how many of its records were acknowledged: those below `next`.
struct Filled<'a> {
    site: &'a Site<'a>,
    topic: &'static str,
    next: u64,
}

impl Filled<'_> {
    /// Produces up to `count` records, until one is refused; returns the error.
    fn more(&mut self, count: u64) -> Result<Option<String>> {
        let (kafka, next, count) =
            (self.site.kafka().to_string(), self.next.to_string(), count.to_string());
        let told = confluent_kafka(&["fill", &kafka, self.topic, &next, &count], 4 * PATIENCE)?;
        let (next, error) = told.trim().split_once(' ').context("the client said nothing")?;
        self.next = next.parse()?;
        Ok((error != "-").then(|| error.to_owned()))
    }

    /// Everything that was acknowledged is there, once and in order. A record that was refused may be there too: the client
    /// is told to try again, which is no promise that it was not stored.
    fn check(&self) -> Result<()> {
        let records = read_topic(self.site.kafka(), self.topic)?;
        check_dense(&records)?;
        let numbers = records.iter().map(|record| {
            let value = record.value_text();
            value.split_once(':').and_then(|(number, _)| number.parse().ok())
        });
        let numbers: Option<Vec<u64>> = numbers.collect();
        let mut numbers = numbers.context("a record without a number")?;
        numbers.dedup();
        let expected: Vec<u64> = (0..self.next).collect();
        ensure!(
            numbers.starts_with(&expected),
            "{}: {} of {} records",
            self.topic,
            numbers.len(),
            self.next
        );
        Ok(())
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let Some(disk) = SmallDisk::mount(stage, "broker", DISK_BYTES)? else {
            return Ok(());
        };
        let mut broker = start(&site)?;
        let mut doomed = Filled { site: &site, topic: "doomed", next: 0 };
        let mut kept = Filled { site: &site, topic: "kept", next: 0 };
        ensure!(doomed.more(1_500)?.is_none(), "there is room for 15 MB");
        let refused = kept.more(TOO_MANY)?;
        ensure!(refused.as_deref() == Some(REFUSED), "{refused:?} after {} records", kept.next);
        ensure!(kept.next > 300, "only {} records were taken", kept.next);
        broker.check_running()?;
        doomed.check()?;
        kept.check()?;

        // It comes back full, and is no worse for it.
        broker.kill()?;
        broker = start(&site)?;
        kept.check()?;
        doomed.check()?;
        let refused = kept.more(TOO_MANY)?;
        ensure!(refused.as_deref() == Some(REFUSED), "{refused:?} after a restart");

        let used = disk.used()?;
        confluent_kafka(&["delete", &site.kafka().to_string(), "doomed"], PATIENCE)?;
        until("the deleted topic's room", PATIENCE, || {
            broker.check_running()?;
            Ok((disk.used()? + (10 << 20) < used).then_some(()))
        })?;
        takes_again(&mut kept, &mut broker)?;
        kept.check()?;
        broker.kill()?;
        broker = start(&site)?;
        kept.check()?;
        broker.check_running()
    });
}

#[test]
fn a_disk_that_somebody_else_fills_is_survived() {
    scenario(TOOLS, |stage| {
        let site = Site::new(stage)?;
        let Some(disk) = SmallDisk::mount(stage, "broker", DISK_BYTES)? else {
            return Ok(());
        };
        let mut broker = start(&site)?;
        let mut kept = Filled { site: &site, topic: "kept", next: 0 };
        ensure!(kept.more(500)?.is_none(), "there is room for 5 MB");
        for round in 0..2 {
            disk.fill()?;
            let refused = kept.more(TOO_MANY)?;
            ensure!(refused.as_deref() == Some(REFUSED), "round {round}: {refused:?}");
            broker.check_running()?;
            kept.check()?;
            if round == 1 {
                broker.kill()?;
                broker = start(&site)?;
                kept.check()?;
            }
            disk.clear()?;
            takes_again(&mut kept, &mut broker)?;
            kept.check()?;
        }
        Ok(())
    });
}

fn takes_again(topic: &mut Filled<'_>, broker: &mut Process) -> Result<()> {
    until("the broker to take records again", PATIENCE, || {
        broker.check_running()?;
        Ok(topic.more(100)?.is_none().then_some(()))
    })
}
