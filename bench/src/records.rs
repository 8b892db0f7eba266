//! Record batches to append.

use anyhow::{Context, Result};
use bytes::Bytes;
use wire::ids::ProducerId;
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

/// Bytes of a record's value.
pub const RECORD_BYTES: usize = 1024;

const NO_PRODUCER: BatchProducer =
    BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };

/// A batch of `count` records of [`RECORD_BYTES`] each, of no producer in particular.
pub fn batch(count: usize) -> Result<Bytes> {
    let value = vec![b'R'; RECORD_BYTES];
    let mut builder = RecordBatchBuilder::new();
    for _ in 0..count {
        builder.push(&Record {
            key: None,
            value: Some(&value),
            timestamp: UnixMs(1_700_000_000_000),
            headers: &[],
        });
    }
    let sealed = builder.seal(NO_PRODUCER, Codec::None, builder.records());
    Ok(Bytes::from(sealed.context("an empty batch")?))
}
