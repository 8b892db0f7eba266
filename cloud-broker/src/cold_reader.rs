//! Cold reads: what is not in memory any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use broker_core::PieceLost;
use broker_log::{Damage, Piece, PieceRead, ReadFailed, UnitId};
use tokio::sync::Semaphore;

use crate::log_folder::LogFolder;
use crate::metrics;

/// Reads that go on at a time, each on a thread of its own. More would only make the disk seek more.
const READS_MAX: usize = 8;

/// Places of damage that are remembered, so that each is reported once although consumers ask again and again.
const REPORTED_MAX: usize = 4_096;

/// Reads pieces of read plans; clones share what they have reported, and their turns.
#[derive(Debug, Clone)]
pub(crate) struct ColdReader {
    folder: LogFolder,
    turns: Arc<Semaphore>,
    /// A plain lock: it only guards the set.
    reported: Arc<Mutex<BTreeSet<(UnitId, u64)>>>,
}

impl ColdReader {
    pub(crate) fn new(folder: LogFolder) -> Self {
        let turns = Arc::new(Semaphore::new(READS_MAX));
        Self { folder, turns, reported: Arc::default() }
    }

    /// What it reads from.
    pub(crate) fn folder(&self) -> &LogFolder {
        &self.folder
    }

    /// Does `work`, which reads, on a thread that may block, when it is its turn; `None` if the runtime ends.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let mut reader = self.clone();
        let working = move || {
            let done = work(&mut reader);
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(working).await.ok()
    }

    /// Reads a piece; blocks. A failure is counted and logged.
    pub(crate) fn read(&mut self, piece: &Piece) -> Result<PieceRead, PieceLost> {
        piece.read(&mut self.folder).map_err(|failed| {
            match &failed {
                ReadFailed::Damaged(damage) => self.report(damage),
                ReadFailed::Source(error) => {
                    metrics::read_error();
                    tracing::error!("a read of the log failed: {error}");
                }
            }
            PieceLost::from(&failed)
        })
    }

    /// Tells the operator of damage.
    pub(crate) fn report(&self, damage: &Damage) {
        metrics::damage();
        // A set of places is whole whoever panicked beside it.
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < REPORTED_MAX && reported.insert((damage.unit, damage.from)) {
            tracing::error!("the log is damaged: {damage}");
        }
    }
}
