use std::io::Write as _;

use wire::ids::ProducerId;
use wire::record_batch::{BatchProducer, Codec, Record as Written, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};

use super::*;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn compress(codec: Codec, records: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => records.to_vec(),
        Codec::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
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

/// Snappy as Kafka's Java client writes it.
fn compress_xerial(records: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(block_bytes) {
        let block = compress(Codec::Snappy, block);
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn seal(builder: &RecordBatchBuilder, codec: Codec, records: &[u8]) -> Vec<u8> {
    let producer = BatchProducer {
        id: ProducerId::UPLINK_MIN,
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::ZERO,
    };
    builder.seal(producer, codec, records).unwrap()
}

fn builder(timestamps: &[i64]) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new();
    let value = b"some value that compresses ".repeat(40);
    let headers: [(&str, &[u8]); 2] = [("a", b"1"), ("längre", b"")];
    for (at, timestamp) in timestamps.iter().enumerate() {
        builder.push(&Written {
            timestamp: UnixMs(*timestamp),
            key: (at % 2 == 0).then_some(b"key"),
            value: (at % 3 != 2).then_some(&value[..]),
            headers: &headers[..at % 3],
        });
    }
    builder
}

fn walk(batch: &[u8]) -> Result<u32, RecordsError> {
    let mut records = Records::new(batch)?;
    let mut count = 0;
    while let Some(record) = records.next_record()? {
        // Walks every byte that a record gives out.
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        assert!(bytes <= RECORD_BYTES_MAX && record.headers.count() <= RECORD_BYTES_MAX);
        count += 1;
    }
    Ok(count)
}

/// The batches of one content under every codec and framing.
fn all_batches(builder: &RecordBatchBuilder) -> Vec<Vec<u8>> {
    let plain = builder.records();
    let mut batches: Vec<Vec<u8>> =
        CODECS.iter().map(|&codec| seal(builder, codec, &compress(codec, plain))).collect();
    batches.push(seal(builder, Codec::Snappy, &compress_xerial(plain, 700)));
    batches
}

#[test]
fn records_come_back_under_every_codec() {
    let timestamps: Vec<i64> = (0..100).map(|at| 1_700_000_000_000 + at * 7 % 13).collect();
    for batch in all_batches(&builder(&timestamps)) {
        let mut records = Records::new(&batch).unwrap();
        let codec = records.header().codec;
        for (at, timestamp) in timestamps.iter().enumerate() {
            let record = records.next_record().unwrap().unwrap();
            assert_eq!(record.offset_delta as usize, at, "{codec:?}");
            assert_eq!(record.key.is_some(), at % 2 == 0);
            assert_eq!(record.value.is_some(), at % 3 != 2);
            let headers: Vec<_> = record.headers.collect();
            let all = [("a", Some(&b"1"[..])), ("längre", Some(&b""[..]))];
            assert_eq!(headers, all[..at % 3]);
            let delta = record.timestamp_delta;
            assert_eq!(records.timestamp(delta), UnixMs(*timestamp));
        }
        assert_eq!(records.next_record(), Ok(None));
        assert_eq!(records.next_record(), Ok(None));
    }
}

#[test]
fn times_are_found_exactly() {
    let timed =
        |delta, timestamp| TimedOffset { offset: Offset(delta), timestamp: UnixMs(timestamp) };
    for batch in all_batches(&builder(&[50, 40, 70, 60, 70])) {
        for (time, expected) in [
            (i64::MIN, Some(timed(0, 50))),
            (50, Some(timed(0, 50))),
            (51, Some(timed(2, 70))),
            (70, Some(timed(2, 70))),
            (71, None),
        ] {
            assert_eq!(first_at_or_after(&batch, UnixMs(time)), Ok(expected));
        }
        assert_eq!(first_of_greatest_time(&batch), Ok(timed(2, 70)));

        let mut appended = batch.clone();
        appended[22] |= RecordBatchHeader::LOG_APPEND_TIME as u8;
        wire::record_batch::assign_place(&mut appended, Offset(9), wire::offset::LeaderEpoch(1));
        assert_eq!(first_of_greatest_time(&appended), Ok(timed(9, 70)));
        assert_eq!(first_at_or_after(&appended, UnixMs(60)), Ok(Some(timed(9, 70))));
    }
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let mut builder = RecordBatchBuilder::new();
    builder.push(&Written { timestamp: UnixMs(0), key: None, value: None, headers: &[] });
    // Four records of 15 MiB and more would fit; what follows them does not.
    let mut huge = Vec::new();
    let length = 15 << 20;
    for delta in 0..8_u8 {
        let body = record_of(delta, length);
        huge.extend_from_slice(&zigzag(body.len() as i64));
        huge.extend_from_slice(&body);
    }
    for codec in [Codec::None, Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let batch = with_count(seal(&builder, codec, &compress(codec, &huge)), 8);
        assert_eq!(walk(&batch), Err(RecordsError::TooLarge), "{codec:?}");
    }
    let xerial = compress_xerial(&huge, 1 << 20);
    let batch = with_count(seal(&builder, Codec::Snappy, &xerial), 8);
    assert_eq!(walk(&batch), Err(RecordsError::TooLarge));
    // One block that says it becomes all of it is refused before there is a buffer.
    let raw = compress(Codec::Snappy, &huge);
    let batch = with_count(seal(&builder, Codec::Snappy, &raw), 8);
    assert_eq!(walk(&batch), Err(RecordsError::TooLarge));
    // So is one of a few bytes that claims more than Snappy can make of them.
    let batch = seal(&builder, Codec::Snappy, &[0x80, 0x80, 0x80, 0x10, 0]);
    assert_eq!(walk(&batch), Err(RecordsError::TooLarge));
}

#[test]
fn zstd_windows_beyond_the_limit_are_refused() {
    let builder = builder(&[1, 2, 3]);
    for (window_log, expected) in [
        (decompress::ZSTD_WINDOW_LOG_MAX, Ok(3)),
        (decompress::ZSTD_WINDOW_LOG_MAX + 1, Err(RecordsError::Compression)),
    ] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(builder.records()).unwrap();
        let compressed = encoder.finish().unwrap();
        assert_eq!(walk(&seal(&builder, Codec::Zstd, &compressed)), expected);
    }
}

#[test]
fn records_that_contradict_the_format_are_refused() {
    use RecordsError as E;
    let builder = builder(&[1]);
    let good = record_of(0, 3);
    let framed = |body: &[u8]| [&zigzag(body.len() as i64), body].concat();
    assert_eq!(walk(&seal(&builder, Codec::None, &framed(&good))), Ok(1));
    for (records, expected) in [
        (vec![], E::Truncated),
        (vec![0x80], E::Truncated),
        (vec![0xff; 12], E::Record),
        (zigzag(-1), E::Record),
        (zigzag(RECORD_BYTES_MAX as i64 + 1), E::TooLarge),
        (zigzag(RECORD_BYTES_MAX as i64), E::Truncated),
        (framed(&[]), E::Record),
        (framed(&record_of(1, 3)), E::Record),
        (framed(&[&good[..], &[0]].concat()), E::Record),
        (framed(&good[..good.len() - 1]), E::Record),
        ([framed(&good), vec![0]].concat(), E::Trailing),
        // A null header name, a name that is not UTF-8, and 2³¹ headers.
        (framed(&[0, 0, 0, 1, 1, 2, 1, 0]), E::Record),
        (framed(&[0, 0, 0, 1, 1, 2, 2, 0xff, 0]), E::Record),
        (framed(&[&[0, 0, 0, 1, 1][..], &zigzag(1 << 31)].concat()), E::Record),
    ] {
        let batch = seal(&builder, Codec::None, &records);
        assert_eq!(walk(&batch), Err(expected), "{records:?}");
    }
    assert_eq!(walk(&[0; 70]), Err(E::Batch(RecordBatchError::Magic)));
}

#[test]
fn damaged_batches_never_panic() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut next = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    };
    for good in all_batches(&builder(&[5, 4, 9, 1])) {
        let mut refused = 0;
        for _ in 0..3_000 {
            let mut bad = good.clone();
            for _ in 0..=next(3) {
                let at = 57 + next(bad.len() - 57);
                bad[at] = next(256) as u8;
            }
            refused += u32::from(walk(&bad).is_err());
        }
        assert!(refused > 30, "{refused}");
    }
}

/// A record's body with a value of `length` zeros.
fn record_of(offset_delta: u8, length: usize) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend_from_slice(&zigzag(i64::from(offset_delta)));
    body.extend_from_slice(&zigzag(-1));
    body.extend_from_slice(&zigzag(length as i64));
    body.resize(body.len() + length, 0);
    body.push(0);
    body
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut out = Vec::new();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

/// Says that a batch has `count` records.
fn with_count(mut batch: Vec<u8>, count: u32) -> Vec<u8> {
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch
}
