//! A log that compacts two topics while it is appended to, trimmed, rewritten, killed and started again: whatever happened,
//! who reads it from the start finds the last value of each key.

use std::collections::BTreeMap;

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{Death, DiskError, read_piece, write};
use broker_log::{
    CompactPolicy, FirstBatch, JobDone, Log, LogSettings, Now, PartitionKey, RecordRewriter,
    TopicNo, TopicPolicy,
};
use bytes::Bytes;
use wire::offset::Offset;
use wire::record_batch::{Codec, Record, RecordBatchBuilder, RecordBatchHeader};
use wire::time::MonoMs;

use crate::batches::{Rng, key, plain_producer};
use crate::disk::{Disk, start};
use crate::world::{Hurry, START};

const SEEDS: u64 = 60;
const LIVES: u64 = 6;
const STEPS: u64 = 150;

/// How long tombstones stay.
const DELETE_RETENTION_MS: u64 = 20_000;

/// What matters of a record: its key, and whether it has a value.
type Said = (Vec<u8>, bool);

fn settings() -> LogSettings {
    LogSettings {
        wal_file_bytes: 32 << 10,
        slot_bytes_target: 8 << 10,
        tail_bytes: 8 << 10,
        wal_file_age_ms_max: 5_000,
        checkpoint_bytes_min: 64 << 10,
        space_checkpoint_ms: 1_000,
        l0_bytes_max: 64 << 10,
        rewrite_bytes_min: 32 << 10,
        own_unit_bytes: 16 << 10,
        unit_bytes: 64 << 10,
        maintenance_ms: 1_000,
        ..LogSettings::default()
    }
}

fn keys() -> [PartitionKey; 3] {
    [key(1, 0), key(1, 1), key(2, 0)]
}

struct World {
    disk: Disk,
    log: Option<Log>,
    rng: Rng,
    now: Now,
    life: u8,
    /// Every record, by offset: acknowledged or, the last ones of a life, perhaps not.
    model: BTreeMap<PartitionKey, Vec<Said>>,
    /// Where what was acknowledged ends.
    durable: BTreeMap<PartitionKey, Offset>,
    passes: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Now { mono: MonoMs(0), wall: START };
        let model = keys().map(|key| (key, Vec::new())).into();
        let (disk, rng) = (Disk::new(), Rng(seed));
        let durable = BTreeMap::new();
        Self { disk, log: None, rng, now, life: 0, model, durable, passes: 0 }
    }

    /// Starts a life. What the one before was not told to be durable may be there or not.
    fn open(&mut self) {
        self.disk.heal();
        self.life += 1;
        let mut log = start(&mut self.disk, self.life, &settings()).unwrap();
        for (topic, retention_bytes) in [(1, None), (2, Some(100_000))] {
            let compact = CompactPolicy {
                min_dirty_per_mille: 200,
                min_lag_ms: 2_000,
                max_lag_ms: 60_000,
                delete_retention_ms: DELETE_RETENTION_MS,
            };
            let compact = Some(compact);
            let policy = TopicPolicy { retention_ms: None, retention_bytes, compact };
            log.set_policy(TopicNo(topic), policy);
        }
        for key in keys() {
            log.register_partition(key).unwrap();
            let end = log.offsets(key).unwrap().high_watermark;
            assert!(end >= *self.durable.get(&key).unwrap_or(&Offset::ZERO), "{key:?}");
            self.model.get_mut(&key).unwrap().truncate(end.0 as usize);
        }
        self.log = Some(log);
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self) {
        let key = keys()[self.rng.below(3) as usize];
        let mut builder = RecordBatchBuilder::new();
        let mut said = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let name = format!("key {}", self.rng.below(8)).into_bytes();
            let value = vec![7; 1 + self.rng.below(2_000) as usize];
            let has_value = self.rng.below(4) > 0;
            builder.push(&Record {
                timestamp: self.now.wall,
                key: Some(&name),
                value: has_value.then_some(&value[..]),
                headers: &[],
            });
            said.push((name, has_value));
        }
        let batch = builder.seal(plain_producer(), Codec::None, builder.records()).unwrap();
        let wall = self.now.wall;
        self.log().append(wall, key, Bytes::from(batch)).unwrap();
        self.model.get_mut(&key).unwrap().extend(said);
    }

    fn commit(&mut self) -> Result<(), DiskError> {
        while let Some(slot) = self.log().take_slot() {
            write(&mut self.disk, &slot)?;
            self.log().slot_durable(slot.slot_no);
        }
        for key in keys() {
            let end = self.log().offsets(key).unwrap().high_watermark;
            self.durable.insert(key, end);
        }
        Ok(())
    }

    fn run_job(&mut self) -> Result<(), DiskError> {
        let now = self.now;
        let Some(job) = self.log().take_job(now) else {
            return Ok(());
        };
        let done = job.run(&mut self.disk, &mut Hurry, &PlainRecords);
        if self.disk.is_dead() {
            return Err(DiskError::Died);
        }
        match &done {
            JobDone::Compacted { damaged, .. } => {
                assert_eq!(*damaged, []);
                self.passes += 1;
            }
            JobDone::Failed { doing, error, .. } => panic!("{doing}: {error}"),
            _ => {}
        }
        assert_eq!(self.log().job_done(now, done).rejected, []);
        Ok(())
    }

    fn step(&mut self) -> Result<(), DiskError> {
        match self.rng.below(12) {
            0..5 => self.append(),
            5..7 => self.commit()?,
            7 => {
                let ms = self.rng.below(4_000);
                self.now.mono = self.now.mono + ms;
                self.now.wall.0 += ms as i64;
                let now = self.now;
                self.log().maintain(now);
            }
            8 if self.rng.below(12) == 0 => {
                let key = keys()[self.rng.below(2) as usize];
                let offsets = self.log().offsets(key).unwrap();
                let left = (offsets.high_watermark.0 - offsets.log_start.0) as u64;
                let before = offsets.log_start.0 + self.rng.below(left / 3 + 1) as i64;
                self.log().delete_records(key, Offset(before)).unwrap();
            }
            _ => self.run_job()?,
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), DiskError> {
        for _ in 0..STEPS {
            self.step()?;
        }
        Ok(())
    }

    /// Holds what can be read against everything that was appended.
    fn check(&mut self) {
        for key in keys() {
            let offsets = self.log().offsets(key).unwrap();
            let (start, end) = (offsets.log_start.0 as usize, offsets.high_watermark.0 as usize);
            let said: Vec<(usize, Said)> =
                self.model[&key][..end].iter().cloned().enumerate().skip(start).collect();
            let found = self.read(key, offsets.log_start, offsets.high_watermark);
            for (offset, record) in &found {
                assert_eq!(*record, self.model[&key][*offset], "{key:?} at {offset}");
            }
            assert_eq!(table(&found), table(&said), "{key:?} from {start} to {end}");
        }
    }

    /// Offsets and records, read as a consumer would, who goes on behind each batch.
    fn read(&mut self, key: PartitionKey, from: Offset, to: Offset) -> Vec<(usize, Said)> {
        let (mut found, mut next) = (Vec::new(), from);
        while next < to {
            let plan = self.log().read(key, next, 5_000, FirstBatch::Always).unwrap();
            let before = next;
            for piece in &plan.pieces {
                let part = read_piece(&mut self.disk, piece).unwrap();
                for bytes in part.batches {
                    take_batches(&bytes, &mut next, &mut found);
                }
                if !part.is_whole {
                    break;
                }
            }
            assert!(next > before, "{key:?}: nothing behind {} below {}", before.0, to.0);
        }
        found.retain(|(offset, _)| *offset >= from.0 as usize);
        found
    }
}

fn take_batches(mut bytes: &[u8], next: &mut Offset, found: &mut Vec<(usize, Said)>) {
    while !bytes.is_empty() {
        let header = RecordBatchHeader::parse(bytes).unwrap();
        let (batch, rest) = bytes.split_at(header.total_len);
        header.check_crc(batch).unwrap();
        let last = header.base_offset.plus(header.last_offset_delta);
        assert!(last >= *next, "batches in order");
        *next = last.plus(1);
        let show = &mut |record: broker_log::KeyedRecord<'_>| {
            let said = (record.key.unwrap().to_vec(), !record.is_tombstone);
            found.push((record.offset.0 as usize, said));
        };
        PlainRecords.walk(batch, show).unwrap();
        bytes = rest;
    }
}

/// Where the last value of each key is that has one.
fn table(records: &[(usize, Said)]) -> BTreeMap<&[u8], usize> {
    let mut table = BTreeMap::new();
    for (offset, (key, has_value)) in records {
        if *has_value {
            table.insert(&key[..], *offset);
        } else {
            table.remove(&key[..]);
        }
    }
    table
}

fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..LIVES {
        world.open();
        world.check();
        let calls = [0, 100, 400][world.rng.below(3) as usize];
        if calls > 0 {
            let calls = world.rng.below(calls) as usize;
            world.disk.die_after(calls, Death::Killed);
        }
        let is_alive = world.live().and_then(|()| world.commit()).is_ok();
        if is_alive {
            world.check();
        }
        let rng = &mut world.rng;
        if rng.below(2) == 0 {
            world.disk.lose_power(&mut || rng.below(2) == 0);
        }
    }
    world.open();
    world.check();
    let records = keys().map(|key| world.read_all(key).len());
    (world.passes, records.iter().sum())
}

impl World {
    fn read_all(&mut self, key: PartitionKey) -> Vec<(usize, Said)> {
        let offsets = self.log().offsets(key).unwrap();
        self.read(key, offsets.log_start, offsets.high_watermark)
    }
}

#[test]
fn the_last_value_of_each_key_survives_whatever_happens() {
    let mut passes = 0;
    for seed in 0..SEEDS {
        let first = run(seed);
        if seed % 10 == 0 {
            assert_eq!(run(seed), first, "seed {seed} again");
        }
        passes += first.0;
    }
    assert!(passes > SEEDS as usize, "{passes} passes");
}

#[test]
fn a_tombstone_goes_when_its_time_has_come() {
    let mut world = World::new(1);
    world.open();
    for _ in 0..200 {
        world.append();
        world.commit().unwrap();
    }
    let settle = |world: &mut World, ms: u64| {
        for _ in 0..10 {
            world.now.mono = world.now.mono + ms / 10;
            world.now.wall.0 += ms as i64 / 10;
            let now = world.now;
            world.log().maintain(now);
            for _ in 0..50 {
                world.commit().unwrap();
                world.run_job().unwrap();
            }
        }
    };
    let tombstones = |world: &mut World| {
        let all = keys().map(|key| world.read_all(key));
        all.iter().flatten().filter(|(_, (_, has_value))| !has_value).count()
    };
    // The files are old enough to be sealed; what is in them is compacted, and the tombstones wait.
    settle(&mut world, 10_000);
    let waiting = tombstones(&mut world);
    assert!((1..=24).contains(&waiting), "{waiting}");
    settle(&mut world, DELETE_RETENTION_MS + 5_000);
    // One may be the last record of its partition.
    let left = tombstones(&mut world);
    assert!(left <= 3 && left < waiting, "{left} of {waiting}");
    world.check();
}
