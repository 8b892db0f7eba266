//! The composition: what the one owner of the spool decides. Its shell is a thread with a store.
//!
//! Calls, in this order, for ever:
//! 1. [`Gateway::stage`] for every batch of publishes that came in, [`Gateway::handle_uplink`] for everything the uplink
//!    reports, [`Gateway::handle_timeout`] when [`Gateway::next_deadline`] has come;
//! 2. [`Gateway::commit`] if [`Gateway::wants_commit`] says so: one transaction for all of it. It returns the verdicts:
//!    **only these may become acknowledgements**, and they exist only after the store has synced;
//! 3. [`Gateway::take_batch`] for what is to be sent.
//!
//! Deliberately missing for now: RESET, new spool ids, when-full policies other than `reject`, gap records.

mod admit;
mod assign;
mod outgoing;
mod session;
mod status;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::{GatewayId, Lane, QueueId, SpoolId};
use wire::seq::DeviceSeq;
use wire::time::{MonoMs, UnixMs};

pub use self::outgoing::Outgoing;
use self::outgoing::RunCache;
use self::session::Session;
pub use self::session::{SessionId, UplinkEvent, WelcomeFacts};
pub use self::status::{Alarm, Status};
use crate::dedupe::{Numbered, QueuesSeen};
use crate::device_batch::{self, BatchFault};
use crate::ledger::Ledger;
use crate::mutant::{self, Mutant};
use crate::spool::RowNo;
use crate::spool::quota::Quota;
use crate::spool::segment::Row;
use crate::spool::store::{SpoolStore, StoreError};
use crate::uplink::window::{Batch, BatchNo, Stream, Window};

/// Bytes of rows at which a commit takes no further connection's publishes: it bounds the memory of a transaction, however
/// many readings the staged bytes stand for.
pub const COMMIT_BYTES_TARGET: usize = 16 << 20;

/// Trims alone are worth no sync of their own for so long, in milliseconds.
pub const TRIM_DELAY_MS: u64 = 200;

/// A full disk is tried again after this, in milliseconds, if only the gateway's own work waits.
pub const FULL_RETRY_MS: u64 = 1_000;

/// What a gateway is told once.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Its name, from its certificate.
    pub gateway: GatewayId,
    /// How much its spool may hold.
    pub quota: Quota,
    /// How often a session record is written while a session lasts, in milliseconds.
    pub record_interval_ms: u64,
}

/// The two clocks, read once per call.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub mono: MonoMs,
    /// For people.
    pub wall: UnixMs,
}

/// Where random numbers come from.
pub trait Entropy {
    /// 64 random bits.
    fn random(&mut self) -> u64;
}

/// One publish on its way into the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// MQTT topic.
    pub topic: Bytes,
    /// Payload as it came.
    pub payload: Bytes,
    /// User properties other than those that number it.
    pub properties: Vec<(Bytes, Bytes)>,
    /// Its number, if its properties number it. A device's batch is numbered by its own header instead.
    pub sequence: Option<(QueueId, Numbered)>,
    /// Whether its sender says that a copy may be in the log already.
    pub maybe_dup: bool,
    /// Whether the sender waits for an acknowledgement (QoS 1).
    pub acknowledged: bool,
}

impl Arrival {
    /// The queue that it is numbered in, by properties or as a batch; `None` too for a batch that cannot be read.
    #[must_use]
    pub fn queue(&self) -> Option<QueueId> {
        if device_batch::is_reserved(&self.topic) {
            device_batch::queue(&self.payload)
        } else {
            self.sequence.map(|(queue, _)| queue)
        }
    }
}

/// Names a connection to whoever staged it; the gateway only hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientToken(pub u64);

/// What one connection had buffered.
#[derive(Debug, Clone)]
pub struct ClientBatch {
    /// Who to tell.
    pub token: ClientToken,
    /// The device: the authenticated client id.
    pub device: Bytes,
    /// The queues that this connection has published for before.
    pub queues_seen: QueuesSeen,
    /// The publishes, in order.
    pub arrivals: Vec<Arrival>,
}

/// Why a publish was not stored. Its connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// A device's batch that cannot be opened.
    Batch(BatchFault),
    /// The spool is full.
    Full,
    /// A topic of Culvert's own that is not this device's to publish to.
    NotAuthorized,
    /// The device's numbering has a hole or an overlap; `expected` would have been taken.
    OutOfOrder {
        /// The sequence that would have been taken.
        expected: DeviceSeq,
        /// The sequence that came.
        first: DeviceSeq,
    },
}

/// What became of a [`ClientBatch`]: the first `stored` publishes are durable (or were already); the next one, if
/// `rejected` says so, was refused, and none behind it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Who to tell.
    pub token: ClientToken,
    /// Publishes that may be acknowledged.
    pub stored: usize,
    /// Why the next one may not.
    pub rejected: Option<Rejection>,
}

/// When the next commit is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once: somebody waits for it.
    Now,
    /// By this time.
    At(MonoMs),
    /// Nothing is staged.
    Never,
}

/// The owner of a spool and its uplink window.
#[derive(Debug)]
pub struct Gateway<S> {
    settings: GatewaySettings,
    store: S,
    spool: SpoolId,
    next_row: RowNo,
    lane_end: BTreeMap<Lane, RowNo>,
    assigned: BTreeMap<Lane, RowNo>,
    /// Per lane, below which row segments were deleted.
    deleted: BTreeMap<Lane, RowNo>,
    window: Window,
    next_batch: BatchNo,
    ledger: Ledger,
    spooled: u64,
    staged: Vec<ClientBatch>,
    records: Vec<Row>,
    trimmed: Vec<Batch>,
    trim_due: Option<MonoMs>,
    session: Option<Session>,
    alarm: Option<Alarm>,
    progress: MonoMs,
    runs: RunCache,
    /// Whether the ledger counts drops that are not on the disk yet.
    ledger_moved: bool,
    /// After a commit that found no room: when to try again what nobody waits for.
    blocked_until: Option<MonoMs>,
}

/// Everything a transaction changes; taken over only when it is durable.
#[derive(Debug)]
struct Plan {
    next_row: RowNo,
    lane_end: BTreeMap<Lane, RowNo>,
    assigned: BTreeMap<Lane, RowNo>,
    deleted: BTreeMap<Lane, RowNo>,
    next_batch: BatchNo,
    ledger: Ledger,
    spooled: u64,
    batches: Vec<Batch>,
    verdicts: Vec<Verdict>,
    alarm: Option<Alarm>,
}

impl<S: SpoolStore> Gateway<S> {
    /// Opens the spool in `store`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed.
    pub fn open(settings: GatewaySettings, mut store: S, now: MonoMs) -> Result<Self, StoreError> {
        let found = store.recover()?;
        if !found.ledger.balances(found.spooled) {
            let detail =
                format!("{:?} with {} spooled does not balance", found.ledger, found.spooled);
            return Err(StoreError::Damaged(detail));
        }
        let assigned = found.assigned.into_iter().collect();
        Ok(Self {
            settings,
            store,
            spool: found.spool,
            next_row: found.next_row,
            lane_end: Lane::ALL.into_iter().map(|lane| (lane, found.next_row)).collect(),
            assigned,
            deleted: BTreeMap::new(),
            window: Window::recovered(&found.streams, &found.window),
            next_batch: found.next_batch,
            ledger: found.ledger,
            spooled: found.spooled,
            staged: Vec::new(),
            records: Vec::new(),
            trimmed: Vec::new(),
            trim_due: None,
            session: None,
            alarm: None,
            progress: now,
            runs: RunCache::default(),
            ledger_moved: false,
            blocked_until: None,
        })
    }

    /// Closes the gateway and gives its store back.
    #[must_use]
    pub fn into_store(self) -> S {
        self.store
    }

    /// The store, for work between commits.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The spool's identity.
    #[must_use]
    pub fn spool(&self) -> SpoolId {
        self.spool
    }

    /// Takes in what a connection had buffered; answered by the next [`Self::commit`].
    pub fn stage(&mut self, batch: ClientBatch) {
        self.staged.push(batch);
    }

    /// Whether a commit is due.
    #[must_use]
    pub fn wants_commit(&self) -> Due {
        if !self.staged.is_empty() {
            return Due::Now;
        }
        if let Some(blocked) = self.blocked_until {
            return Due::At(blocked);
        }
        if !self.records.is_empty() || self.wants_assignment() {
            return Due::Now;
        }
        self.trim_due.map_or(Due::Never, Due::At)
    }

    /// When to call again if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self, now: MonoMs) -> Option<MonoMs> {
        let record = self.session.as_ref().and_then(Session::next_record);
        let retry = self.session.as_ref().and_then(|_| self.window.next_retry(now));
        [record, retry, self.trim_due, self.blocked_until].into_iter().flatten().min()
    }

    /// One transaction for what is staged, up to [`COMMIT_BYTES_TARGET`]: a verdict for each batch in it, in the order of
    /// staging. What is beyond waits for the next commit, which is due at once. If the disk has no room, all that was
    /// staged is rejected and nothing of it remains, deduplication included.
    ///
    /// # Errors
    /// [`StoreError::Disk`] and [`StoreError::Damaged`]: end the process, acknowledge nothing.
    pub fn commit(
        &mut self,
        now: Now,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<Verdict>, StoreError> {
        let mut staged = std::mem::take(&mut self.staged);
        let error = match self.transact(now, entropy, &staged) {
            Ok(plan) => {
                self.staged = staged.split_off(plan.verdicts.len());
                return Ok(self.adopt(now, plan));
            }
            Err(error) => error,
        };
        self.store.rollback();
        if !mutant::is(Mutant::KeepRunsOfRollback) {
            self.runs.clear();
        }
        match error {
            StoreError::Full(_) => {
                if mutant::is(Mutant::AcknowledgeRolledBack) {
                    return Ok(staged.iter().map(mutant::acknowledge_all).collect());
                }
                self.blocked_until = Some(now.mono + FULL_RETRY_MS);
                self.count_unanswered_drops(&staged);
                Ok(staged.iter().map(reject_all).collect())
            }
            StoreError::Damaged(_) | StoreError::Disk(_) => Err(error),
        }
    }

    fn transact(
        &mut self,
        now: Now,
        entropy: &mut dyn Entropy,
        staged: &[ClientBatch],
    ) -> Result<Plan, StoreError> {
        let mut plan = Plan {
            next_row: self.next_row,
            lane_end: self.lane_end.clone(),
            assigned: self.assigned.clone(),
            deleted: self.deleted.clone(),
            next_batch: self.next_batch,
            ledger: self.ledger,
            spooled: self.spooled,
            batches: Vec::new(),
            verdicts: Vec::new(),
            alarm: None,
        };
        self.store.begin()?;
        // First, because it makes room.
        self.write_trims(&mut plan)?;
        self.admit(&mut plan, now, staged)?;
        self.write_records(&mut plan)?;
        self.assign(&mut plan, entropy)?;
        if plan.ledger != self.ledger || self.ledger_moved {
            self.store.put_ledger(&plan.ledger)?;
        }
        if !mutant::is(Mutant::AcknowledgeUncommitted) {
            self.store.commit()?;
        }
        Ok(plan)
    }

    fn adopt(&mut self, now: Now, plan: Plan) -> Vec<Verdict> {
        self.next_row = plan.next_row;
        self.lane_end = plan.lane_end;
        self.assigned = plan.assigned;
        self.deleted = plan.deleted;
        self.next_batch = plan.next_batch;
        self.ledger = plan.ledger;
        if self.spooled == 0 {
            self.progress = now.mono;
        }
        self.spooled = plan.spooled;
        self.records.clear();
        self.trimmed.clear();
        self.trim_due = None;
        self.blocked_until = None;
        self.ledger_moved = false;
        if let Some(alarm) = plan.alarm {
            self.raise(alarm);
        }
        for batch in plan.batches {
            self.window.push(batch);
            if let Some(session) = &mut self.session {
                session.assigned(&batch);
            }
        }
        plan.verdicts
    }

    /// QoS 0 readings of a commit that found no room: nobody will send them again, so they are counted as dropped. Those of
    /// QoS 1 stay with their senders.
    fn count_unanswered_drops(&mut self, staged: &[ClientBatch]) {
        let mut drops = 0;
        for batch in staged {
            let unanswered = batch.arrivals.iter().filter(|arrival| !arrival.acknowledged);
            drops += unanswered.map(|arrival| admit::count(&batch.device, arrival)).sum::<u64>();
        }
        self.ledger.received += drops;
        self.ledger.dropped_full += drops;
        self.ledger_moved |= drops > 0;
    }

    /// Deletes what is acknowledged, in ranges, and writes where its streams stand.
    fn write_trims(&mut self, plan: &mut Plan) -> Result<(), StoreError> {
        for batch in &self.trimmed {
            self.store.delete_batch(batch.number)?;
            if batch.lane == Lane::Live {
                plan.ledger.delivered += u64::from(batch.count);
                plan.spooled -= u64::from(batch.count);
            }
        }
        for lane in Lane::ALL {
            let moved: Vec<Stream> = self
                .window
                .streams(lane)
                .filter(|stream| self.trimmed.iter().any(|batch| batch.stream == stream.key))
                .copied()
                .collect();
            for stream in moved.iter().filter(|_| !mutant::is(Mutant::ForgetAcknowledged)) {
                self.store.put_stream(stream)?;
            }
            let assigned = self.assigned.get(&lane).copied().unwrap_or(RowNo::FIRST);
            let floor = self
                .window
                .first_row(lane)
                .filter(|_| !mutant::is(Mutant::DeleteUnacknowledged))
                .map_or(assigned, |row| row.min(assigned));
            if !moved.is_empty() && plan.deleted.get(&lane).is_none_or(|below| *below < floor) {
                self.store.delete_segments(lane, floor)?;
                plan.deleted.insert(lane, floor);
            }
        }
        Ok(())
    }
}

fn reject_all(batch: &ClientBatch) -> Verdict {
    Verdict { token: batch.token, stored: 0, rejected: Some(Rejection::Full) }
}

#[cfg(test)]
mod tests;
