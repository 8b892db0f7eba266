//! Policies, and what is done with them as time goes by.

use wire::offset::Offset;
use wire::time::{MonoMs, UnixMs};

use super::compact::Compaction;
use super::{Log, Now};
use crate::append_clock::AHEAD_MAX_MS;
use crate::extent::Extent;
use crate::ids::{PartitionKey, TopicNo};
use crate::mutant::{self, Mutant};
use crate::partition::{PartitionLog, PartitionOffsets};
use crate::policy::TopicPolicy;
use crate::settings::IDLE_MARKER_MS;
use crate::slot::SLOT_ALIGN;
use crate::store::CheckpointId;

/// Partitions that one call of [`Log::maintain`] looks at.
const PARTITIONS_PER_CALL: usize = 1024;

/// Records were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsDeleted {
    /// Where the partition begins now.
    pub log_start: Offset,
    /// Answer when this checkpoint or a later one is durable; `None`: now.
    pub answer_after: Option<CheckpointId>,
}

/// Why no records were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies behind the high watermark.
    #[error("offset outside the log")]
    OutOfRange(PartitionOffsets),
    /// No such partition: refresh the metadata.
    #[error("no such partition")]
    UnknownPartition,
}

/// When what comes next.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    /// The next round through all partitions.
    round_at: Option<MonoMs>,
    /// The round that is going on: the next partition to look at.
    at: Option<PartitionKey>,
    /// The slot with batches that became durable last, if no slot was written behind it.
    unmarked_since: Option<Unmarked>,
}

/// Whether the last slot with batches is the last slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unmarked {
    /// It is, and no clock was looked at since.
    Fresh,
    /// It is, since then.
    Since(MonoMs),
}

impl Maintenance {
    /// A slot is durable that has batches, or none.
    pub(super) fn slot_durable(&mut self, has_batches: bool) {
        self.unmarked_since = has_batches.then_some(Unmarked::Fresh);
    }
}

impl Log {
    /// Says how long a topic's records are kept. Takes effect by and by.
    pub fn set_policy(&mut self, topic_no: TopicNo, policy: TopicPolicy) {
        if policy == TopicPolicy::default() {
            self.policies.remove(&topic_no);
        } else {
            self.policies.insert(topic_no, policy);
        }
    }

    /// Deletes a partition's records below `before`. A batch that holds records on both sides stays whole. Readers notice at
    /// once; that it stays so after a crash takes a checkpoint, which is asked for.
    ///
    /// # Errors
    /// [`DeleteRecordsError`]; nothing has changed then.
    pub fn delete_records(
        &mut self,
        key: PartitionKey,
        before: Offset,
    ) -> Result<RecordsDeleted, DeleteRecordsError> {
        let partition = self.partitions.get_mut(&key);
        let partition = partition.ok_or(DeleteRecordsError::UnknownPartition)?;
        let offsets = partition.offsets();
        if before > offsets.high_watermark || before < Offset::ZERO {
            return Err(DeleteRecordsError::OutOfRange(offsets));
        }
        if before > offsets.log_start {
            self.start_at(key, before);
        }
        let log_start = before.max(offsets.log_start);
        let incarnation = self.incarnation;
        let awaited = self.jobs.checkpoints.for_log_start(key);
        if awaited.is_some() {
            self.jobs.checkpoints.ask_for_log_start(key);
        }
        let awaited = awaited.filter(|_| !mutant::is(Mutant::DeletionNotDurable));
        let answer_after = awaited.map(|n| CheckpointId { incarnation, n });
        Ok(RecordsDeleted { log_start, answer_after })
    }

    /// Does what time asks for; a bounded piece of it. Call it when [`Log::next_maintenance`] has come, then take jobs.
    pub fn maintain(&mut self, now: Now) {
        self.retention_clock.tick(now);
        // So that it knows of time that goes by without appends.
        self.append_clock.stamp(now.wall);
        self.go_on();
        self.write_marker(now);
        let maintenance = &mut self.maintenance;
        if maintenance.at.is_none() && maintenance.round_at.is_none_or(|at| at <= now.mono) {
            maintenance.round_at = Some(now.mono + self.settings.maintenance_ms);
            maintenance.at = Some(PartitionKey::all_of(TopicNo(0)).0);
            self.roll_if_old(now);
            self.producers.expire(self.retention_clock.now(now));
            self.jobs.look_again();
            // A round that is not over goes on: it comes no further than a piece with each call for jobs.
            if self.jobs.compaction_tick == Compaction::Over {
                self.jobs.compaction_tick = Compaction::from_the_start();
            }
        }
        if let Some(from) = self.maintenance.at {
            self.maintenance.at = self.retain(self.retention_clock.now(now), from);
        }
    }

    /// When [`Log::maintain`] has something to do.
    #[must_use]
    pub fn next_maintenance(&self) -> Option<MonoMs> {
        let maintenance = &self.maintenance;
        if maintenance.at.is_some() || self.jobs.goes_on() {
            return Some(MonoMs(0));
        }
        let marker = maintenance.unmarked_since.map(|unmarked| match unmarked {
            Unmarked::Fresh => MonoMs(0),
            Unmarked::Since(since) => since + IDLE_MARKER_MS,
        });
        let round = maintenance.round_at.unwrap_or(MonoMs(0));
        Some(marker.map_or(round, |marker| marker.min(round)))
    }

    /// A last slot that rots looks like a torn one. Behind every burst a slot without batches is written, so that a damaged
    /// one with acknowledged batches is always a hole before an intact one.
    fn write_marker(&mut self, now: Now) {
        match self.maintenance.unmarked_since {
            Some(Unmarked::Fresh) => {
                self.maintenance.unmarked_since = Some(Unmarked::Since(now.mono));
            }
            Some(Unmarked::Since(since)) if now.mono - since >= IDLE_MARKER_MS => {
                let is_due = !mutant::is(Mutant::MarkerNotWritten);
                if is_due && self.slot_for_answer().is_none() && self.has_room_for_marker() {
                    self.staging.push_marker(self.append_clock.stamp(now.wall));
                    self.maintenance.unmarked_since = None;
                } else {
                    // Later again: a full disk or one that hangs may stay so, and nobody is to be called without a pause.
                    self.maintenance.unmarked_since = Some(Unmarked::Since(now.mono));
                }
            }
            Some(Unmarked::Since(_)) | None => {}
        }
    }

    /// What is left of the open file is the log's, also below the floor.
    fn has_room_for_marker(&self) -> bool {
        self.place.left() >= SLOT_ALIGN || self.check_disk(0).is_ok()
    }

    /// Only while nothing is staged: what was taken because it fits the open file might find no other.
    fn roll_if_old(&mut self, now: Now) {
        if let Some(file) = self.catalog.files.back()
            && self.place.is_open(file.file.file_no)
            && !file.keys.is_empty()
            && self.slot_for_answer().is_none()
        {
            let age = now.wall.0.saturating_sub(file.since.0);
            if u64::try_from(age).is_ok_and(|age| age >= self.settings.wal_file_age_ms_max) {
                self.place.close();
            }
        }
    }

    /// Lets expired records go in the partitions from `from` on. Gives back where to go on, if there are more.
    fn retain(&mut self, wall: UnixMs, from: PartitionKey) -> Option<PartitionKey> {
        let mut expired: Vec<(PartitionKey, Offset)> = Vec::new();
        let mut looked_at = 0;
        let mut next = None;
        'topics: for (topic_no, policy) in self.policies.range(from.topic_no..) {
            if policy.retention_ms.is_none() && policy.retention_bytes.is_none() {
                continue;
            }
            let (first, last) = PartitionKey::all_of(*topic_no);
            for (key, partition) in self.partitions.range(first.max(from)..=last) {
                looked_at += 1;
                if looked_at > PARTITIONS_PER_CALL {
                    next = Some(*key);
                    break 'topics;
                }
                if let Some(log_start) = expires(partition, policy, wall) {
                    expired.push((*key, log_start));
                }
            }
        }
        for (key, log_start) in expired {
            self.start_at(key, log_start);
            self.jobs.look_again();
        }
        next
    }

    fn start_at(&mut self, key: PartitionKey, log_start: Offset) {
        self.keep_for_checkpoint(key);
        if let Some(partition) = self.partitions.get_mut(&key) {
            for extent in partition.start_at(log_start) {
                self.catalog.extent_gone(&extent);
            }
            self.jobs.checkpoints.log_start_moved(key);
        }
    }
}

/// Where the partition begins once what has expired is gone, if anything has. Whole extents and runs go, from the front,
/// each when all of it is too old, or when what is left behind it is enough. What bears a time in the future was appended while
/// the clock was wrong: it is at least as old as what comes behind it, and goes with that.
fn expires(partition: &PartitionLog, policy: &TopicPolicy, wall: UnixMs) -> Option<Offset> {
    let by_record = mutant::is(Mutant::RetentionByRecordTime);
    let extents = partition.extents().iter().map(|e: &Extent| {
        (e.last, if by_record { e.max_timestamp } else { e.max_append_ms }, e.bytes)
    });
    let runs = partition
        .runs()
        .iter()
        .map(|r| (r.last, if by_record { r.max_timestamp } else { r.append_ms }, u64::from(r.len)));
    let mut left = partition.bytes();
    let mut log_start = None;
    for (last, append_ms, bytes) in extents.chain(runs) {
        let age = u64::try_from(wall.0.saturating_sub(append_ms.0)).unwrap_or(0);
        let is_old = policy.retention_ms.is_some_and(|max| age > max);
        let rest = left - bytes;
        let is_too_much = policy.retention_bytes.is_some_and(|max| rest >= max);
        let is_astray = append_ms.0.saturating_sub(wall.0) > AHEAD_MAX_MS;
        if !is_old && !is_too_much && !is_astray {
            break;
        }
        left = rest;
        if is_astray && !is_too_much {
            continue;
        }
        log_start = Some(last.plus(1));
    }
    log_start
}
