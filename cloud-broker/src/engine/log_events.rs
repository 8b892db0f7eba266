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

/// The threads' ends, each for one of them: that one of them is gone must show.
#[derive(Debug)]
pub(crate) struct LogEvents {
    pub(crate) jobs: mpsc::Sender<JobReport>,
    pub(crate) space: watch::Sender<SpaceReport>,
    pub(crate) wal: WalEvents,
}

/// The WAL's thread's end.
#[derive(Debug)]
pub(crate) struct WalEvents {
    events: mpsc::Sender<WalEvent>,
    syncs: Arc<SyncLatency>,
}

/// The ends that the engine's task listens to.
#[derive(Debug)]
pub(crate) struct LogReports {
    pub(crate) jobs: mpsc::Receiver<JobReport>,
    pub(crate) space: watch::Receiver<SpaceReport>,
    pub(crate) wal: mpsc::Receiver<WalEvent>,
}

/// Both ends. What the WAL's thread sees of commits' latency goes into `syncs`.
pub(crate) fn log_events(syncs: Arc<SyncLatency>) -> (LogEvents, LogReports) {
    let (jobs, job_reports) = mpsc::channel(JOB_REPORTS_LEN);
    let (space, space_reports) = watch::channel(SpaceReport::default());
    let (events, wal_events) = mpsc::channel(WAL_EVENTS_LEN);
    let reports = LogReports { jobs: job_reports, space: space_reports, wal: wal_events };
    (LogEvents { jobs, space, wal: WalEvents { events, syncs } }, reports)
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
