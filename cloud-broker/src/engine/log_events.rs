//! What the log's threads report to the engine's task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::job_threads::JobReport;
use crate::log_folder::{SpaceReport, WalEvent, WalListener};
use crate::metrics;
use crate::sync_latency::SyncLatency;

/// Events of the WAL's thread that wait: one slot is in flight.
const WAL_EVENTS_LEN: usize = 4;

/// Reports of jobs that wait: one in each lane is under way.
const JOB_REPORTS_LEN: usize = 2;

/// The WAL's thread's end. Each thread has an end of its own: that one of them is gone must show.
#[derive(Debug)]
pub(crate) struct WalEvents {
    events: mpsc::Sender<WalEvent>,
    syncs: Arc<SyncLatency>,
}

/// The ends that the engine's task listens to, and what the threads of jobs need, which come last.
#[derive(Debug)]
pub(crate) struct LogReports {
    pub(super) jobs: mpsc::Receiver<JobReport>,
    pub(super) space: watch::Receiver<SpaceReport>,
    pub(super) wal: mpsc::Receiver<WalEvent>,
    pub(super) job_reports: mpsc::Sender<JobReport>,
    pub(super) syncs: Arc<SyncLatency>,
}

/// The ends of the WAL's thread, of the keeper of space, and of the engine's task.
pub(crate) fn log_events() -> (WalEvents, watch::Sender<SpaceReport>, LogReports) {
    let (job_reports, jobs) = mpsc::channel(JOB_REPORTS_LEN);
    let (space, space_reports) = watch::channel(SpaceReport::default());
    let (events, wal_events) = mpsc::channel(WAL_EVENTS_LEN);
    let syncs = Arc::<SyncLatency>::default();
    let reports = LogReports {
        jobs,
        space: space_reports,
        wal: wal_events,
        job_reports,
        syncs: Arc::clone(&syncs),
    };
    (WalEvents { events, syncs }, space, reports)
}

impl WalListener for WalEvents {
    fn event(&mut self, event: WalEvent) {
        // An engine that has ended hears nothing any more.
        let _ = self.events.blocking_send(event);
    }

    fn synced(&mut self, took: Duration) {
        metrics::synced(took);
        self.syncs.synced(Instant::now(), took);
    }
}
