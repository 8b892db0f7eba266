//! Publishes into the spool: deduplication, quota, rows.

use wire::ids::{Lane, QueueId};
use wire::seq::DeviceSeq;

use super::{Arrival, ClientBatch, Gateway, Now, Plan, Rejection, Verdict};
use crate::dedupe::{Decision, decide};
use crate::mutant::{self, Mutant};
use crate::spool::segment::{Row, SegmentWriter};
use crate::spool::store::{SpoolStore, StoreError};

/// What a row takes beside payload, topic, device and properties, in bytes; generous.
const ROW_OVERHEAD_BYTES: u64 = 64;

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
            let mut verdict = Verdict { token: batch.token, stored: 0, rejected: None };
            let mut first = batch.first_of_connection;
            for arrival in &batch.arrivals {
                verdict.rejected = self.admit_one(plan, &mut intake, batch, arrival, first)?;
                if verdict.rejected.is_some() {
                    break;
                }
                verdict.stored += 1;
                first &= arrival.sequence.is_none();
            }
            plan.verdicts.push(verdict);
        }
        self.write_rows(plan, Lane::Live, intake.writer)
    }

    fn admit_one(
        &mut self,
        plan: &mut Plan,
        intake: &mut Intake,
        batch: &ClientBatch,
        arrival: &Arrival,
        first_of_connection: bool,
    ) -> Result<Option<Rejection>, StoreError> {
        let mut taken = None;
        if let Some((queue, numbered)) = arrival.sequence {
            let queue = if mutant::is(Mutant::DedupeIgnoresQueue) { QueueId(0) } else { queue };
            let last = self.store.device_last(&batch.device, queue)?.unwrap_or(DeviceSeq::NONE);
            match decide(last, numbered, first_of_connection) {
                Decision::Copy if mutant::is(Mutant::TakeCopies) => {}
                Decision::Copy => {
                    plan.ledger.received += 1;
                    plan.ledger.deduplicated += 1;
                    return Ok(None);
                }
                Decision::Refuse { expected } => {
                    return Ok(Some(Rejection::OutOfOrder { expected }));
                }
                Decision::Take { last } => taken = Some((queue, last)),
            }
        }
        let more = intake.writer.bytes() as u64 + row_bytes(&batch.device, arrival);
        if !self.settings.quota.admits(intake.used_bytes, more) {
            if arrival.acknowledged {
                return Ok(Some(Rejection::Full));
            }
            plan.ledger.received += 1;
            plan.ledger.dropped_full += 1;
            return Ok(None);
        }
        if let Some((queue, last)) = taken {
            self.store.put_device_last(&batch.device, queue, last)?;
            if mutant::is(Mutant::DedupeOutlivesRollback) {
                self.store.commit()?;
                self.store.begin()?;
            }
        }
        let lost = arrival.sequence.map_or(0, |(_, numbered)| numbered.lost_before);
        plan.ledger.lost_by_devices = plan.ledger.lost_by_devices.saturating_add(lost);
        plan.ledger.received += 1;
        plan.spooled += 1;
        intake.writer.push(&Row {
            received: intake.now.wall,
            device: batch.device.clone(),
            topic: arrival.topic.clone(),
            sequence: arrival.sequence.map(|(queue, numbered)| (queue, numbered.first)),
            maybe_dup: false,
            properties: arrival.properties.clone(),
            payload: arrival.payload.clone(),
        });
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

fn row_bytes(device: &[u8], arrival: &Arrival) -> u64 {
    let properties: usize =
        arrival.properties.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    let bytes = device.len() + arrival.topic.len() + arrival.payload.len() + properties;
    bytes as u64 + ROW_OVERHEAD_BYTES
}
