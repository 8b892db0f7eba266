//! A partition that is compacted again and again, beside a list of everything that was ever appended to it.

use std::collections::{BTreeMap, BTreeSet};

use wire::ids::{Partition, ProducerId};
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::{
    BatchProducer, Codec, HEADER_BYTES, Record, RecordBatchBuilder, RecordBatchHeader,
    assign_place, stamp_append_time,
};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use super::super::{
    AfterGap, CompactJob, Damage, Home, JobDone, LIMITS, Limits, Made, Origin, Pace, Proceed,
    UnitsOut, run_within,
};
use crate::batch_cut::FirstBatch;
use crate::compaction::RecordRewriter;
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, SlotNo, TopicNo, UnitNo};
use crate::job::{Ages, Job, SealJob, UnitRun};
use crate::plain_records::PlainRecords;
use crate::policy::CompactPolicy;
use crate::sim_disk::{DiskError, FileName, SimDisk};
use crate::slot::{RunEntry, RunFlags};
use crate::unit::{ExtentRead, ReadFailed, UnitMeta};

pub(super) const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(3), partition: Partition(1) };

pub(super) const SECOND: i64 = 1_000;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

/// A record as it is read, with its batch's delete horizon.
pub(super) type Found = (Said, Option<UnixMs>);

pub(super) struct Unhurried;

impl Pace for Unhurried {
    fn wrote(&mut self, _bytes: usize) -> Proceed {
        Proceed::Go
    }
}

/// How a pass went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) cleaned: i64,
    pub(super) next_horizon: Option<UnixMs>,
    pub(super) damaged: Vec<Damage>,
    pub(super) made: Made,
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) extents: Vec<(Extent, UnitMeta)>,
    pub(super) appended: Vec<Said>,
    pub(super) log_start: i64,
    pub(super) cleaned: i64,
    pub(super) now: i64,
    pub(super) policy: CompactPolicy,
    pub(super) ages: Ages,
    pub(super) limits: Limits,
    next_unit: UnitNo,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            extents: Vec::new(),
            appended: Vec::new(),
            log_start: 0,
            cleaned: 0,
            now: 1_700_000_000 * SECOND,
            policy: CompactPolicy {
                min_dirty_per_mille: 500,
                min_lag_ms: 0,
                max_lag_ms: u64::MAX,
                delete_retention_ms: 100 * SECOND as u64,
            },
            ages: Ages::Kept,
            limits: LIMITS,
            next_unit: UnitNo(1),
        }
    }

    pub(super) fn next(&self) -> i64 {
        self.appended.len() as i64
    }

    /// Appends batches of records, key and value each, in a unit of their own.
    pub(super) fn append(&mut self, batches: &[&[(Option<&str>, Option<&str>)]]) {
        let batches = batches.iter().map(|records| self.batch(records)).collect::<Vec<_>>();
        self.append_built(&batches);
    }

    /// The batch of these records, at the next offsets.
    pub(super) fn batch(&mut self, records: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
        let base = self.next();
        let mut builder = RecordBatchBuilder::new();
        for (i, (key, value)) in (0..).zip(records) {
            let said = Said {
                offset: base + i,
                timestamp: self.now - 5 * (i % 3),
                key: key.map(|key| key.as_bytes().to_vec()),
                value: value.map(|value| value.as_bytes().to_vec()),
            };
            builder.push(&Record {
                timestamp: UnixMs(said.timestamp),
                key: said.key.as_deref(),
                value: said.value.as_deref(),
                headers: &[("h", b"x")],
            });
            self.appended.push(said);
        }
        let producer =
            BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
        let mut batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
        assign_place(&mut batch, Offset(base), LeaderEpoch(4));
        batch
    }

    /// As [`Self::append`], of batches that were made before.
    pub(super) fn append_built(&mut self, batches: &[Vec<u8>]) {
        let mut out = UnitsOut::new(self.next_unit, u64::MAX);
        out.begin_partition(Home::Shared, &mut Unhurried).unwrap();
        let origin = Origin {
            key: KEY,
            append_ms: UnixMs(self.now),
            slots: (SlotNo(self.next_unit.0), SlotNo(self.next_unit.0 + 1)),
            after_gap: AfterGap::NewExtent,
        };
        for batch in batches {
            let header = RecordBatchHeader::parse(batch).unwrap();
            out.push_batch(&mut self.disk, &mut Unhurried, &origin, (&header, batch)).unwrap();
        }
        let made = out.finish(&mut Unhurried).unwrap();
        let placed = self.place(&made);
        self.extents.extend(placed);
    }

    /// As [`Self::append_built`], into a sealed WAL file, where other things lie between the batches.
    pub(super) fn append_sealed(&mut self, batches: &[Vec<u8>]) {
        let (mut body, mut runs) = (Vec::new(), Vec::new());
        for batch in batches {
            let header = RecordBatchHeader::parse(batch).unwrap();
            body.extend_from_slice(&[0xee; 100]);
            runs.push(UnitRun {
                entry: RunEntry {
                    key: KEY,
                    leader_epoch: header.leader_epoch,
                    pos: body.len() as u32,
                    len: batch.len() as u32,
                    batches: 1,
                    flags: RunFlags::of(&header),
                    base_offset: header.base_offset,
                    last_offset: header.base_offset.plus(header.last_offset_delta),
                    max_timestamp: header.max_timestamp,
                },
                append_ms: UnixMs(self.now),
                setsum: 0,
            });
            body.extend_from_slice(batch);
        }
        let file_no = FileNo(self.next_unit.0);
        let (first_slot, end_slot) = (SlotNo(file_no.0), SlotNo(file_no.0 + 1));
        let slots_end = body.len() as u64;
        self.disk.put_file(file_no, body);
        let size = slots_end;
        let job = SealJob { file_no, first_slot, end_slot, slots_end, size, setsum: 0, runs };
        let JobDone::Sealed(made) =
            Job::Seal(job).run(&mut self.disk, &mut Unhurried, &PlainRecords)
        else {
            panic!("not sealed");
        };
        let placed = self.place(&made);
        self.extents.extend(placed);
    }

    /// The records that the broker stamped bear its time.
    pub(super) fn append_stamped(&mut self, records: &[(Option<&str>, Option<&str>)]) {
        let mut batch = self.batch(records);
        stamp_append_time(&mut batch, UnixMs(self.now));
        let from = self.appended.len() - records.len();
        for said in &mut self.appended[from..] {
            said.timestamp = self.now;
        }
        self.append_built(&[batch]);
    }

    pub(super) fn job(&self) -> CompactJob {
        CompactJob {
            key: KEY,
            extents: self.extents.clone(),
            log_start: Offset(self.log_start),
            cleaned: Offset(self.cleaned),
            policy: self.policy,
            ages: self.ages,
            now: UnixMs(self.now),
            first_unit: self.next_unit,
        }
    }

    /// Compacts, and puts what was made in the place of what it was made of.
    pub(super) fn compact(&mut self) -> Outcome {
        self.compact_with(&PlainRecords)
    }

    pub(super) fn compact_with(&mut self, records: &dyn RecordRewriter) -> Outcome {
        let job = self.job();
        let done = run_within(self.limits, &job, &mut self.disk, &mut Unhurried, records);
        let JobDone::Compacted { key, inputs, made, cleaned, next_horizon, damaged } = done else {
            panic!("{done:?}");
        };
        assert_eq!(key, KEY);
        let expected = self.extents.iter().map(|(extent, _)| *extent);
        assert_eq!(inputs, expected.take(inputs.len()).collect::<Vec<_>>());
        let rest = self.extents.split_off(inputs.len());
        self.extents = self.place(&made);
        self.extents.extend(rest);
        self.cleaned = cleaned.0;
        Outcome { cleaned: cleaned.0, next_horizon, damaged, made }
    }

    /// Extents with their units, whose numbers are taken now.
    fn place(&mut self, made: &Made) -> Vec<(Extent, UnitMeta)> {
        let units: BTreeMap<_, _> = made.units.iter().map(|unit| (unit.id, *unit)).collect();
        self.next_unit = UnitNo(self.next_unit.0 + units.len() as u64);
        let placed = made.extents.iter().map(|(key, extent)| {
            assert_eq!(*key, KEY);
            (*extent, units[&extent.unit])
        });
        placed.collect()
    }

    /// What a reader finds from this offset on.
    pub(super) fn read_from(&mut self, from: i64) -> Result<Vec<Found>, ReadFailed<DiskError>> {
        let (mut found, mut next) = (Vec::new(), from);
        for (extent, unit) in self.extents.clone() {
            while next <= extent.last.0 {
                let read = ExtentRead {
                    key: KEY,
                    unit,
                    extent,
                    from: Offset(next),
                    max_bytes: 700,
                    first: FirstBatch::Always,
                };
                let part = read.run(&mut self.disk)?;
                assert!(part.next.0 > next, "the read gets on");
                next = part.next.0;
                for run in &part.batches {
                    take_records(run, &mut found);
                }
            }
        }
        found.retain(|(said, _)| said.offset >= from);
        Ok(found)
    }

    /// The offsets that one can read, with whatever is damaged left out.
    pub(super) fn readable(&mut self) -> BTreeSet<i64> {
        let mut found = Vec::new();
        for (key, unit, extent) in self.extents.iter().map(|(extent, unit)| (KEY, *unit, *extent)) {
            for from in (extent.base.0..=extent.last.0).map(Offset) {
                let first = FirstBatch::Always;
                let read = ExtentRead { key, unit, extent, from, max_bytes: 1, first };
                for batch in read.run(&mut self.disk).into_iter().flat_map(|part| part.batches) {
                    take_records(&batch, &mut found);
                }
            }
        }
        found.into_iter().map(|(said, _)| said.offset).collect()
    }

    /// Whether these bytes are in the first unit.
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        let unit = self.disk.content(FileName::from(self.extents[0].0.unit)).unwrap();
        unit.windows(bytes.len()).any(|window| window == bytes)
    }

    /// First offset, last offset and records of each batch.
    pub(super) fn batches(&mut self) -> Vec<(i64, i64, u32)> {
        let mut found = Vec::new();
        for (key, unit, extent) in self.extents.iter().map(|(extent, unit)| (KEY, *unit, *extent)) {
            let (from, max_bytes, first) = (extent.base, usize::MAX, FirstBatch::Always);
            let read = ExtentRead { key, unit, extent, from, max_bytes, first };
            for run in read.run(&mut self.disk).unwrap().batches {
                let mut rest = &run[..];
                while let Ok(header) = RecordBatchHeader::parse(rest) {
                    let last = header.base_offset.plus(header.last_offset_delta);
                    found.push((header.base_offset.0, last.0, header.record_count));
                    rest = &rest[header.total_len..];
                }
            }
        }
        found
    }

    pub(super) fn read(&mut self) -> Vec<Found> {
        self.read_from(self.log_start).unwrap()
    }

    /// The offsets that are there.
    pub(super) fn offsets(&mut self) -> Vec<i64> {
        self.read().into_iter().map(|(said, _)| said.offset).collect()
    }

    /// The last value of each key that has one.
    pub(super) fn table<'a>(
        records: impl IntoIterator<Item = &'a Said>,
    ) -> BTreeMap<Vec<u8>, Said> {
        let mut table = BTreeMap::new();
        for said in records {
            let Some(key) = said.key.clone() else {
                continue;
            };
            if said.value.is_some() {
                table.insert(key, said.clone());
            } else {
                table.remove(&key);
            }
        }
        table
    }

    /// The last value of each key in everything that may be read.
    pub(super) fn expected_table(&self) -> BTreeMap<Vec<u8>, Said> {
        Self::table(&self.appended[self.log_start as usize..])
    }
}

/// The records of some batches, read with no code of compaction's but the walk over records.
pub(super) fn take_records(mut run: &[u8], found: &mut Vec<Found>) {
    while !run.is_empty() {
        let header = RecordBatchHeader::parse(run).unwrap();
        let (batch, rest) = run.split_at(header.total_len);
        header.check_crc(batch).unwrap();
        let mut at = &batch[HEADER_BYTES..];
        let (mut count, mut greatest) = (0, i64::MIN);
        while !at.is_empty() {
            let said = take_record(&header, &mut at);
            greatest = greatest.max(said.timestamp);
            found.push((said, header.delete_horizon()));
            count += 1;
        }
        assert_eq!((count, greatest), (header.record_count, header.max_timestamp.0));
        run = rest;
    }
}

fn take_record(header: &RecordBatchHeader, at: &mut &[u8]) -> Said {
    let varint = |at: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = at[0];
            *at = &at[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
        }
    };
    let length = varint(at) as usize;
    let (mut body, rest) = at.split_at(length);
    *at = rest;
    body = &body[1..];
    let delta = varint(&mut body);
    let offset = header.base_offset.0 + varint(&mut body);
    let bytes = |body: &mut &[u8]| match varint(body) {
        -1 => None,
        length => {
            let (taken, rest) = body.split_at(length as usize);
            *body = rest;
            Some(taken.to_vec())
        }
    };
    let (key, value) = (bytes(&mut body), bytes(&mut body));
    assert_eq!(body, b"\x02\x02h\x02x", "the headers");
    let is_stamped = header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0;
    let timestamp =
        if is_stamped { header.max_timestamp.0 } else { header.base_timestamp.0 + delta };
    Said { offset, timestamp, key, value }
}
