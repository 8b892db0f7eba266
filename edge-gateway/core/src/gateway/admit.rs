//! Publishes into the spool: deduplication, quota, rows.

use bytes::Bytes;
use wire::ids::{Lane, QueueId};
use wire::seq::DeviceSeq;

use super::{Arrival, COMMIT_BYTES_TARGET, ClientBatch, Gateway, Now, Plan, Rejection, Verdict};
use crate::dedupe::{Decision, Numbered, QueuesSeen, decide};
use crate::device_batch::{self, BatchFault, DeviceBatch};
use crate::mutant::{self, Mutant};
use crate::spool::segment::{Row, SegmentWriter};
use crate::spool::store::{SpoolStore, StoreError};

/// The live rows of one commit.
struct Intake {
    now: Now,
    used_bytes: u64,
    writer: SegmentWriter,
}

impl<S: SpoolStore> Gateway<S> {
    pub(super) fn admit(
        &mut self,
        plan: &mut Plan,
        now: Now,
        staged: &[ClientBatch],
    ) -> Result<(), StoreError> {
        if staged.is_empty() {
            return Ok(());
        }
        let used_bytes = self.store.used_bytes()?;
        let writer = SegmentWriter::new(Lane::Live, plan.next_row);
        let mut intake = Intake { now, used_bytes, writer };
        for batch in staged {
            if intake.writer.bytes() >= COMMIT_BYTES_TARGET {
                break;
            }
            let mut verdict = Verdict { token: batch.token, stored: 0, rejected: None };
            let mut seen = batch.queues_seen;
            for arrival in &batch.arrivals {
                verdict.rejected = self.admit_one(plan, &mut intake, batch, arrival, &mut seen)?;
                if verdict.rejected.is_some() {
                    break;
                }
                verdict.stored += 1;
            }
            plan.verdicts.push(verdict);
        }
        self.write_rows(plan, Lane::Live, intake.writer)
    }

    /// Stores all readings of a publish, or none.
    fn admit_one(
        &mut self,
        plan: &mut Plan,
        intake: &mut Intake,
        batch: &ClientBatch,
        arrival: &Arrival,
        seen: &mut QueuesSeen,
    ) -> Result<Option<Rejection>, StoreError> {
        let content = match Content::of(&batch.device, arrival) {
            Ok(content) => content,
            Err(rejection) => return Ok(Some(rejection)),
        };
        let (sequence, count) = (content.sequence(arrival), content.count());
        let mut taken = None;
        if let Some((queue, numbered)) = sequence {
            let queue = if mutant::is(Mutant::DedupeIgnoresQueue) { QueueId(0) } else { queue };
            let last = self.store.device_last(&batch.device, queue)?.unwrap_or(DeviceSeq::NONE);
            let may_jump = seen.may_jump(queue);
            seen.note(queue);
            match decide(last, numbered, may_jump) {
                Decision::Copy if mutant::is(Mutant::TakeCopies) => {}
                Decision::Copy => {
                    plan.ledger.received += count;
                    plan.ledger.deduplicated += count;
                    return Ok(None);
                }
                Decision::Refuse { expected } => {
                    let first = numbered.first;
                    return Ok(Some(Rejection::OutOfOrder { expected, first }));
                }
                Decision::Take { last } => taken = Some((queue, last)),
            }
        }
        let rows = match content.rows(intake.now, &batch.device, arrival) {
            Ok(rows) => rows,
            Err(fault) => return Ok(Some(Rejection::Batch(fault))),
        };
        let bytes: usize = rows.iter().map(Row::bytes_max).sum();
        if !self.settings.quota.admits(intake.used_bytes, (intake.writer.bytes() + bytes) as u64) {
            if arrival.acknowledged {
                return Ok(Some(Rejection::Full));
            }
            plan.ledger.received += count;
            plan.ledger.dropped_full += count;
            return Ok(None);
        }
        if let Some((queue, last)) = taken {
            self.store.put_device_last(&batch.device, queue, last)?;
            if mutant::is(Mutant::DedupeOutlivesRollback) {
                self.store.commit()?;
                self.store.begin()?;
            }
        }
        let lost = sequence.map_or(0, |(_, numbered)| numbered.lost_before);
        plan.ledger.lost_by_devices = plan.ledger.lost_by_devices.saturating_add(lost);
        plan.ledger.received += count;
        plan.spooled += count;
        for row in &rows {
            intake.writer.push(row);
        }
        Ok(None)
    }

    /// The gateway's own records, in the control lane.
    pub(super) fn write_records(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        let mut writer = SegmentWriter::new(Lane::Control, plan.next_row);
        for row in &self.records {
            writer.push(row);
        }
        self.write_rows(plan, Lane::Control, writer)
    }

    fn write_rows(
        &mut self,
        plan: &mut Plan,
        lane: Lane,
        writer: SegmentWriter,
    ) -> Result<(), StoreError> {
        let (segments, end) = writer.finish();
        for segment in &segments {
            self.store.put_segment(segment)?;
        }
        if !segments.is_empty() {
            plan.next_row = end;
            plan.lane_end.insert(lane, end);
        }
        Ok(())
    }
}

/// What a publish holds.
enum Content<'a> {
    /// Readings that the gateway opens.
    Batch(Box<DeviceBatch<'a>>),
    /// One reading, whatever its bytes.
    Plain,
}

impl<'a> Content<'a> {
    /// Looks at all of it, and at whose topic it is: the connection has done the latter too, nothing here relies on it.
    fn of(device: &[u8], arrival: &'a Arrival) -> Result<Self, Rejection> {
        if device_batch::is_batch_topic(&arrival.topic, device) {
            let batch = DeviceBatch::read(&arrival.payload).map_err(Rejection::Batch)?;
            Ok(Self::Batch(Box::new(batch)))
        } else if device_batch::is_reserved(&arrival.topic) {
            Err(Rejection::NotAuthorized)
        } else {
            Ok(Self::Plain)
        }
    }

    fn sequence(&self, arrival: &Arrival) -> Option<(QueueId, Numbered)> {
        match self {
            Self::Batch(batch) => Some(batch.sequence()),
            Self::Plain => arrival.sequence,
        }
    }

    /// How many readings.
    fn count(&self) -> u64 {
        match self {
            Self::Batch(batch) => batch.sequence().1.count,
            Self::Plain => 1,
        }
    }

    fn rows(&self, now: Now, device: &Bytes, arrival: &Arrival) -> Result<Vec<Row>, BatchFault> {
        let row = Row {
            received: now.wall,
            device: device.clone(),
            topic: arrival.topic.clone(),
            sequence: arrival.sequence.map(|(queue, numbered)| (queue, numbered.first)),
            device_time: None,
            maybe_dup: arrival.maybe_dup,
            properties: arrival.properties.clone(),
            payload: arrival.payload.clone(),
        };
        match self {
            Self::Batch(batch) => batch.rows(&row),
            Self::Plain => Ok(vec![row]),
        }
    }
}

/// How many readings `arrival` has; none if it would be refused whatever the spool holds.
pub(super) fn count(device: &[u8], arrival: &Arrival) -> u64 {
    Content::of(device, arrival).map_or(0, |content| content.count())
}
