//! SIGKILL at random moments of the log's life: while WAL files are sealed, checkpoints written, files evacuated into
//! units, topics cut by retention, compacted, deleted. What was acknowledged is there, once, in order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Chance, LoadTopic, PATIENCE, Process, Site, StorageLoad, Tool, confluent_kafka, produce,
    read_topic, scenario, until,
};

const TOOLS: &[Tool] = &[Tool::ConfluentKafka, Tool::Kcat];

/// One busy partition, many small ones, one that is cut by size, one that is compacted.
const TOPICS: &[LoadTopic] = &[
    LoadTopic { name: "busy", partitions: 1, keys: 0, configs: &[] },
    LoadTopic { name: "many", partitions: 12, keys: 0, configs: &[] },
    LoadTopic { name: "short", partitions: 2, keys: 0, configs: &["retention.bytes=300000"] },
    LoadTopic {
        name: "keyed",
        partitions: 2,
        keys: 50,
        configs: &["cleanup.policy=compact", "min.cleanable.dirty.ratio=0.1"],
    },
];

/// The longest that a broker lives between two kills, once it has taken something.
const LIFE_MAX: Duration = Duration::from_millis(700);

/// In every so many lives a topic is made, filled and deleted.
const DOOMED_EVERY: u32 = 5;

/// What retention leaves of a partition at least, if so much was produced to it.
const SHORT_BYTES: usize = 300_000;

#[test]
fn a_broker_killed_while_its_log_is_worked_on_loses_and_doubles_nothing() {
    scenario(TOOLS, |stage| {
        eprintln!("CULVERT_SEED={}", stage.settings.seed);
        let site = Site::new(stage)?;
        let mut chance = Chance::new(stage.settings.seed);
        let mut broker = site.small_storage_broker()?.start()?;
        let load = StorageLoad::start(stage, site.kafka(), TOPICS)?;
        for round in 0..stage.settings.storage_kill_rounds {
            wait_for_progress(&mut broker, &load)?;
            if round % DOOMED_EVERY == DOOMED_EVERY - 1 {
                make_and_delete(&site).with_context(|| format!("round {round}"))?;
            }
            std::thread::sleep(chance.below(LIFE_MAX));
            broker.kill().with_context(|| format!("round {round}"))?;
            broker = site.small_storage_broker()?.start()?;
        }
        let ledger = load.finish()?;
        check(&site, &ledger)?;
        // Once more from disk alone.
        broker.kill()?;
        broker = site.small_storage_broker()?.start()?;
        check(&site, &ledger)?;
        broker.check_running()
    });
}

fn check(site: &Site<'_>, ledger: &e2e::StorageLedger) -> Result<()> {
    for topic in TOPICS {
        let records = read_topic(site.kafka(), topic.name)?;
        match topic.name {
            "keyed" => ledger.check_compacted(topic, &records)?,
            "short" => {
                let starts = ledger.check(topic, &records)?;
                for (partition, start) in starts {
                    let own = records.iter().filter(|r| r.partition == partition);
                    let bytes: usize = own.map(|r| r.value.as_ref().map_or(0, Vec::len)).sum();
                    // Some of the limit is the records' own framing.
                    ensure!(
                        start == 0 || bytes >= SHORT_BYTES * 8 / 10,
                        "partition {partition} begins at {start} and has only {bytes} bytes"
                    );
                }
            }
            _ => {
                let starts = ledger.check(topic, &records)?;
                ensure!(
                    starts.values().all(|start| *start == 0),
                    "{} begins at {starts:?}",
                    topic.name
                );
            }
        }
        eprintln!(
            "{}: {} acknowledged, {} there",
            topic.name,
            ledger.len(topic.name),
            records.len()
        );
    }
    Ok(())
}

/// Something of this life is under way, or the kill would prove nothing.
fn wait_for_progress(broker: &mut Process, load: &StorageLoad) -> Result<()> {
    let before = load.progress();
    until("the broker to take what is produced", PATIENCE, || {
        broker.check_running()?;
        Ok((load.progress() > before).then_some(()))
    })
}

/// A topic that is made, filled and deleted under the load: what is kept must not notice.
fn make_and_delete(site: &Site<'_>) -> Result<()> {
    for number in 0..3 {
        produce(site.kafka(), "doomed", &format!("{number} {}", "y".repeat(50_000)), PATIENCE)?;
    }
    confluent_kafka(&["delete", &site.kafka().to_string(), "doomed"], PATIENCE)?;
    Ok(())
}
