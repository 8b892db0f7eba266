use std::collections::BTreeMap;
use std::io::Write as _;

use broker_log::sim_disk::{FileName, SimDisk};
use broker_log::{
    Ages, CompactJob, CompactPolicy, Extent, ExtentRead, FileNo, FirstBatch, Job, JobDone, Made,
    Pace, PartitionKey, Proceed, RunEntry, RunFlags, SealJob, SlotNo, TopicNo, UnitMeta, UnitNo,
    UnitRun, setsum_of_batch,
};
use wire::ids::{Partition, ProducerId};
use wire::offset::LeaderEpoch;
use wire::record_batch::{
    BatchProducer, Codec, Record, RecordBatchBuilder, RecordBatchHeader, assign_place,
};
use wire::seq::{StreamEpoch, StreamSeq};

use super::*;

const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

struct Unhurried;

impl Pace for Unhurried {
    fn wrote(&mut self, _bytes: usize) -> Proceed {
        Proceed::Go
    }
}

fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let level = flate2::Compression::new(6);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(records).unwrap(),
        Codec::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Zstd => zstd::encode_all(records, 3).unwrap(),
    }
}

/// A batch of five records of some of seven keys; every fourth record is a tombstone.
fn batch(base: i64, codec: Codec) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    for offset in base..base + 5 {
        let value = format!("value {offset} ").repeat(50);
        builder.push(&Record {
            timestamp: UnixMs(1_700_000_000_000 + offset * 37 % 11),
            key: Some(format!("key {}", offset * offset % 7).as_bytes()),
            value: (offset % 4 != 3).then_some(value.as_bytes()),
            headers: &[("n", b"1")],
        });
    }
    let producer =
        BatchProducer { id: ProducerId(9), epoch: StreamEpoch(0), base: StreamSeq::ZERO };
    let records = compress(codec, builder.records());
    let mut batch = builder.seal(producer, codec, &records).unwrap();
    assign_place(&mut batch, Offset(base), LeaderEpoch(1));
    batch
}

/// A sealed WAL file of these batches, as far as that takes no slots.
fn seal(disk: &mut SimDisk, batches: &[Vec<u8>]) -> Made {
    let (mut body, mut runs) = (Vec::new(), Vec::new());
    for bytes in batches {
        let header = RecordBatchHeader::parse(bytes).unwrap();
        runs.push(UnitRun {
            entry: RunEntry {
                key: KEY,
                leader_epoch: header.leader_epoch,
                pos: u32::try_from(body.len()).unwrap(),
                len: u32::try_from(bytes.len()).unwrap(),
                batches: 1,
                flags: RunFlags::of(&header),
                base_offset: header.base_offset,
                last_offset: header.base_offset.plus(header.last_offset_delta),
                max_timestamp: header.max_timestamp,
            },
            append_ms: UnixMs(1),
            setsum: setsum_of_batch(KEY, header.base_offset, header.crc),
        });
        body.extend_from_slice(bytes);
    }
    let end = body.len() as u64;
    disk.put(FileName::Wal(FileNo(0)), body);
    let setsum = runs.iter().fold(0_u64, |sum, run| sum.wrapping_add(run.setsum));
    let job = SealJob {
        file_no: FileNo(0),
        first_slot: SlotNo(0),
        end_slot: SlotNo(9),
        slots_end: end,
        size: end,
        setsum,
        runs,
    };
    match Job::Seal(job).run(disk, &mut Unhurried, &KafkaRecords) {
        JobDone::Sealed(made) => made,
        other => panic!("{other:?}"),
    }
}

fn compact(disk: &mut SimDisk, made: &Made, now: UnixMs, cleaned: Offset) -> JobDone {
    let job = CompactJob {
        key: KEY,
        extents: placed(made),
        log_start: Offset::ZERO,
        cleaned,
        policy: CompactPolicy {
            min_dirty_per_mille: 0,
            min_lag_ms: 0,
            max_lag_ms: 0,
            delete_retention_ms: 1_000,
        },
        ages: Ages::Forgotten,
        now,
        first_unit: UnitNo(cleaned.0.unsigned_abs() + 1),
    };
    Job::Compact(job).run(disk, &mut Unhurried, &KafkaRecords)
}

fn placed(made: &Made) -> Vec<(Extent, UnitMeta)> {
    let unit = |extent: &Extent| *made.units.iter().find(|unit| unit.id == extent.unit).unwrap();
    made.extents.iter().map(|(_, extent)| (*extent, unit(extent))).collect()
}

/// Offset, time, key and value of every record, with the codec of its batch.
fn read(disk: &mut SimDisk, made: &Made) -> Vec<(i64, i64, String, Option<String>, Codec)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut found = Vec::new();
    for (extent, unit) in placed(made) {
        let (key, from, max_bytes) = (KEY, extent.base, usize::MAX);
        let read = ExtentRead { key, unit, extent, from, max_bytes, first: FirstBatch::Always };
        for run in read.run(disk).unwrap().batches {
            let mut rest = &run[..];
            while !rest.is_empty() {
                let mut records = Records::new(rest).unwrap();
                let header = *records.header();
                header.check_crc(rest).unwrap();
                while let Some(record) = records.next_record().unwrap() {
                    assert_eq!(record.headers.count(), 1);
                    found.push((
                        header.base_offset.0 + i64::from(record.offset_delta),
                        header.base_timestamp.0 + record.timestamp_delta,
                        text(record.key.unwrap()),
                        record.value.map(text),
                        header.codec,
                    ));
                }
                rest = &rest[header.total_len..];
            }
        }
    }
    found
}

#[test]
fn batches_of_every_codec_are_compacted() {
    let mut disk = SimDisk::new();
    let batches: Vec<_> = (0..30).map(|i| batch(i * 5, CODECS[i as usize % 5])).collect();
    let made = seal(&mut disk, &batches);
    let all = read(&mut disk, &made);
    assert_eq!(all.len(), 150);
    let mut last = BTreeMap::new();
    for record in &all {
        last.insert(record.2.clone(), record.clone());
    }
    let mut expected: Vec<_> = last.into_values().collect();
    expected.sort_by_key(|record| record.0);
    assert!(expected.iter().any(|record| record.3.is_none()), "a tombstone is among them");

    let JobDone::Compacted { made, cleaned, next_horizon, .. } =
        compact(&mut disk, &made, UnixMs(5_000), Offset::ZERO)
    else {
        panic!("not compacted");
    };
    assert_eq!((cleaned, next_horizon), (Offset(150), Some(UnixMs(6_000))));
    assert_eq!(read(&mut disk, &made), expected);

    let done = compact(&mut disk, &made, UnixMs(6_000), cleaned);
    let JobDone::Compacted { made, next_horizon, .. } = done else {
        panic!("{done:?}");
    };
    let end = expected.last().cloned();
    expected.retain(|record| record.3.is_some() || Some(record) == end.as_ref());
    assert_eq!((read(&mut disk, &made), next_horizon), (expected, None));
}

#[test]
fn what_is_no_batch_of_records_is_unreadable() {
    let mut cut = batch(0, Codec::Lz4);
    cut.truncate(cut.len() - 20);
    let length = (cut.len() - 12) as i32;
    cut[8..12].copy_from_slice(&length.to_be_bytes());
    assert_eq!(KafkaRecords.walk(&cut, &mut |_| ()), Err(Unreadable));
    assert_eq!(KafkaRecords.rewrite(&cut, &[true; 5], None), Err(Unreadable));
    let mut far = batch(0, Codec::None);
    assign_place(&mut far, Offset(i64::MAX - 2), LeaderEpoch(1));
    assert_eq!(KafkaRecords.walk(&far, &mut |_| ()), Err(Unreadable));
}
