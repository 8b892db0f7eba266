//! Record batches to append, and random numbers that are the same in every run.

use bytes::Bytes;
use wire::ids::{Partition, ProducerId};
use wire::offset::Offset;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, RecordBatchHeader};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use broker_log::{PartitionKey, TopicNo};

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn key(topic: u32, partition: u32) -> PartitionKey {
    PartitionKey { topic_no: TopicNo(topic), partition: Partition(partition) }
}

pub fn plain_producer() -> BatchProducer {
    BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO }
}

/// A batch of `records` whose values are `bytes` long in all and say `name`; `timestamp` is the greatest.
pub fn batch_of(
    producer: BatchProducer,
    name: u64,
    records: u32,
    bytes: usize,
    timestamp: i64,
) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    let mut value = name.to_le_bytes().to_vec();
    value.resize((bytes / records as usize).max(8), name as u8);
    for i in 0..records {
        builder.push(&Record {
            timestamp: UnixMs(timestamp - i64::from(i)),
            key: None,
            value: Some(&value),
            headers: &[],
        });
    }
    let sealed = builder.seal(producer, Codec::None, builder.records());
    Bytes::from(sealed.unwrap())
}

/// A batch of records with keys, and with values unless they are tombstones.
pub fn keyed_batch_of(
    producer: BatchProducer,
    keys: &[(u8, bool)],
    bytes: usize,
    timestamp: i64,
) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    for (i, (key, is_tombstone)) in (0..).zip(keys) {
        let value = vec![*key; bytes / keys.len()];
        builder.push(&Record {
            timestamp: UnixMs(timestamp - i),
            key: Some(&[*key]),
            value: (!is_tombstone).then_some(&value),
            headers: &[],
        });
    }
    let sealed = builder.seal(producer, Codec::None, builder.records());
    Bytes::from(sealed.unwrap())
}

pub fn batch(name: u64, records: u32, bytes: usize) -> Bytes {
    batch_of(plain_producer(), name, records, bytes, 1_000)
}

/// Splits bytes from the log into batches, each with its first offset and the part that its producer wrote.
pub fn split(mut bytes: Bytes) -> Vec<(Offset, Bytes)> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let header = RecordBatchHeader::parse(&bytes).unwrap();
        header.check_crc(&bytes).unwrap();
        let batch = bytes.split_to(header.total_len);
        batches.push((header.base_offset, produced(&batch)));
    }
    batches
}

/// What a producer wrote of a batch: all but base offset and leader epoch.
pub fn produced(batch: &Bytes) -> Bytes {
    batch.slice(16..)
}
