//! What the log's threads report to the engine's task.

use tokio::sync::{mpsc, watch};

use crate::log_folder::{Listener, SpaceReport, WalEvent};

/// Events of the WAL's thread that wait: one slot is in flight.
const WAL_EVENTS_LEN: usize = 4;

/// The threads' end.
#[derive(Debug, Clone)]
pub(crate) struct LogEvents {
    wal: mpsc::Sender<WalEvent>,
    space: watch::Sender<SpaceReport>,
}

/// The threads' end, and both that the engine's task listens to.
pub(crate) fn log_events() -> (LogEvents, mpsc::Receiver<WalEvent>, watch::Receiver<SpaceReport>) {
    let (wal, wal_events) = mpsc::channel(WAL_EVENTS_LEN);
    let (space, reports) = watch::channel(SpaceReport { made: 0, files: 0, below_floor: false });
    (LogEvents { wal, space }, wal_events, reports)
}

impl Listener for LogEvents {
    fn wal(&mut self, event: WalEvent) {
        // An engine that has ended hears nothing any more.
        let _ = self.wal.blocking_send(event);
    }

    fn space(&mut self, report: SpaceReport) {
        self.space.send_replace(report);
    }
}
