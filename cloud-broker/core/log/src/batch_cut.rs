//! Cutting what a reader wants out of a run: whole batches, from the one that holds its offset, within its limit.

use std::ops::Range;

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;

/// What to do when already the first batch exceeds the reader's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBatch {
    /// Return it all the same, so that the reader gets on (Kafka's KIP-74).
    Always,
    /// Return nothing.
    IfItFits,
}

/// Bytes that should be a run are not: the disk or the file under them is damaged. Fail the read; the range is in
/// the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged record batch at byte {at} of its run")]
pub struct DamagedRun {
    /// Where in the run.
    pub at: usize,
}

/// The bytes of `run` that a reader gets who wants at most `max_bytes` of it, from the batch that holds `from`.
/// `run` begins with the batch whose first offset is `base`: anything else is another file's content.
pub(crate) fn cut(
    run: &[u8],
    base: Offset,
    from: Offset,
    max_bytes: usize,
    first: FirstBatch,
) -> Result<Range<usize>, DamagedRun> {
    let mut at = 0;
    let mut start = None;
    let mut expected = base;
    while at < run.len() {
        let header = RecordBatchHeader::parse(&run[at..]).map_err(|_| DamagedRun { at })?;
        if header.base_offset != expected {
            return Err(DamagedRun { at });
        }
        let next = expected.0.checked_add(i64::from(header.last_offset_delta) + 1);
        expected = Offset(next.ok_or(DamagedRun { at })?);
        let end = at + header.total_len;
        if expected > from {
            let begun = *start.get_or_insert(at);
            let is_first = begun == at && first == FirstBatch::Always;
            if end - begun > max_bytes && !is_first {
                break;
            }
        }
        at = end;
    }
    Ok(start.unwrap_or(at)..at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::ProducerId;
    use wire::offset::LeaderEpoch;
    use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, assign_place};
    use wire::seq::{StreamEpoch, StreamSeq};
    use wire::time::UnixMs;

    /// Batches of two records each, from offset 10.
    fn run(batches: usize) -> (Vec<u8>, usize) {
        let mut builder = RecordBatchBuilder::new();
        for _ in 0..2 {
            builder.push(&Record {
                timestamp: UnixMs(1),
                key: None,
                value: Some(b"value"),
                headers: &[],
            });
        }
        let producer =
            BatchProducer { id: ProducerId(1), epoch: StreamEpoch::FIRST, base: StreamSeq::ZERO };
        let batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
        let mut run = Vec::new();
        for i in 0..batches {
            let start = run.len();
            run.extend_from_slice(&batch);
            assign_place(&mut run[start..], Offset(10 + 2 * i as i64), LeaderEpoch(0));
        }
        (run, batch.len())
    }

    #[test]
    fn whole_batches_within_the_limit() {
        use FirstBatch::{Always, IfItFits};
        let (run, len) = run(4);
        // Wanted offset, limit, first batch; batches expected.
        let cases = [
            (10, usize::MAX, Always, 0..4),
            (11, usize::MAX, Always, 0..4),
            (12, usize::MAX, Always, 1..4),
            (17, usize::MAX, IfItFits, 3..4),
            (18, usize::MAX, Always, 4..4),
            (10, len, IfItFits, 0..1),
            (10, len - 1, IfItFits, 0..0),
            (10, len - 1, Always, 0..1),
            (10, 0, Always, 0..1),
            (13, 2 * len + 1, IfItFits, 1..3),
        ];
        for (from, max, first, expected) in cases {
            assert_eq!(
                cut(&run, Offset(10), Offset(from), max, first),
                Ok(expected.start * len..expected.end * len),
                "from {from}, at most {max}, {first:?}"
            );
        }
    }

    #[test]
    fn foreign_and_damaged_bytes_are_refused() {
        let (mut run, len) = run(3);
        let all =
            |run: &[u8], base| cut(run, Offset(base), Offset(10), usize::MAX, FirstBatch::Always);
        assert_eq!(all(&run, 11), Err(DamagedRun { at: 0 }));
        assert_eq!(all(&run[..run.len() - 1], 10), Err(DamagedRun { at: 2 * len }));
        run[len + 7] ^= 1;
        assert_eq!(all(&run, 10), Err(DamagedRun { at: len }));
        assert_eq!(all(&[0; 4096], 10), Err(DamagedRun { at: 0 }));
    }
}
