//! What clients send, and what they expect to be answered.

use bytes::Bytes;
use wire::ids::{ProducerId, Tag};
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::uplink::{RefusedCode, StreamState};

use broker_log::plain_records::PlainRecords;
use broker_log::{
    AppendError, Appended, BATCHES_KEPT, IdempotentError, IdempotentOutcome, PartitionKey,
    RecordRewriter, UplinkAppend, UplinkOutcome, UplinkStream,
};

use super::World;
use crate::batches::{batch_of, keyed_batch_of, plain_producer, produced};
use crate::model::book::{By, KeyOf, Sent};
use crate::model::op::From;

/// What a batch looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) records: u32,
    pub(super) bytes: usize,
    pub(super) timestamp: i64,
}

impl World {
    pub(super) fn send(&mut self, key: PartitionKey, from: From, shape: Shape) {
        self.names += 1;
        match from {
            From::Idempotent(pid) => {
                let next = StreamSeq::new(self.book.next_sequence(key, pid)).unwrap();
                let producer =
                    BatchProducer { id: ProducerId(pid), epoch: StreamEpoch(0), base: next };
                let batch = self.make(key, producer, shape);
                self.send_idempotent(key, pid, batch, shape);
            }
            From::Plain => {
                let batch = self.make(key, plain_producer(), shape);
                let appended = self.appended(|log, now| log.append(now, key, batch.clone()));
                if let Some(appended) = appended {
                    self.sent(key, batch, appended, shape, By::Plain);
                }
            }
            From::Uplink(lane) => self.send_uplink(key, lane, shape),
        }
    }

    fn make(&self, key: PartitionKey, producer: BatchProducer, shape: Shape) -> Bytes {
        if self.book.is_compacted(key) {
            let keys: Vec<_> =
                keys_of(self.names, shape.records).map(|of| (of.key, of.is_tombstone)).collect();
            return keyed_batch_of(producer, &keys, shape.bytes, shape.timestamp);
        }
        batch_of(producer, self.names, shape.records, shape.bytes, shape.timestamp)
    }

    /// The log takes an append, unless it says that it cannot for now.
    fn appended<T>(
        &mut self,
        append: impl FnOnce(&mut broker_log::Log, wire::time::UnixMs) -> Result<T, AppendError>,
    ) -> Option<T> {
        let now = self.now().wall;
        match append(self.log_mut(), now) {
            Ok(appended) => Some(appended),
            Err(AppendError::Busy | AppendError::DiskFull) => {
                self.turned_away += 1;
                None
            }
            Err(error) => panic!("an append is turned away: {error}"),
        }
    }

    fn send_idempotent(&mut self, key: PartitionKey, pid: i64, batch: Bytes, shape: Shape) {
        let next = self.book.next_sequence(key, pid);
        let outcome =
            self.appended(|log, now| match log.append_idempotent(now, key, batch.clone()) {
                Ok(outcome) => Ok(outcome),
                Err(IdempotentError::Append(error)) => Err(error),
                Err(error) => panic!("producer {pid} goes on at {next} in {key:?}: {error}"),
            });
        match outcome {
            Some(IdempotentOutcome::Appended(appended)) => {
                let next = StreamSeq::new(next).unwrap().plus(shape.records).get();
                self.sent(key, batch, appended, shape, By::Idempotent { pid, next });
            }
            Some(duplicate @ IdempotentOutcome::Duplicate { .. }) => {
                panic!("{key:?}: what producer {pid} never sent is there: {duplicate:?}")
            }
            None => {}
        }
    }

    fn send_uplink(&mut self, key: PartitionKey, lane: i64, shape: Shape) {
        let stream = UplinkStream { key, pid: ProducerId(ProducerId::UPLINK_MIN.0 + lane) };
        let state = self.book.stream_appended(&stream);
        let append = append_after(stream, state, self.names, shape.records);
        let producer = BatchProducer { id: stream.pid, epoch: append.epoch, base: append.base };
        let batch = self.make(key, producer, shape);
        // A clone of the gateway has another history, or has got further.
        for misfit in [
            UplinkAppend { prev_tag: Tag(u64::MAX), ..append },
            UplinkAppend { base: append.base.plus(1), ..append },
        ] {
            let now = self.now().wall;
            let outcome = self.log_mut().append_uplink(now, &misfit, batch.clone());
            assert!(matches!(outcome, UplinkOutcome::Misfit { .. }), "{outcome:?}");
        }
        let now = self.now().wall;
        match self.log_mut().append_uplink(now, &append, batch.clone()) {
            UplinkOutcome::Appended(appended) => {
                let by = By::Uplink(stream, append.state_after());
                self.sent(key, batch, appended, shape, by);
            }
            UplinkOutcome::Refused { code: RefusedCode::Unavailable, .. } => self.turned_away += 1,
            other => panic!("{stream:?} goes on from {state:?}: {other:?}"),
        }
    }

    fn sent(&mut self, key: PartitionKey, batch: Bytes, appended: Appended, shape: Shape, by: By) {
        let appended_at = self.truth;
        let records = self.keys_in(key, &batch);
        let epoch = self.log().leader_epoch();
        let part = self.book.parts.get_mut(&key).unwrap();
        let base = appended.base_offset.0;
        assert_eq!(base, part.end(), "{key:?}: offsets are dense");
        part.sent.push(Sent {
            base,
            last: base + i64::from(shape.records) - 1,
            produced: produced(&batch),
            batch,
            timestamp: shape.timestamp,
            appended: appended_at,
            slot_no: appended.slot_no,
            acked: false,
            by,
            epoch,
            records,
        });
        let slot = appended.slot_no;
        self.note(format_args!("{key:?} {base} in slot {slot}"));
    }

    fn keys_in(&self, key: PartitionKey, batch: &Bytes) -> Vec<KeyOf> {
        let mut keys = Vec::new();
        if self.book.is_compacted(key) {
            let mut show = |record: broker_log::KeyedRecord<'_>| {
                let of = record.key.and_then(|key| key.first().copied());
                keys.push(KeyOf { key: of.unwrap(), is_tombstone: record.is_tombstone });
            };
            PlainRecords.walk(batch, &mut show).unwrap();
        }
        keys
    }

    /// A producer sends the last but `back`th of its batches a second time.
    pub(super) fn send_again(&mut self, key: PartitionKey, pid: i64, back: usize) {
        let made: Vec<Sent> = self.book.of_producer(key, pid).cloned().collect();
        let Some(sent) = made.iter().rev().nth(back) else {
            return;
        };
        let now = self.now().wall;
        let outcome = self.log_mut().append_idempotent(now, key, sent.batch.clone());
        match outcome {
            Ok(IdempotentOutcome::Duplicate { base_offset, answer_after, .. }) => {
                assert!(back < BATCHES_KEPT);
                assert_eq!(base_offset.0, sent.base, "{key:?}: the original's offset");
                assert!(sent.acked || answer_after.is_some(), "answered before it is durable");
            }
            Err(IdempotentError::OutOfOrder) => assert!(back >= BATCHES_KEPT, "it is remembered"),
            other => panic!("{key:?}: a copy of {} of producer {pid}: {other:?}", sent.base),
        }
    }

    /// After a crash: streams stand where the book says, the last batches of every producer are known as copies, and those
    /// that were lost are taken when they come again.
    pub(super) fn clients_ask_again(&mut self, key: PartitionKey, before: &[Sent]) {
        for pid in 0..3 {
            for back in 0..BATCHES_KEPT {
                self.send_again(key, pid, back);
            }
        }
        let end = self.book.parts[&key].end();
        // Nothing comes after what was turned away.
        let before_all = self.turned_away;
        for sent in before.iter().filter(|sent| sent.base >= end) {
            if self.turned_away > before_all {
                break;
            }
            let shape = Shape {
                records: (sent.last - sent.base + 1) as u32,
                bytes: 0,
                timestamp: sent.timestamp,
            };
            match &sent.by {
                By::Idempotent { pid, .. } => {
                    self.send_idempotent(key, *pid, sent.batch.clone(), shape);
                }
                By::Uplink(..) | By::Plain => {}
            }
        }
    }

    pub(super) fn check_streams(&self) {
        for key in self.book.keys() {
            for lane in 0..3 {
                let stream = UplinkStream { key, pid: ProducerId(ProducerId::UPLINK_MIN.0 + lane) };
                let found = self.log().stream_state_durable(&stream);
                assert_eq!(found, self.book.stream_state(&stream), "{stream:?}");
            }
        }
    }
}

fn append_after(stream: UplinkStream, state: StreamState, name: u64, records: u32) -> UplinkAppend {
    UplinkAppend {
        stream,
        epoch: state.epoch,
        base: state.next(),
        count: records,
        prev_tag: state.tag,
        tag: Tag(name),
    }
}

/// The keys of a batch's records, by its name.
fn keys_of(name: u64, records: u32) -> impl Iterator<Item = KeyOf> {
    (name..name + u64::from(records))
        .map(|n| KeyOf { key: (n % 7) as u8, is_tombstone: n / 7 % 4 == 0 })
}
