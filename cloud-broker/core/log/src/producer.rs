//! Where every idempotent Kafka producer stands, per partition: its epoch and its last batches (KIP-98, KIP-360).
//!
//! A batch goes on where the last one ended, or it is a copy of one of the last [`BATCHES_KEPT`], or it is turned away. As
//! in Kafka, a producer that the partition does not know may begin anywhere: its state may have expired, or its earlier
//! records may be gone. The state is judged by what was *appended*, so that requests can follow each other without waiting
//! for the disk; nothing is undone, because a failed write ends the incarnation. Recovery rebuilds it from the headers of
//! the batches.
//!
//! Deliberately missing: transactions, and the uplink's streams, whose state lives in WAL entries and never expires.

use std::collections::BTreeMap;

use wire::ids::ProducerId;
use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::seq::StreamSeq;
use wire::time::UnixMs;

use crate::checkpoint::{CheckpointWriter, ProducerBatchState, ProducerState};
use crate::ids::{PartitionKey, TopicNo};

/// Batches of a producer whose copies are recognised: a client has at most so many requests in flight (Kafka's own number,
/// which clients rely on).
pub const BATCHES_KEPT: usize = 5;

/// Producers that one log remembers, each counted once per partition. Beyond it the one that was idle longest is
/// forgotten. One takes about 400 bytes.
pub const PRODUCERS_MAX: usize = 1 << 18;

/// How long an idle producer is remembered, as Kafka's `producer.id.expiration.ms`.
pub const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

/// Producers that one round of maintenance lets expire: the work of a round is bounded.
const EXPIRED_PER_ROUND: usize = 1024;

/// A producer in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProducerKey {
    pub(crate) key: PartitionKey,
    pub(crate) pid: ProducerId,
}

/// What a batch says of its place among its producer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer: ProducerKey,
    pub(crate) epoch: i16,
    pub(crate) base: StreamSeq,
    pub(crate) count: u32,
    /// The broker's time, if the batch bears that instead of its producer's.
    pub(crate) append_time: Option<UnixMs>,
}

/// How a batch compares with what its producer has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is one of the last batches.
    Copy(Original),
    /// It belongs to an epoch that is over.
    Fenced,
    /// It comes next.
    Next,
    /// Batches are missing before it, or it is older than what is remembered.
    OutOfOrder,
}

/// What the original of a copy was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Original {
    pub(crate) base_offset: Offset,
    pub(crate) append_time: Option<UnixMs>,
}

impl ProducerBatch {
    /// `None` for a batch without a producer id, of the uplink, or with an impossible epoch or sequence.
    pub(crate) fn of(key: PartitionKey, header: &RecordBatchHeader) -> Option<Self> {
        let pid = header.producer_id;
        if pid.0 < 0 || pid.is_uplink() || header.producer_epoch < 0 {
            return None;
        }
        Some(Self {
            producer: ProducerKey { key, pid },
            epoch: header.producer_epoch,
            base: StreamSeq::new(header.base_sequence)?,
            count: header.record_count,
            append_time: (header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0)
                .then_some(header.max_timestamp),
        })
    }

    fn last(&self) -> StreamSeq {
        self.base.last_of(self.count)
    }
}

/// The producers of all partitions.
#[derive(Debug)]
pub(crate) struct Producers {
    known: BTreeMap<ProducerKey, Producer>,
    /// By their last append, the longest ago first.
    by_use: BTreeMap<u64, ProducerKey>,
    next_use: u64,
    most: usize,
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The oldest first; those behind `len` mean nothing.
    batches: [PastBatch; BATCHES_KEPT],
    len: usize,
    use_no: u64,
    used: UnixMs,
}

#[derive(Debug, Clone, Copy)]
struct PastBatch {
    base: StreamSeq,
    last: StreamSeq,
    original: Original,
}

impl Producer {
    fn state(&self, pid: ProducerId) -> ProducerState {
        let batches = self.batches[..self.len].iter().map(|batch| ProducerBatchState {
            base: batch.base,
            last: batch.last,
            base_offset: batch.original.base_offset,
            append_time: batch.original.append_time,
        });
        ProducerState { pid, epoch: self.epoch, used: self.used, batches: batches.collect() }
    }

    /// `None` for one that has written nothing: there is none.
    fn restored(state: &ProducerState, use_no: u64) -> Option<Self> {
        let past = |batch: &ProducerBatchState| PastBatch {
            base: batch.base,
            last: batch.last,
            original: Original { base_offset: batch.base_offset, append_time: batch.append_time },
        };
        let mut batches = [past(state.batches.last()?); BATCHES_KEPT];
        let len = state.batches.len().min(BATCHES_KEPT);
        for (slot, batch) in batches.iter_mut().zip(&state.batches[state.batches.len() - len..]) {
            *slot = past(batch);
        }
        Some(Self { epoch: state.epoch, batches, len, use_no, used: state.used })
    }
}

impl Default for Producers {
    fn default() -> Self {
        Self::with_most(PRODUCERS_MAX)
    }
}

impl Producers {
    /// Remembers at most `most` producers, at least 1.
    fn with_most(most: usize) -> Self {
        Self { known: BTreeMap::new(), by_use: BTreeMap::new(), next_use: 0, most }
    }

    /// Judges a batch. Kafka's rules, in Kafka's order.
    pub(crate) fn place(&self, batch: &ProducerBatch) -> Place {
        let Some(producer) = self.known.get(&batch.producer) else {
            return Place::Next;
        };
        if batch.epoch < producer.epoch {
            return Place::Fenced;
        }
        if batch.epoch > producer.epoch {
            let begins = batch.base == StreamSeq::ZERO;
            return if begins { Place::Next } else { Place::OutOfOrder };
        }
        let past = &producer.batches[..producer.len];
        let copy = past.iter().find(|p| p.base == batch.base && p.last == batch.last());
        match (copy, past.last()) {
            (Some(copy), _) => Place::Copy(copy.original),
            (None, Some(newest)) if newest.last.plus(1) == batch.base => Place::Next,
            (None, _) => Place::OutOfOrder,
        }
    }

    /// `batch` was appended at `base_offset`, in a slot that bears the time `now`.
    pub(crate) fn note(&mut self, now: UnixMs, batch: &ProducerBatch, base_offset: Offset) {
        if !self.known.contains_key(&batch.producer) && self.known.len() >= self.most {
            self.forget_oldest();
        }
        let use_no = self.next_use;
        self.next_use += 1;
        let original = Original { base_offset, append_time: batch.append_time };
        let past = PastBatch { base: batch.base, last: batch.last(), original };
        let fresh = Producer {
            epoch: batch.epoch,
            batches: [past; BATCHES_KEPT],
            len: 0,
            use_no,
            used: now,
        };
        let producer = self.known.entry(batch.producer).or_insert(fresh);
        self.by_use.remove(&producer.use_no);
        self.by_use.insert(use_no, batch.producer);
        producer.use_no = use_no;
        producer.used = now;
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.len = 0;
        }
        if producer.len == BATCHES_KEPT {
            producer.batches.rotate_left(1);
            producer.len -= 1;
        }
        producer.batches[producer.len] = past;
        producer.len += 1;
    }

    /// Writes down where every producer stands.
    pub(crate) fn export(&self, writer: &mut CheckpointWriter) {
        let mut states = Vec::new();
        let mut of = None;
        for (producer, known) in &self.known {
            if of != Some(producer.key) {
                if let Some(key) = of {
                    writer.producers(key, &states);
                }
                states.clear();
                of = Some(producer.key);
            }
            states.push(known.state(producer.pid));
        }
        if let Some(key) = of {
            writer.producers(key, &states);
        }
    }

    /// Takes in what a checkpoint says of producers.
    pub(crate) fn restore(&mut self, mut states: Vec<(PartitionKey, ProducerState)>) {
        states.sort_by_key(|(_, state)| state.used);
        for (key, state) in states {
            let Some(producer) = Producer::restored(&state, self.next_use) else {
                continue;
            };
            let name = ProducerKey { key, pid: state.pid };
            self.by_use.insert(self.next_use, name);
            self.next_use += 1;
            self.known.insert(name, producer);
            if self.known.len() > self.most {
                self.forget_oldest();
            }
        }
    }

    /// Forgets the producers of a topic that is gone.
    pub(crate) fn remove_topic(&mut self, topic_no: TopicNo) {
        let (first, last) = PartitionKey::all_of(topic_no);
        let first = ProducerKey { key: first, pid: ProducerId(i64::MIN) };
        let last = ProducerKey { key: last, pid: ProducerId(i64::MAX) };
        let gone = self.known.extract_if(first..=last, |_, _| true);
        for (_, producer) in gone {
            self.by_use.remove(&producer.use_no);
        }
    }

    /// Forgets those that have been idle for too long, some at a time. `now` is the clock of retention: one that jumps ahead
    /// for a moment must not make every producer's next batch a new beginning.
    pub(crate) fn expire(&mut self, now: UnixMs) {
        for _ in 0..EXPIRED_PER_ROUND {
            let oldest = self.by_use.first_key_value().and_then(|(_, key)| self.known.get(key));
            let idle = oldest.map(|producer| now.0.saturating_sub(producer.used.0));
            if idle.is_none_or(|idle| idle < PRODUCER_EXPIRATION_MS) {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.by_use.pop_first() {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::Partition;

    use super::*;

    const NOW: UnixMs = UnixMs(1_000);

    fn producer(pid: i64) -> ProducerKey {
        let key = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };
        ProducerKey { key, pid: ProducerId(pid) }
    }

    fn batch(epoch: i16, base: i32, count: u32) -> ProducerBatch {
        let base = StreamSeq::new(base).unwrap();
        ProducerBatch { producer: producer(1), epoch, base, count, append_time: None }
    }

    /// Producers of whom the first has written these batches, one offset for each record.
    fn after(batches: &[ProducerBatch]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = Offset(100);
        for batch in batches {
            assert_eq!(producers.place(batch), Place::Next, "{batch:?}");
            producers.note(NOW, batch, offset);
            offset = offset.plus(batch.count);
        }
        producers
    }

    fn copy_of(offset: i64) -> Place {
        Place::Copy(Original { base_offset: Offset(offset), append_time: None })
    }

    #[test]
    fn batches_follow_each_other_are_copies_or_are_turned_away() {
        use Place::{Fenced, Next, OutOfOrder};
        let ten: Vec<_> = (0..10).map(|i| batch(2, 3 * i, 3)).collect();
        for (before, asked, expected) in [
            // A producer that the partition does not know begins anywhere.
            (&ten[..0], batch(0, 0, 1), Next),
            (&ten[..0], batch(7, 12_345, 1), Next),
            // What comes next, a hole, and an overlap.
            (&ten[..2], batch(2, 6, 5), Next),
            (&ten[..2], batch(2, 7, 1), OutOfOrder),
            (&ten[..2], batch(2, 5, 2), OutOfOrder),
            // Copies: the same first and last sequence, nothing less.
            (&ten[..2], batch(2, 0, 3), copy_of(100)),
            (&ten[..2], batch(2, 3, 3), copy_of(103)),
            (&ten[..2], batch(2, 3, 2), OutOfOrder),
            (&ten[..2], batch(2, 0, 6), OutOfOrder),
            // Five batches are remembered.
            (&ten[..], batch(2, 15, 3), copy_of(115)),
            (&ten[..], batch(2, 12, 3), OutOfOrder),
            (&ten[..], batch(2, 30, 1), Next),
            // An older epoch is over, a newer one begins at zero.
            (&ten[..2], batch(1, 6, 3), Fenced),
            (&ten[..2], batch(1, 0, 3), Fenced),
            (&ten[..2], batch(3, 0, 3), Next),
            (&ten[..2], batch(3, 6, 3), OutOfOrder),
        ] {
            assert_eq!(after(before).place(&asked), expected, "{asked:?}");
        }
        // Another producer, and the same one in another partition, are somebody else.
        let producers = after(&ten);
        let mut elsewhere = batch(0, 9, 1);
        elsewhere.producer.key.partition = Partition(1);
        let other = ProducerBatch { producer: producer(2), ..elsewhere };
        assert_eq!((producers.place(&elsewhere), producers.place(&other)), (Next, Next));
    }

    #[test]
    fn sequences_wrap() {
        let last = batch(0, i32::MAX - 1, 2);
        assert_eq!(after(&[last]).place(&batch(0, 0, 4)), Place::Next);
        assert_eq!(after(&[last]).place(&batch(0, 1, 4)), Place::OutOfOrder);
        let over = batch(0, i32::MAX - 1, 5);
        let producers = after(&[over]);
        assert_eq!(producers.place(&over), copy_of(100));
        assert_eq!(producers.place(&batch(0, 3, 1)), Place::Next);
        assert_eq!(producers.place(&batch(0, 0, 1)), Place::OutOfOrder);
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old_one() {
        let producers = after(&[batch(0, 0, 3), batch(1, 0, 3)]);
        assert_eq!(producers.place(&batch(1, 0, 3)), copy_of(103));
        assert_eq!(producers.place(&batch(0, 0, 3)), Place::Fenced);
    }

    fn known(producers: &Producers) -> Vec<i64> {
        assert_eq!(producers.known.len(), producers.by_use.len());
        producers.known.keys().map(|producer| producer.pid.0).collect()
    }

    fn note(producers: &mut Producers, now: i64, pid: i64) {
        let batch = ProducerBatch { producer: producer(pid), ..batch(0, 0, 1) };
        producers.note(UnixMs(now), &batch, Offset(0));
    }

    #[test]
    fn beyond_the_limit_the_longest_idle_is_forgotten() {
        let mut producers = Producers::with_most(3);
        for pid in [1, 2, 3, 1, 4] {
            note(&mut producers, 1_000, pid);
        }
        assert_eq!(known(&producers), [1, 3, 4]);
        assert_eq!(Producers::default().most, PRODUCERS_MAX);
    }

    #[test]
    fn idle_producers_expire() {
        let mut producers = Producers::default();
        for (now, pid) in [(0, 1), (1, 2), (2, 3), (3, 1)] {
            note(&mut producers, now, pid);
        }
        for (now, left) in [
            (PRODUCER_EXPIRATION_MS, &[1, 2, 3][..]),
            (PRODUCER_EXPIRATION_MS + 1, &[1, 3]),
            (i64::MIN, &[1, 3]),
            (PRODUCER_EXPIRATION_MS + 2, &[1]),
            (i64::MAX, &[]),
        ] {
            producers.expire(UnixMs(now));
            assert_eq!(known(&producers), left, "at {now}");
        }
        for pid in 0..2_000 {
            note(&mut producers, i64::MAX, pid);
        }
        assert_eq!(known(&producers).len(), 2_000, "appends forget nobody");
    }

    #[test]
    fn a_round_lets_some_expire() {
        let mut producers = Producers::default();
        for pid in 0..2_000 {
            note(&mut producers, 0, pid);
        }
        producers.expire(UnixMs(i64::MAX));
        assert_eq!(known(&producers).len(), 2_000 - EXPIRED_PER_ROUND);
    }

    #[test]
    fn a_topic_takes_its_producers_along() {
        let mut producers = after(&[batch(0, 0, 1)]);
        let mut other = batch(0, 0, 1);
        other.producer.key.topic_no = TopicNo(2);
        producers.note(NOW, &other, Offset(0));
        producers.remove_topic(TopicNo(1));
        assert_eq!(producers.place(&batch(0, 7, 1)), Place::Next);
        assert_eq!(producers.place(&other), copy_of(0));
        assert_eq!(known(&producers).len(), 1);
    }
}
