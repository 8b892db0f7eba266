//! What the outside knows of the log: what it sent, what was acknowledged or read, what it asked to be deleted.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::offset::{LeaderEpoch, Offset};
use wire::uplink::StreamState;

use broker_log::{PartitionKey, PartitionOffsets, SlotNo, TopicPolicy, UplinkStream};

/// Who sent a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A producer without an id.
    Plain,
    /// An idempotent producer; the sequence behind the batch.
    Idempotent { pid: i64, next: i32 },
    /// An uplink stream, and where it stands behind the batch.
    Uplink(UplinkStream, StreamState),
}

/// The key of a record in a compacted topic, and whether it says that the key is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOf {
    pub key: u8,
    pub is_tombstone: bool,
}

/// A batch that the log has given offsets to.
#[derive(Debug, Clone)]
pub struct Sent {
    pub base: i64,
    pub last: i64,
    /// As its producer made it.
    pub batch: Bytes,
    /// What the log must give back: all but base offset and leader epoch.
    pub produced: Bytes,
    /// Its greatest timestamp.
    pub timestamp: i64,
    /// True time at which it was appended.
    pub appended: i64,
    pub slot_no: SlotNo,
    pub acked: bool,
    pub by: By,
    /// The leader epoch of the life that took it.
    pub epoch: LeaderEpoch,
    /// Its records, in a compacted topic.
    pub records: Vec<KeyOf>,
}

/// One partition.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Everything that may be in the log, in order of offsets. What lies below `start` stays, for the streams' sake.
    pub sent: Vec<Sent>,
    /// The log start that this life has shown.
    pub start: i64,
    /// The greatest log start that was answered as deleted.
    pub deleted: i64,
    /// Nobody asked for more than this to go: neither deletion nor retention.
    pub start_max: i64,
}

impl Part {
    pub fn end(&self) -> i64 {
        self.sent.last().map_or(0, |sent| sent.last + 1)
    }

    /// Behind the last batch that is known to be durable.
    pub fn acked_end(&self) -> i64 {
        self.sent.iter().rev().find(|sent| sent.acked).map_or(0, |sent| sent.last + 1)
    }

    /// The batch that holds `offset` and all behind it that are acknowledged.
    pub fn readable_from(&self, offset: i64) -> impl Iterator<Item = &Sent> {
        let first = self.sent.partition_point(|sent| sent.last < offset);
        self.sent[first..].iter().filter(|sent| sent.acked)
    }

    /// Where each leader epoch begins that is still to be known.
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for sent in self.sent.iter().filter(|sent| sent.acked) {
            if epochs.last().is_none_or(|(epoch, _)| *epoch != sent.epoch) {
                epochs.push((sent.epoch, Offset(sent.base)));
            }
        }
        let over = epochs.partition_point(|(_, start)| start.0 <= self.start);
        epochs.drain(..over.saturating_sub(1));
        if let Some(first) = epochs.first_mut() {
            first.1 = first.1.max(Offset(self.start));
        }
        epochs
    }

    /// Bytes of the batches from `offset` on.
    pub fn bytes_from(&self, offset: i64) -> u64 {
        self.readable_from(offset).map(|sent| sent.batch.len() as u64).sum()
    }
}

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    pub policy: TopicPolicy,
}

#[derive(Debug, Clone, Default)]
pub struct Book {
    pub topics: BTreeMap<u32, Topic>,
    pub removed: Vec<u32>,
    pub parts: BTreeMap<PartitionKey, Part>,
}

impl Book {
    /// Whether a partition is compacted by key.
    pub fn is_compacted(&self, key: PartitionKey) -> bool {
        self.topics.get(&key.topic_no.0).is_some_and(|topic| topic.policy.compact.is_some())
    }

    /// The record that was sent to a compacted partition and has this offset.
    pub fn record_at(&self, key: PartitionKey, offset: i64) -> Option<KeyOf> {
        let sent = self.parts[&key].readable_from(offset).next()?;
        sent.records.get((offset - sent.base) as usize).copied()
    }

    /// The records of a compacted partition from an offset on that are known to be durable.
    pub fn records_from(
        &self,
        key: PartitionKey,
        offset: i64,
    ) -> impl Iterator<Item = (i64, KeyOf)> {
        let sent = self.parts[&key].readable_from(offset);
        let records = sent.flat_map(|sent| (sent.base..).zip(sent.records.iter().copied()));
        records.filter(move |(at, _)| *at >= offset)
    }

    pub fn keys(&self) -> Vec<PartitionKey> {
        self.parts.keys().copied().collect()
    }

    /// The slot is durable, and all before it.
    pub fn acknowledge(&mut self, slot_no: SlotNo) {
        for sent in self.parts.values_mut().flat_map(|part| &mut part.sent) {
            sent.acked |= sent.slot_no <= slot_no;
        }
    }

    /// Another life of the log has these offsets: checks them, and takes over what it holds, for readers see it now.
    pub fn reopened(&mut self, key: PartitionKey, found: Option<PartitionOffsets>) {
        let part = self.parts.get_mut(&key).unwrap();
        let (start, end) = found.map_or((0, 0), |o| (o.log_start.0, o.high_watermark.0));
        assert!(end >= part.acked_end(), "{key:?} ends at {end}, {} was shown", part.acked_end());
        assert!(end <= part.end(), "{key:?} ends at {end}, only {} was sent", part.end());
        assert!(start >= part.deleted, "{key:?} begins at {start}, {} was answered", part.deleted);
        assert!(start <= part.start_max, "{key:?} begins at {start}, beyond {}", part.start_max);
        part.sent.retain(|sent| sent.last < end);
        assert_eq!(part.end(), end, "{key:?} ends inside a batch");
        part.start = start;
        for sent in &mut part.sent {
            sent.acked = true;
            // Another life counts its slots anew.
            sent.slot_no = SlotNo(0);
        }
    }

    /// Where a stream must stand, as far as is known to be durable.
    pub fn stream_state(&self, stream: &UplinkStream) -> Option<StreamState> {
        let sent = self.parts.get(&stream.key)?.sent.iter().rev();
        let mut states = sent.filter(|sent| sent.acked).filter_map(|sent| match &sent.by {
            By::Uplink(of, state) if of == stream => Some(*state),
            By::Uplink(..) | By::Idempotent { .. } | By::Plain => None,
        });
        states.next()
    }

    /// Where a stream stands for whoever goes on with it.
    pub fn stream_appended(&self, stream: &UplinkStream) -> StreamState {
        let sent = self.parts[&stream.key].sent.iter().rev();
        let mut states = sent.filter_map(|sent| match &sent.by {
            By::Uplink(of, state) if of == stream => Some(*state),
            By::Uplink(..) | By::Idempotent { .. } | By::Plain => None,
        });
        states.next().unwrap_or(StreamState::UNKNOWN)
    }

    /// The batches of an idempotent producer in a partition, in order.
    pub fn of_producer(&self, key: PartitionKey, pid: i64) -> impl Iterator<Item = &Sent> {
        let sent = self.parts[&key].sent.iter();
        sent.filter(move |sent| matches!(sent.by, By::Idempotent { pid: of, .. } if of == pid))
    }

    /// The sequence that an idempotent producer goes on with.
    pub fn next_sequence(&self, key: PartitionKey, pid: i64) -> i32 {
        match self.of_producer(key, pid).last().map(|sent| &sent.by) {
            Some(By::Idempotent { next, .. }) => *next,
            // Some wrap on their way.
            _ => [0, i32::MAX - 3, i32::MAX - 9][pid as usize % 3],
        }
    }
}
