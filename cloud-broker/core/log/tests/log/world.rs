//! A broker's log that runs its own jobs, beside a list of what was appended to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::{MonoMs, UnixMs};

use broker_log::plain_records::PlainRecords;
use broker_log::{
    Applied, Job, JobDone, Log, LogSettings, LogUsage, Now, Pace, PartitionKey, Proceed,
};

use crate::batches::{Rng, batch, produced};
use crate::disk::{Disk, flush, read_all, start};

/// When every world begins.
pub const START: UnixMs = UnixMs(1_700_000_000_000);

/// Lets every job run on.
pub struct Hurry;

impl Pace for Hurry {
    fn wrote(&mut self, _: usize) -> Proceed {
        Proceed::Go
    }
}

pub struct World {
    pub disk: Disk,
    pub log: Log,
    pub settings: LogSettings,
    pub now: Now,
    /// What was appended, by partition: each batch with its first and last offset.
    pub model: BTreeMap<PartitionKey, Vec<(Offset, Offset, Bytes)>>,
    pub keys: Vec<PartitionKey>,
    pub rng: Rng,
    pub life: u8,
    names: u64,
}

impl World {
    pub fn new(settings: LogSettings, keys: &[PartitionKey]) -> Self {
        let mut disk = Disk::new();
        let log = start(&mut disk, 1, &settings).unwrap();
        let mut world = Self {
            disk,
            log,
            settings,
            now: Now { mono: MonoMs(0), wall: START },
            model: BTreeMap::new(),
            keys: keys.to_vec(),
            rng: Rng(1),
            life: 1,
            names: 0,
        };
        world.register();
        world
    }

    fn register(&mut self) {
        for key in &self.keys {
            self.log.register_partition(*key).unwrap();
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono + ms;
        self.now.wall.0 += ms as i64;
    }

    /// Appends batches of `bytes` until so many were appended to each partition, some in one commit.
    pub fn append(&mut self, batches: usize, bytes: usize) {
        for _ in 0..batches {
            for key in self.keys.clone() {
                self.append_to(key, bytes);
                if self.rng.below(3) == 0 {
                    flush(&mut self.log, &mut self.disk);
                }
            }
        }
        flush(&mut self.log, &mut self.disk);
    }

    pub fn append_to(&mut self, key: PartitionKey, bytes: usize) {
        self.names += 1;
        let records = 1 + self.rng.below(3) as u32;
        let batch = batch(self.names, records, bytes);
        let appended = self.log.append(self.now.wall, key, batch.clone()).unwrap();
        let last = Offset(appended.base_offset.0 + i64::from(records) - 1);
        let known = (appended.base_offset, last, produced(&batch));
        self.model.entry(key).or_default().push(known);
    }

    /// Writes all that is staged and runs all jobs, until there is nothing left to do.
    pub fn settle(&mut self) -> Vec<Applied> {
        let mut applied = Vec::new();
        loop {
            flush(&mut self.log, &mut self.disk);
            let Some(job) = self.log.take_job(self.now) else {
                return applied;
            };
            let done = self.run(job);
            if let JobDone::Failed { doing, error, .. } = &done {
                panic!("{doing}: {error}");
            }
            applied.push(self.log.job_done(self.now, done));
            assert_eq!(applied.last().unwrap().rejected, []);
        }
    }

    pub fn run(&mut self, job: Job) -> JobDone {
        job.run(&mut self.disk, &mut Hurry, &PlainRecords)
    }

    /// Two checkpoints, so that all space is given back that can be.
    pub fn give_back(&mut self) {
        for _ in 0..2 {
            self.log.request_checkpoint();
            self.settle();
        }
        self.pass(self.settings.maintenance_ms);
        self.maintain();
        self.settle();
    }

    pub fn maintain(&mut self) {
        self.log.maintain(self.now);
        while self.log.next_maintenance() == Some(MonoMs(0)) {
            self.log.maintain(self.now);
        }
    }

    /// The process ends as it stands; another one starts on the same disk.
    pub fn restart(&mut self) {
        self.life += 1;
        self.log = start(&mut self.disk, self.life, &self.settings).unwrap();
        self.register();
    }

    /// Every batch from the log's start on reads back as it was appended, and no other.
    pub fn check(&mut self) {
        for key in self.keys.clone() {
            let offsets = self.log.offsets(key).unwrap();
            let known = self.model.get(&key).map_or(&[][..], |known| known);
            let wanted = known.iter().filter(|(_, last, _)| *last >= offsets.log_start);
            let wanted: Vec<_> = wanted.map(|(base, _, bytes)| (*base, bytes.clone())).collect();
            let found = read_all(&self.log, &mut self.disk, key);
            assert_eq!(found.len(), wanted.len(), "{key:?}");
            assert!(found == wanted, "{key:?} reads as it was appended");
            let end = known.last().map_or(0, |(_, last, _)| last.0 + 1);
            assert_eq!(offsets.high_watermark, Offset(end), "{key:?}");
        }
    }

    pub fn usage(&self) -> LogUsage {
        self.log.usage()
    }
}
