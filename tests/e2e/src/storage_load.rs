//! Numbered records into several topics while the broker is killed, and the ledger to hold the log against.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::kcat::Record;
use crate::process::wait_for_end;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::wait::PATIENCE;

/// What drives confluent-kafka.
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/storage_load.py");

/// A topic that the load produces to.
#[derive(Debug, Clone, Copy)]
pub struct LoadTopic {
    /// Its name.
    pub name: &'static str,
    /// Its partitions.
    pub partitions: u32,
    /// Keys that its records take in turn; 0 for none.
    pub keys: u64,
    /// Its configs, `name=value` each.
    pub configs: &'static [&'static str],
}

/// Producers of librdkafka, idempotent; killed when dropped.
#[derive(Debug)]
pub struct StorageLoad {
    child: Child,
    input: Option<ChildStdin>,
    output: PathBuf,
    complaints: PathBuf,
}

/// What the producers were told is stored: by topic, the number at each partition and offset.
#[derive(Debug, Default)]
pub struct StorageLedger {
    acked: BTreeMap<String, BTreeMap<(u32, u64), u64>>,
}

impl StorageLoad {
    /// Makes the topics and starts to produce.
    ///
    /// # Errors
    /// If the client cannot be started.
    pub fn start(stage: &Stage, kafka: SocketAddr, topics: &[LoadTopic]) -> Result<Self> {
        let (output, complaints) = (stage.path("load.out"), stage.path("load.err.log"));
        let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
        let mut command = Command::new(python);
        command.args([CLIENT, &kafka.to_string()]);
        for topic in topics {
            let mut words = vec![topic.name.to_owned()];
            words.extend([topic.partitions.to_string(), topic.keys.to_string()]);
            words.extend(topic.configs.iter().map(|config| (*config).to_owned()));
            command.arg(words.join(":"));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(File::create(&output)?)
            .stderr(File::create(&complaints)?)
            .spawn()
            .context("cannot start the load")?;
        let input = child.stdin.take();
        Ok(Self { child, input, output, complaints })
    }

    /// Bytes of the ledger so far: it grows with every record that is acknowledged.
    #[must_use]
    pub fn progress(&self) -> u64 {
        std::fs::metadata(&self.output).map_or(0, |file| file.len())
    }

    /// Stops producing, waits until everything is acknowledged, and returns the ledger.
    ///
    /// # Errors
    /// If a record was not acknowledged.
    pub fn finish(mut self) -> Result<StorageLedger> {
        drop(self.input.take());
        let status = wait_for_end(&mut self.child, 4 * PATIENCE)?;
        let complaints = std::fs::read_to_string(&self.complaints)?;
        let status = status.with_context(|| format!("the load does not end: {complaints}"))?;
        ensure!(status.success(), "the load: {status}: {complaints}");
        StorageLedger::parse(&std::fs::read_to_string(&self.output)?)
    }
}

impl Drop for StorageLoad {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl StorageLedger {
    fn parse(text: &str) -> Result<Self> {
        let mut ledger = Self::default();
        for line in text.lines() {
            let (topic, partition, offset, number) =
                parse(line).with_context(|| line.to_owned())?;
            let acked = ledger.acked.entry(topic.to_owned()).or_default();
            let before = acked.insert((partition, offset), number);
            ensure!(before.is_none(), "{line}: the place was given to {before:?} before");
        }
        Ok(ledger)
    }

    /// Records that were acknowledged.
    #[must_use]
    pub fn len(&self, topic: &str) -> usize {
        self.acked.get(topic).map_or(0, BTreeMap::len)
    }

    /// Whether nothing was acknowledged for a topic.
    #[must_use]
    pub fn is_empty(&self, topic: &str) -> bool {
        self.len(topic) == 0
    }

    /// Holds `records`, all that can be read of a topic, against the ledger: from its first record on each partition has
    /// every record that was acknowledged, at its offset, once, in the order of numbers, and nothing that was not produced.
    /// Returns the offset of each partition's first record.
    ///
    /// Every record is acknowledged at the end, so the log has nothing that the ledger does not have.
    ///
    /// # Errors
    /// Names the first record that is missing, doubled or out of place.
    pub fn check(&self, topic: &LoadTopic, records: &[Record]) -> Result<BTreeMap<u32, u64>> {
        let starts = self.check_places(topic, records)?;
        let mut next: BTreeMap<u32, u64> = starts.clone();
        for record in records {
            let due = next.entry(record.partition).or_default();
            ensure!(
                record.offset == *due,
                "{}, partition {}: offset {} where {due} is due",
                topic.name,
                record.partition,
                record.offset
            );
            *due += 1;
        }
        for (partition, offset) in self.acked.get(topic.name).into_iter().flat_map(BTreeMap::keys) {
            let end = next.get(partition).copied().unwrap_or(0);
            ensure!(
                *offset < end,
                "{}, partition {partition}: offset {offset} was acknowledged, the log ends at {end}",
                topic.name
            );
        }
        Ok(starts)
    }

    /// As [`StorageLedger::check`], for a topic that is compacted: offsets may be missing, but each key's last record is
    /// there.
    ///
    /// # Errors
    /// As [`StorageLedger::check`].
    pub fn check_compacted(&self, topic: &LoadTopic, records: &[Record]) -> Result<()> {
        self.check_places(topic, records)?;
        let there: BTreeSet<(u32, u64)> = records.iter().map(|r| (r.partition, r.offset)).collect();
        let mut last: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for ((partition, offset), number) in self.acked.get(topic.name).into_iter().flatten() {
            let key = number / u64::from(topic.partitions) % topic.keys;
            last.insert((*partition, key), *offset);
        }
        for ((partition, key), offset) in &last {
            ensure!(
                there.contains(&(*partition, *offset)),
                "{}, partition {partition}: the last record of key {key}, offset {offset}, is gone",
                topic.name
            );
        }
        Ok(())
    }

    /// Holds what `kafka_client.py drain` printed against the ledger: each partition has everything that was acknowledged, in
    /// order, or stops before its end. Returns how many stop.
    ///
    /// # Errors
    /// If a record is not what was acknowledged at its place, or a partition that does not stop lacks one.
    pub fn check_drained(&self, topics: &[LoadTopic], told: &str) -> Result<usize> {
        let mut next: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        let mut stuck: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        for line in told.lines() {
            if let Some(place) = line.strip_prefix("stuck ") {
                let (topic, partition, _, end) = parse(place).with_context(|| line.to_owned())?;
                stuck.insert((topic, partition), end);
                continue;
            }
            let (topic, partition, offset, number) =
                parse(line).with_context(|| line.to_owned())?;
            let due = next.entry((topic, partition)).or_default();
            ensure!(offset == *due, "{line}: offset {due} is due");
            *due += 1;
            let acked = self.acked.get(topic).and_then(|acked| acked.get(&(partition, offset)));
            ensure!(acked == Some(&number), "{line}: the producer was told {acked:?}");
        }
        for topic in topics {
            for (partition, offset) in
                self.acked.get(topic.name).into_iter().flat_map(BTreeMap::keys)
            {
                let place = (topic.name, *partition);
                let end = stuck.get(&place).or_else(|| next.get(&place)).copied().unwrap_or(0);
                ensure!(*offset < end, "{place:?}: offset {offset} is gone, the end is {end}");
            }
        }
        Ok(stuck.len())
    }

    /// Every record is where the producer was told, and in order; returns where each partition begins.
    fn check_places(&self, topic: &LoadTopic, records: &[Record]) -> Result<BTreeMap<u32, u64>> {
        let acked = self.acked.get(topic.name).context("nothing was acknowledged")?;
        let mut starts = BTreeMap::new();
        let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for record in records {
            let (partition, offset) = (record.partition, record.offset);
            let place = || format!("{}, partition {partition}, offset {offset}", topic.name);
            let value = record.value_text();
            let number = value.split_once(':').and_then(|(number, _)| number.parse().ok());
            let number: u64 = number.with_context(|| format!("{}: {value:?}", place()))?;
            let told = acked.get(&(partition, offset));
            ensure!(
                told == Some(&number),
                "{}: number {number}, the producer was told {told:?}",
                place()
            );
            if let Some((at, before)) = last.insert(partition, (offset, number)) {
                ensure!(
                    at < offset && before < number,
                    "{}: number {number} stands behind number {before} at {at}",
                    place()
                );
            }
            starts.entry(partition).or_insert(offset);
        }
        Ok(starts)
    }
}

fn parse(line: &str) -> Option<(&str, u32, u64, u64)> {
    let mut words = line.split(' ');
    let topic = words.next()?;
    Some((
        topic,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: LoadTopic = LoadTopic { name: "t", partitions: 2, keys: 2, configs: &[] };

    fn record(partition: u32, offset: u64, number: u64) -> Record {
        Record {
            partition,
            offset,
            timestamp: 0,
            key: None,
            value: Some(format!("{number}:xx").into_bytes()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_place_is_found() {
        let ledger = StorageLedger::parse("t 0 5 0\nt 1 0 1\nt 0 6 2\nt 0 7 4\n").unwrap();
        let good = [record(0, 5, 0), record(0, 6, 2), record(0, 7, 4), record(1, 0, 1)];
        let starts = ledger.check(&TOPIC, &good).unwrap();
        assert_eq!(starts, BTreeMap::from([(0, 5), (1, 0)]));
        ledger.check(&TOPIC, &good[1..]).unwrap();
        for (bad, why) in [
            (vec![good[0].clone(), good[2].clone(), good[3].clone()], "a hole"),
            (vec![good[0].clone(), good[1].clone(), good[3].clone()], "the end is lost"),
            (vec![good[0].clone(), record(0, 6, 0), record(0, 7, 4), record(1, 0, 1)], "doubled"),
            (good[..3].to_vec(), "a partition is lost"),
            ([&good[..], &[record(0, 8, 6)]].concat(), "not acknowledged"),
        ] {
            assert!(ledger.check(&TOPIC, &bad).is_err(), "{why}");
        }
        // Keys of partition 0: 0 for number 0, 1 for number 2, 0 again for number 4.
        let compacted = [record(0, 6, 2), record(0, 7, 4), record(1, 0, 1)];
        ledger.check_compacted(&TOPIC, &compacted).unwrap();
        assert!(ledger.check_compacted(&TOPIC, &compacted[1..]).is_err());
        assert!(StorageLedger::parse("t 0 5 0\nt 0 5 2\n").is_err(), "one place, two records");
        assert!(StorageLedger::parse("t 0 5\n").is_err());
    }
}
