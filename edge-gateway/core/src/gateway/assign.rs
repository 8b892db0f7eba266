//! Late assignment: rows get partition, sequence and tag only when the window has room (rule S1).

use std::collections::BTreeMap;
use std::sync::Arc;

use wire::ids::{Lane, Partition, ProducerId, Tag};
use wire::limits::{UPLINK_BATCH_BYTES_TARGET, UPLINK_BATCH_READINGS_MAX};
use wire::uplink::{StreamKey, StreamState};

use super::session::Binding;
use super::{Alarm, Entropy, Gateway, Plan};
use crate::mutant::{self, Mutant};
use crate::spool::RowNo;
use crate::spool::segment::Segment;
use crate::spool::store::{SpoolStore, StoreError};
use crate::uplink::batch::Rows;
use crate::uplink::window::{Batch, BatchNo, LANE_BATCHES_MAX};

/// Runs of rows that one commit may assign per lane: more would keep publishers waiting behind the disk.
const RUNS_PER_COMMIT: usize = 4;

/// Where the streams of a lane will stand when the open transaction is durable.
type Heads = BTreeMap<StreamKey, StreamState>;

impl<S: SpoolStore> Gateway<S> {
    /// Whether rows wait and the window has room for a good part of them. A window that is half full is left to drain,
    /// so that a backlog costs few syncs.
    pub(super) fn wants_assignment(&self) -> bool {
        self.assignable_lanes().into_iter().any(|(lane, binding)| {
            let waiting = self.assigned.get(&lane) < self.lane_end.get(&lane);
            waiting && fits(self.window.len(lane), LANE_BATCHES_MAX / 2, binding)
        })
    }

    fn assignable_lanes(&self) -> Vec<(Lane, Binding)> {
        match (&self.alarm, &self.session) {
            (Some(alarm), _) if alarm.stops_uplink() => Vec::new(),
            (_, Some(session)) => session.open_lanes(),
            (_, None) => Vec::new(),
        }
    }

    pub(super) fn assign(
        &mut self,
        plan: &mut Plan,
        entropy: &mut dyn Entropy,
    ) -> Result<(), StoreError> {
        for (lane, binding) in self.assignable_lanes() {
            let mut heads = Heads::new();
            let before = plan.assigned.get(&lane).copied();
            for _ in 0..RUNS_PER_COMMIT {
                if !self.assign_run(plan, lane, binding, &mut heads, entropy)? {
                    break;
                }
            }
            let after = plan.assigned.get(&lane).copied();
            if let (true, Some(row)) = (before != after, after)
                && !mutant::is(Mutant::AssignmentNotStored)
            {
                self.store.put_assigned(lane, row)?;
            }
        }
        Ok(())
    }

    /// Assigns the next run of rows; false if there is none or the window has no room for it.
    fn assign_run(
        &mut self,
        plan: &mut Plan,
        lane: Lane,
        binding: Binding,
        heads: &mut Heads,
        entropy: &mut dyn Entropy,
    ) -> Result<bool, StoreError> {
        let from = plan.assigned.get(&lane).copied().unwrap_or(RowNo::FIRST);
        let end = plan.lane_end.get(&lane).copied().unwrap_or(plan.next_row);
        let planned = plan.batches.iter().filter(|batch| batch.lane == lane).count();
        if from >= end || !fits(self.window.len(lane) + planned, 0, binding) {
            return Ok(false);
        }
        let (bytes_max, rows_max) = (UPLINK_BATCH_BYTES_TARGET, UPLINK_BATCH_READINGS_MAX);
        let run = self.store.segments(lane, from, bytes_max, rows_max).and_then(|segments| {
            let rows = Rows::read(&segments).map_err(|e| StoreError::Damaged(e.to_string()))?;
            Ok((segments, rows))
        });
        match run {
            Ok((segments, _)) if segments.is_empty() => {
                plan.assigned.insert(lane, end);
                Ok(false)
            }
            Ok((segments, rows)) => {
                self.cut(plan, lane, binding, heads, entropy, (&segments, rows))?;
                Ok(true)
            }
            Err(StoreError::Damaged(detail)) => {
                plan.alarm = Some(Alarm::Damaged { detail });
                Ok(false)
            }
            Err(error @ (StoreError::Disk(_) | StoreError::Full(_))) => Err(error),
        }
    }

    /// Cuts a run into one batch per partition.
    fn cut(
        &mut self,
        plan: &mut Plan,
        lane: Lane,
        binding: Binding,
        heads: &mut Heads,
        entropy: &mut dyn Entropy,
        (segments, rows): (&[Segment], Rows),
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Ok(());
        };
        let (from, to) = (first.first, last.end());
        let pid = ProducerId::of_lane(&self.settings.gateway, self.spool, lane);
        let backfill = self.session.as_ref().is_some_and(|session| session.is_backlog(lane, from));
        for (partition, count) in (0..).zip(rows.count_by_partition(binding.partitions)) {
            if count == 0 {
                continue;
            }
            let partition = Partition(partition);
            let stream = StreamKey { pid, topic: binding.topic, partition };
            let head = heads.entry(stream).or_insert_with(|| self.window.head(stream));
            let tag = Tag(entropy.random().max(1));
            let batch = Batch {
                number: plan.next_batch,
                lane,
                stream,
                partitions: binding.partitions,
                epoch: head.epoch,
                base: head.next(),
                count,
                prev_tag: head.tag,
                tag,
                from,
                to,
                backfill,
            };
            *head = StreamState { epoch: batch.epoch, last: Some(batch.last()), tag };
            if !mutant::is(Mutant::AssignmentNotStored) {
                self.store.put_batch(&batch)?;
            }
            plan.next_batch = BatchNo(plan.next_batch.0 + 1);
            plan.batches.push(batch);
        }
        self.runs.put(lane, from, to, Arc::new(rows));
        plan.assigned.insert(lane, to);
        Ok(())
    }
}

/// Whether a run, which becomes at most a batch per partition, fits a window of `used` batches and leaves `spare` free.
/// An empty window takes any run, however many partitions there are.
fn fits(used: usize, spare: usize, binding: Binding) -> bool {
    let wanted = spare.max(binding.partitions as usize);
    used == 0 || LANE_BATCHES_MAX.saturating_sub(used) >= wanted
}
