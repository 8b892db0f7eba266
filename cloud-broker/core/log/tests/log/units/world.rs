//! WAL files, units made of them, and the batches that they hold as a model knows them.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::{RecordBatchHeader, assign_place};
use wire::time::UnixMs;

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{SimDisk, write};
use broker_log::{
    BatchToPlace, Extent, ExtentRead, FileNo, FirstBatch, Job, JobDone, LiveExtent, Made, NewFile,
    Pace, PartitionKey, Proceed, RewriteJob, RunFlags, SealJob, SlotHead, SlotNo, SlotToWrite,
    UnitId, UnitMeta, UnitNo, UnitRun, WalFileHeader, encode_data, setsum_of_batch,
};

use crate::batches::{Rng, batch_of, key, plain_producer};

const ME: Incarnation = Incarnation([9; 16]);
const FILE_BYTES: u32 = 256 << 10;
const FIRST_POS: u32 = 4096;

/// A batch as the model knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub base: Offset,
    pub last: Offset,
    pub timestamp: UnixMs,
    pub append_ms: UnixMs,
    /// As the log has it: with base offset and epoch.
    pub bytes: Bytes,
}

/// A batch to write.
#[derive(Debug, Clone)]
pub struct Write {
    pub key: PartitionKey,
    /// Offsets left out before it.
    pub gap: i64,
    pub epoch: i32,
    pub bytes: Bytes,
}

pub struct World {
    pub disk: SimDisk,
    pub model: BTreeMap<PartitionKey, Vec<Known>>,
    pub extents: BTreeMap<PartitionKey, Vec<Extent>>,
    pub units: BTreeMap<UnitId, UnitMeta>,
    pub next_unit: UnitNo,
    next_file: FileNo,
    pub next_slot: SlotNo,
}

/// Never holds a job back.
pub struct AtOnce;

impl Pace for AtOnce {
    fn wrote(&mut self, _: usize) -> Proceed {
        Proceed::Go
    }
}

pub fn bytes_of(name: u64, records: u32, bytes: usize, timestamp: i64) -> Bytes {
    batch_of(plain_producer(), name, records, bytes, timestamp)
}

impl World {
    pub fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            model: BTreeMap::new(),
            extents: BTreeMap::new(),
            units: BTreeMap::new(),
            next_unit: UnitNo(1),
            next_file: FileNo::FIRST,
            next_slot: SlotNo(0),
        }
    }

    /// Writes a WAL file with these slots, each with its append time.
    pub fn wal_file(&mut self, slots: Vec<(i64, Vec<Write>)>) -> SealJob {
        self.wal_file_of(slots, FILE_BYTES)
    }

    /// The same, of a file of this size.
    pub fn wal_file_of(&mut self, slots: Vec<(i64, Vec<Write>)>, size: u32) -> SealJob {
        let file_no = self.next_file;
        self.next_file = file_no.next();
        let mut job = SealJob {
            file_no,
            first_slot: self.next_slot,
            end_slot: self.next_slot,
            slots_end: u64::from(FIRST_POS),
            size: u64::from(size),
            setsum: 0,
            runs: Vec::new(),
        };
        for (append_ms, batches) in slots {
            let pos = u32::try_from(job.slots_end).unwrap();
            self.slot(&mut job, pos, UnixMs(append_ms), batches);
        }
        self.next_slot = job.end_slot;
        job
    }

    fn slot(&mut self, job: &mut SealJob, pos: u32, append_ms: UnixMs, batches: Vec<Write>) {
        let placed: Vec<_> =
            batches.into_iter().map(|write| self.place(append_ms, write)).collect();
        let slot_no = job.end_slot;
        let head = SlotHead { incarnation: ME, slot_no, prev_crc: 0, append_ms };
        let slot = encode_data(&head, &placed);
        let header = WalFileHeader {
            incarnation: ME,
            file_no: job.file_no,
            first_slot: slot_no,
            size: job.size,
        };
        let new_file = (pos == FIRST_POS).then(|| NewFile {
            file_no: job.file_no,
            size: u32::try_from(job.size).unwrap(),
            header: Bytes::copy_from_slice(&header.encode()),
        });
        let to_write =
            SlotToWrite { slot_no, new_file, file_no: job.file_no, pos, bytes: slot.bytes };
        write(&mut self.disk, &to_write).unwrap();
        for mut entry in slot.runs {
            let of_run = self.model[&entry.key]
                .iter()
                .filter(|known| (entry.base_offset..=entry.last_offset).contains(&known.base));
            let setsum = of_run.fold(0_u64, |sum, known| {
                let crc = RecordBatchHeader::parse(&known.bytes).unwrap().crc;
                sum.wrapping_add(setsum_of_batch(entry.key, known.base, crc))
            });
            job.setsum = job.setsum.wrapping_add(setsum);
            entry.pos += pos;
            job.runs.push(UnitRun { entry, append_ms, setsum });
        }
        job.end_slot = slot_no.next();
        job.slots_end = u64::from(pos) + to_write.bytes.len() as u64;
    }

    fn place(&mut self, append_ms: UnixMs, write: Write) -> BatchToPlace {
        let header = RecordBatchHeader::parse(&write.bytes).unwrap();
        let known = self.model.entry(write.key).or_default();
        let base = Offset(known.last().map_or(0, |known| known.last.0 + 1) + write.gap);
        let last = base.plus(header.last_offset_delta);
        let leader_epoch = LeaderEpoch(write.epoch);
        let mut placed = write.bytes.to_vec();
        assign_place(&mut placed, base, leader_epoch);
        let timestamp = header.max_timestamp;
        known.push(Known { base, last, timestamp, append_ms, bytes: placed.into() });
        BatchToPlace {
            key: write.key,
            leader_epoch,
            base_offset: base,
            last_offset: last,
            max_timestamp: timestamp,
            flags: RunFlags::of(&header),
            bytes: write.bytes,
            uplink: None,
        }
    }

    pub fn run(&mut self, job: Job) -> JobDone {
        job.run(&mut self.disk, &mut AtOnce, &PlainRecords)
    }

    /// Seals a file and takes its extents.
    pub fn seal(&mut self, job: SealJob) -> Made {
        let JobDone::Sealed(made) = self.run(Job::Seal(job)) else {
            panic!("a good file can be sealed");
        };
        self.take(&made);
        made
    }

    /// Files full of small and large batches to a few partitions, sealed.
    pub fn filled(seed: u64, files: u64, partitions: u64) -> Self {
        let mut rng = Rng(seed);
        let mut world = Self::new();
        let mut name = 0;
        for file in 0..files {
            let mut slots = Vec::new();
            for slot in 0..2 + rng.below(4) {
                let mut batches = Vec::new();
                for _ in 0..rng.below(12) {
                    name += 1;
                    let bytes = [30, 200, 700, 6_000][rng.below(4) as usize];
                    let records = 1 + rng.below(4) as u32;
                    batches.push(Write {
                        key: key(rng.below(2) as u32, rng.below(partitions) as u32),
                        gap: 0,
                        epoch: (file / 2) as i32,
                        bytes: bytes_of(name, records, bytes, rng.below(1_000) as i64),
                    });
                }
                slots.push(((file * 100 + slot) as i64, batches));
            }
            let job = world.wal_file(slots);
            world.seal(job);
        }
        world
    }

    pub fn rewrite_job(&self, inputs: &[UnitId]) -> RewriteJob {
        let mut live = Vec::new();
        for (key, extents) in &self.extents {
            let of_inputs = extents.iter().filter(|extent| inputs.contains(&extent.unit));
            live.extend(of_inputs.map(|extent| LiveExtent {
                key: *key,
                extent: *extent,
                log_start: Offset::ZERO,
            }));
        }
        live.sort_by_key(|live| (live.key.shard(), live.key, live.extent.base));
        RewriteJob {
            inputs: inputs.iter().map(|id| self.units[id]).collect(),
            live,
            first_unit: self.next_unit,
            own_unit_bytes: 20_000,
            unit_bytes: 64 << 10,
        }
    }

    /// What the engine does with units that were made: they take the place of `inputs`.
    pub fn swap(&mut self, inputs: &[UnitId], made: &Made) {
        for extents in self.extents.values_mut() {
            extents.retain(|extent| !inputs.contains(&extent.unit));
        }
        self.units.retain(|id, _| !inputs.contains(id));
        self.take(made);
    }

    fn take(&mut self, made: &Made) {
        for unit in &made.units {
            assert!(self.units.insert(unit.id, *unit).is_none(), "a number is used once");
            if let UnitId::Unit(no) = unit.id {
                self.next_unit = self.next_unit.max(UnitNo(no.0 + 1));
            }
        }
        for (key, extent) in &made.extents {
            let extents = self.extents.entry(*key).or_default();
            extents.push(*extent);
            extents.sort_by_key(|extent| extent.base);
        }
    }

    /// Takes the gaps between a partition's extents, all in one unit, for what compaction left: makes one extent of them.
    pub fn join_extents(&mut self, key: PartitionKey) {
        let extents = self.extents.remove(&key).unwrap();
        let joined = extents.into_iter().reduce(|a, b| Extent {
            last: b.last,
            max_timestamp: a.max_timestamp.max(b.max_timestamp),
            max_append_ms: a.max_append_ms.max(b.max_append_ms),
            bytes: a.bytes + b.bytes,
            count: a.count + b.count,
            ..a
        });
        self.extents.insert(key, vec![joined.unwrap()]);
    }

    /// Every batch of a partition, read extent by extent with this limit.
    pub fn read_all(&mut self, key: PartitionKey, max_bytes: usize) -> Vec<Bytes> {
        let mut batches = Vec::new();
        for extent in self.extents.get(&key).cloned().unwrap_or_default() {
            let mut from = extent.base;
            while from <= extent.last {
                let part = self.read(key, extent, from, max_bytes).run(&mut self.disk).unwrap();
                assert!(part.next > from, "a read with FirstBatch::Always gets on");
                from = part.next;
                batches.extend(part.batches.into_iter().flat_map(split_placed));
            }
        }
        batches
    }

    pub fn read(
        &self,
        key: PartitionKey,
        extent: Extent,
        from: Offset,
        max_bytes: usize,
    ) -> ExtentRead {
        let unit = self.units[&extent.unit];
        ExtentRead { key, unit, extent, from, max_bytes, first: FirstBatch::Always }
    }

    /// Every partition reads as the model knows it.
    pub fn check(&mut self) {
        let model = self.model.clone();
        for (key, known) in model {
            let wanted: Vec<_> = known.into_iter().map(|known| known.bytes).collect();
            for max_bytes in [0, 3_000, usize::MAX] {
                assert_eq!(self.read_all(key, max_bytes), wanted, "{key:?}, {max_bytes}");
            }
        }
    }
}

/// Batches as they lie in the log.
pub fn split_placed(mut bytes: Bytes) -> Vec<Bytes> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let header = RecordBatchHeader::parse(&bytes).unwrap();
        header.check_crc(&bytes).unwrap();
        batches.push(bytes.split_to(header.total_len));
    }
    batches
}
