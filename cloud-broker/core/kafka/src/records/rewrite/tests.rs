use wire::ids::ProducerId;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::{
    BatchProducer, Codec, Record, RecordBatchBuilder, RecordBatchHeader, assign_place,
};
use wire::seq::{StreamEpoch, StreamSeq};

use super::*;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Offset, timestamp, key, value and headers of a record.
type Whole = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    let mut out = Compressor::new(codec, Vec::new(), usize::MAX).unwrap();
    out.write_all(records).unwrap();
    out.finish().unwrap()
}

/// Ten records at offset 1,000, some without key, value or headers; their times fall and rise.
fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    let long = b"a value that is longer than a block of Snappy ".repeat(1_000);
    for at in 0..10_i64 {
        builder.push(&Record {
            timestamp: UnixMs(1_700_000_000_000 - 977 * at + 10_000 * (at % 3)),
            key: (at != 4).then_some(&b"key"[..]),
            value: (at % 4 != 1).then_some(&long[..]),
            headers: &[("a", &b"1"[..]), ("b", &b""[..])][..(at % 3) as usize],
        });
    }
    let producer = BatchProducer {
        id: ProducerId(77),
        epoch: StreamEpoch(3),
        base: StreamSeq::new(12).unwrap(),
    };
    let mut batch = builder.seal(producer, codec, &compress(codec, builder.records())).unwrap();
    assign_place(&mut batch, Offset(1_000), LeaderEpoch(8));
    batch
}

fn walk(batch: &[u8]) -> Vec<Whole> {
    let mut records = Records::new(batch).unwrap();
    let header = *records.header();
    header.check_crc(batch).unwrap();
    let mut found = Vec::new();
    while let Some(record) = records.next_record().unwrap() {
        let headers = record.headers.map(|(name, value)| (name.to_owned(), value.map(Vec::from)));
        found.push((
            header.base_offset.0 + i64::from(record.offset_delta),
            timestamp(&header, record.timestamp_delta).0,
            record.key.map(Vec::from),
            record.value.map(Vec::from),
            headers.collect(),
        ));
    }
    found
}

#[test]
fn what_is_kept_is_what_it_was() {
    let horizon = UnixMs(1_900_000_000_000);
    for codec in CODECS {
        for log_append in [false, true] {
            let mut batch = batch(codec);
            if log_append {
                wire::record_batch::stamp_append_time(&mut batch, UnixMs(1_750_000_000_000));
            }
            let before = RecordBatchHeader::parse(&batch).unwrap();
            for (kept, horizon) in [
                (0b11_1111_1111_u32, Some(horizon)),
                (0b10_0000_0001, None),
                (0b00_0001_0000, Some(horizon)),
                (0b01_0101_0100, None),
            ] {
                let keep: Vec<bool> = (0..10).map(|at| kept >> at & 1 == 1).collect();
                let rewritten = rewrite(&batch, &keep, horizon).unwrap();
                let mut expected = walk(&batch);
                expected.retain(|record| keep[(record.0 - 1_000) as usize]);
                assert_eq!(walk(&rewritten), expected, "{codec:?}, {kept:b}");

                let after = RecordBatchHeader::parse(&rewritten).unwrap();
                let unchanged = RecordBatchHeader {
                    total_len: before.total_len,
                    crc: before.crc,
                    attributes: after.attributes & !RecordBatchHeader::DELETE_HORIZON,
                    base_timestamp: before.base_timestamp,
                    max_timestamp: before.max_timestamp,
                    record_count: before.record_count,
                    ..after
                };
                assert_eq!(unchanged, before);
                assert_eq!(after.record_count, kept.count_ones());
                assert_eq!(after.delete_horizon(), horizon);
                let greatest = expected.iter().map(|record| record.1).max().unwrap();
                assert_eq!(after.max_timestamp.0, greatest);
            }
        }
    }
}

#[test]
fn a_horizon_stays_when_more_records_go() {
    let horizon = UnixMs(1_900_000_000_000);
    let first = rewrite(&batch(Codec::Lz4), &[true; 10], Some(horizon)).unwrap();
    let keep: Vec<bool> = (0..10).map(|at| at == 1).collect();
    let second = rewrite(&first, &keep, None).unwrap();
    assert_eq!(RecordBatchHeader::parse(&second).unwrap().delete_horizon(), Some(horizon));
    assert_eq!(walk(&second), walk(&first)[1..2]);
}

#[test]
fn times_at_the_ends_of_their_range_wrap_back() {
    let mut builder = RecordBatchBuilder::new();
    for timestamp in [i64::MIN, i64::MAX, -1] {
        builder.push(&Record {
            timestamp: UnixMs(timestamp),
            key: Some(b"k"),
            value: None,
            headers: &[],
        });
    }
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    let batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
    for horizon in [i64::MIN, -1, 0, i64::MAX] {
        let rewritten = rewrite(&batch, &[true; 3], Some(UnixMs(horizon))).unwrap();
        assert_eq!(walk(&rewritten), walk(&batch));
    }
}

#[test]
fn records_that_cannot_be_walked_are_not_written() {
    let good = batch(Codec::None);
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    let length = (cut.len() - 12) as i32;
    cut[8..12].copy_from_slice(&length.to_be_bytes());
    assert_eq!(rewrite(&cut, &[true; 10], None), Err(RecordsError::Truncated));

    let mut longer = [&good[..], &[0]].concat();
    let length = (longer.len() - 12) as i32;
    longer[8..12].copy_from_slice(&length.to_be_bytes());
    assert_eq!(rewrite(&longer, &[true; 10], None), Err(RecordsError::Trailing));
    // Also if the record that is broken would not be kept.
    let mut broken = good.clone();
    let last = broken.len() - 1;
    broken[last] = 0xff;
    let keep: Vec<bool> = (0..10).map(|at| at == 0).collect();
    assert_eq!(rewrite(&broken, &keep, None), Err(RecordsError::Record));
}

#[test]
fn what_becomes_too_large_is_not_written() {
    // A batch that compresses well into one block of the best level may be larger under ours; here its records are plain
    // and one too many for the limit.
    let mut builder = RecordBatchBuilder::new();
    let value = vec![7; 1 << 20];
    let count = REWRITTEN_BYTES_MAX / value.len();
    for _ in 0..count {
        builder.push(&Record {
            timestamp: UnixMs(0),
            key: Some(b"k"),
            value: Some(&value),
            headers: &[],
        });
    }
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    let batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
    assert_eq!(rewrite(&batch, &vec![true; count], None), Err(RecordsError::TooLarge));
    let mut keep = vec![true; count];
    keep[3] = false;
    assert!(rewrite(&batch, &keep, None).unwrap().len() <= REWRITTEN_BYTES_MAX);
}

#[test]
fn damaged_batches_are_refused_or_rewritten_as_they_are_read() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    let count = |batch: &[u8]| {
        let mut records = Records::new(batch)?;
        let mut count = 0;
        while records.next_record()?.is_some() {
            count += 1;
        }
        Ok::<_, RecordsError>(count)
    };
    let keep: Vec<bool> = (0..10).map(|at| at % 3 != 1).collect();
    let (mut refused, mut rewritten) = (0, 0);
    for codec in CODECS {
        let good = batch(codec);
        for _ in 0..300 {
            let mut bad = good.clone();
            for _ in 0..=next(3) {
                let at = HEADER_BYTES + next(bad.len() - HEADER_BYTES);
                bad[at] = next(256) as u8;
            }
            match (count(&bad), rewrite(&bad, &keep, Some(UnixMs(5)))) {
                (Ok(10), Ok(batch)) => {
                    assert_eq!(count(&batch), Ok(7), "{codec:?}");
                    rewritten += 1;
                }
                (Err(error), Err(same)) => {
                    assert_eq!(error, same, "{codec:?}");
                    refused += 1;
                }
                other => panic!("{codec:?}: {other:?}"),
            }
        }
    }
    // Of a batch that is not compressed, most bytes are values.
    assert!(refused > 300 && rewritten > 200, "{refused}, {rewritten}");
}
