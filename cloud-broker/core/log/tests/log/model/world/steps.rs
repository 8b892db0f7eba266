//! One step of a workload.

use broker_log::sim_disk::DiskError;
use broker_log::{FirstBatch, Now, PartitionKey, TopicNo, TopicPolicy};
use wire::time::UnixMs;

use super::reads::Limit;
use super::sends::Shape;
use super::{World, compacted};
use crate::batches::key;
use crate::model::book::{Part, Topic};
use crate::model::op::Op;

/// How far the log may believe a wall clock that runs ahead of the monotonic one, in milliseconds.
const SLACK_MS: i64 = 3_600_000;

/// Topics that a world has at most.
const TOPICS_MAX: usize = 3;

impl World {
    /// # Errors
    /// If the process dies.
    pub fn step(&mut self, op: Op) -> Result<(), DiskError> {
        match op {
            Op::AddTopic { partitions } => self.add_topic(partitions),
            Op::Checkpoint => self.log_mut().request_checkpoint(),
            Op::Delete { part, at } => self.delete(self.part_key(part), at),
            Op::EndJob { job } => self.end_job(job),
            Op::Hold { part, at, max_bytes } => {
                let key = self.part_key(part);
                self.hold(key, self.offset_at(key, at).0, limit(at, max_bytes));
            }
            Op::Lookup { part, timestamp } => {
                let key = self.part_key(part);
                // Compaction changes which batches there are.
                if !self.book.is_compacted(key) {
                    self.lookup(key, timestamp);
                    self.look_up_latest(key);
                }
            }
            Op::Pass { ms } => {
                self.pass(ms);
                self.look_at_room()?;
            }
            Op::Policy { topic, which } => self.set_policy(topic, which),
            Op::Read { part, at, max_bytes } => {
                let key = self.part_key(part);
                let from = self.offset_at(key, at).0;
                let limit = limit(at, max_bytes);
                let plan = self.plan(key, from, limit);
                self.carry_out(key, from, limit, &plan);
            }
            Op::ReadHeld => self.read_held(),
            Op::RemoveTopic { topic } => self.remove_topic(topic),
            Op::RunJob { job, pace, fails } => self.run_job(job, pace, fails)?,
            Op::Send { part, from, records, bytes, timestamp } => {
                self.send(self.part_key(part), from, Shape { records, bytes, timestamp });
                // The engine has nothing else to do for a moment, which may be before more comes for the same slot, or not.
                if records == 2 {
                    self.log_mut().lay_out_ahead();
                }
            }
            Op::SendAgain { part, pid, back } => self.send_again(self.part_key(part), pid, back),
            Op::Sync => self.sync()?,
            Op::TakeJob => {
                self.take_job();
            }
            Op::WallJumps { ms } => {
                self.truth += 600;
                self.maintain(ms);
            }
            Op::Write => self.write()?,
        }
        Ok(())
    }

    pub(super) fn write(&mut self) -> Result<(), DiskError> {
        if self.slot.is_none() {
            self.slot = self.log_mut().take_slot();
            self.is_written = false;
        }
        if let Some(slot) = self.slot.as_ref().filter(|_| !self.is_written) {
            self.disk.write_slot(slot)?;
            self.is_written = true;
            // A new file came out of those that were ready.
            self.look_at_room()?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), DiskError> {
        let Some(slot) = self.slot.as_ref().filter(|_| self.is_written) else {
            return Ok(());
        };
        self.disk.sync(slot.file_no)?;
        let slot_no = slot.slot_no;
        self.slot = None;
        // Every other time the next one is on its way before this one is taken in.
        if slot_no.0 % 2 == 1 {
            self.log_mut().slot_synced(slot_no);
            self.write()?;
        }
        let durable = self.log_mut().slot_durable(slot_no);
        self.book.acknowledge(slot_no);
        for moved in durable.moved {
            let end = self.book.parts[&moved.key].acked_end();
            assert_eq!(moved.high_watermark.0, end, "{:?}", moved.key);
        }
        self.check_streams();
        self.note(format_args!("slot {slot_no} is durable"));
        Ok(())
    }

    /// Everything that was sent becomes durable; whether there was anything.
    ///
    /// # Errors
    /// If the process dies.
    pub fn commit(&mut self) -> Result<bool, DiskError> {
        let mut any = false;
        loop {
            self.write()?;
            if self.slot.is_none() {
                return Ok(any);
            }
            any = true;
            self.sync()?;
        }
    }

    pub fn pass(&mut self, ms: i64) {
        self.truth += ms;
        self.maintain(0);
    }

    /// Lets the log do what time asks for, with a wall clock that is so far off.
    fn maintain(&mut self, off_ms: i64) {
        let Now { mono, wall } = self.now();
        let now = Now { mono, wall: UnixMs(wall.0 + off_ms) };
        for _ in 0..64 {
            if self.log().next_maintenance().is_none_or(|due| due > mono) {
                break;
            }
            self.log_mut().maintain(now);
        }
        for key in self.book.keys() {
            let start = self.log().offsets(key).unwrap().log_start.0;
            if start != self.book.parts[&key].start {
                self.note(format_args!("{key:?} begins at {start} now"));
                self.check_retention(key, start);
            }
        }
    }

    /// Every topic but the compacted ones keeps its records for a minute; hours go by.
    pub fn let_all_expire(&mut self) {
        for (topic_no, topic) in &mut self.book.topics {
            if topic.policy.compact.is_none() {
                topic.policy.retention_ms = Some(60_000);
                self.log.as_mut().unwrap().set_policy(TopicNo(*topic_no), topic.policy);
            }
        }
        for _ in 0..30 {
            self.pass(300_000);
        }
    }

    pub fn check_nothing_but_keys_is_left(&mut self) {
        self.check_everything();
        for key in self.book.keys() {
            let offsets = self.log().offsets(key).unwrap();
            let is_empty = offsets.log_start == offsets.high_watermark;
            assert!(is_empty || self.book.is_compacted(key), "{key:?}: {offsets:?} is left");
        }
    }

    /// What retention dropped was old enough, or too much.
    fn check_retention(&mut self, key: PartitionKey, start: i64) {
        let policy = self.book.topics[&key.topic_no.0].policy;
        let truth = self.truth;
        let part = self.book.parts.get_mut(&key).unwrap();
        assert!(start > part.start, "{key:?}: the log start goes on");
        assert!(start <= part.acked_end(), "{key:?}: retention goes as far as the log");
        let is_old = policy.retention_ms.is_some_and(|ms| {
            let dropped = part.readable_from(part.start).take_while(|sent| sent.last < start);
            let mut ages = dropped.map(|sent| truth - sent.appended + SLACK_MS);
            ages.all(|age| age >= ms as i64)
        });
        let rest = part.bytes_from(start);
        let is_much = policy.retention_bytes.is_some_and(|bytes| rest >= bytes);
        assert!(is_old || is_much, "{key:?} begins at {start}, {policy:?}, {rest} bytes are left");
        part.start = start;
        part.start_max = part.start_max.max(start);
    }

    fn delete(&mut self, key: PartitionKey, at: i64) {
        let before = self.offset_at(key, at);
        let deleted = self.log_mut().delete_records(key, before).unwrap();
        assert_eq!(deleted.log_start, before, "{key:?}");
        let part = self.book.parts.get_mut(&key).unwrap();
        part.start = before.0;
        part.start_max = part.start_max.max(before.0);
        match deleted.answer_after {
            Some(id) => self.deletions.push((id, key, before.0)),
            None => part.deleted = before.0,
        }
        self.note(format_args!("{key:?} is deleted below {before}"));
    }

    fn topic(&self, nth: u64) -> u32 {
        let topics: Vec<u32> = self.book.topics.keys().copied().collect();
        topics[(nth % topics.len() as u64) as usize]
    }

    fn add_topic(&mut self, partitions: u32) {
        if self.book.topics.len() >= TOPICS_MAX {
            return;
        }
        let no = self.next_topic;
        self.next_topic += 1;
        let is_compacted = self.compacts && no % 2 == 1;
        let policy = if is_compacted { compacted::policy(0) } else { TopicPolicy::default() };
        self.book.topics.insert(no, Topic { policy });
        self.log_mut().set_policy(TopicNo(no), policy);
        for partition in 0..partitions {
            let key = key(no, partition);
            assert_eq!(self.log().offsets(key), None, "a number is used once");
            self.log_mut().register_partition(key).unwrap();
            self.book.parts.insert(key, Part::default());
        }
        self.note(format_args!("topic {no} is made"));
    }

    pub fn remove_topic(&mut self, nth: u64) {
        if self.book.topics.len() < 2 {
            return;
        }
        let no = self.topic(nth);
        self.book.topics.remove(&no);
        self.book.removed.push(no);
        self.book.parts.retain(|key, _| key.topic_no.0 != no);
        self.log_mut().remove_topic(TopicNo(no));
        self.note(format_args!("topic {no} is removed"));
    }

    fn set_policy(&mut self, nth: u64, which: u64) {
        let no = self.topic(nth);
        let retention_ms = [None, Some(60_000), Some(10_000_000)][(which % 3) as usize];
        let retention_bytes = [None, Some(100_000), Some(0)][(which / 3 % 3) as usize];
        let policy = if self.compacts && no % 2 == 1 {
            compacted::policy(which)
        } else {
            TopicPolicy { retention_ms, retention_bytes, compact: None }
        };
        self.book.topics.get_mut(&no).unwrap().policy = policy;
        self.log_mut().set_policy(TopicNo(no), policy);
        self.note(format_args!("topic {no}: {policy:?}"));
    }
}

/// Some readers take a first batch only if it fits.
fn limit(at: i64, max_bytes: usize) -> Limit {
    (max_bytes, if at % 4 == 3 { FirstBatch::IfItFits } else { FirstBatch::Always })
}
