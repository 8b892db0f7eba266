//! Batches on their way out, with their rows.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::ids::Lane;
use wire::time::MonoMs;

use super::{Alarm, Gateway};
use crate::mutant::{self, Mutant};
use crate::spool::RowNo;
use crate::spool::store::{SpoolStore, StoreError};
use crate::uplink::batch::Rows;
use crate::uplink::window::Batch;

/// Runs kept in memory between assignment and sending; each is at most a batch's target, or one large packet.
const RUNS_MAX: usize = 8;

/// A batch to be sent now.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its place in its stream.
    pub batch: Batch,
    /// The run that it was cut from, for [`Rows::build`].
    pub rows: Arc<Rows>,
}

/// The runs read last: all batches of a run are sent one behind the other.
#[derive(Debug, Default)]
pub(super) struct RunCache {
    runs: VecDeque<(Lane, RowNo, RowNo, Arc<Rows>)>,
}

impl RunCache {
    pub(super) fn put(&mut self, lane: Lane, from: RowNo, to: RowNo, rows: Arc<Rows>) {
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back((lane, from, to, rows));
    }

    /// A transaction was undone: its rows' numbers will be given to other readings.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    fn find(&self, batch: &Batch) -> Option<Arc<Rows>> {
        let wanted = (batch.lane, batch.from, batch.to);
        let found = self.runs.iter().find(|(lane, from, to, _)| (*lane, *from, *to) == wanted);
        found.map(|(.., rows)| Arc::clone(rows))
    }
}

impl<S: SpoolStore> Gateway<S> {
    /// The next batch to send in this session, if the broker allows one more.
    ///
    /// # Errors
    /// [`StoreError`] if the disk cannot be read. Damaged rows are an [`Alarm`], not an error.
    pub fn take_batch(&mut self, now: MonoMs) -> Result<Option<Outgoing>, StoreError> {
        if self.alarm.as_ref().is_some_and(Alarm::stops_uplink) {
            return Ok(None);
        }
        let Some(session) = &self.session else {
            return Ok(None);
        };
        let Some(batch) = self.window.take_unsent(now, session.frames_in_flight) else {
            return Ok(None);
        };
        if let Some(rows) = self.runs.find(&batch) {
            return Ok(Some(Outgoing { batch, rows }));
        }
        match self.read_run(&batch) {
            Ok(rows) => {
                let rows = Arc::new(rows);
                self.runs.put(batch.lane, batch.from, batch.to, Arc::clone(&rows));
                Ok(Some(Outgoing { batch, rows }))
            }
            Err(StoreError::Damaged(detail)) => {
                self.raise(Alarm::Damaged { detail });
                Ok(None)
            }
            Err(error @ (StoreError::Disk(_) | StoreError::Full(_))) => Err(error),
        }
    }

    fn read_run(&mut self, batch: &Batch) -> Result<Rows, StoreError> {
        let mut segments = self.store.segments(batch.lane, batch.from, usize::MAX, batch.rows())?;
        segments.retain(|segment| segment.first < batch.to);
        if mutant::is(Mutant::RecutOthers) {
            let rows = batch.rows();
            segments = self.store.segments(batch.lane, batch.to, usize::MAX, rows)?;
        }
        Rows::read(&segments).map_err(|error| StoreError::Damaged(error.to_string()))
    }
}
