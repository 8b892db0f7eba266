//! The log's threads, as the engine's task deals with them: slots to write, jobs, room, the orderly end.

use std::sync::Arc;
use std::time::Duration;

use broker_core::DiskSpace;
use broker_log::{Job, JobDone, Lane, Room, SlotToWrite};
use process::{FatalError, ShutdownTrigger};
use tokio::time::Instant;

use super::log_events::LogReports;
use super::sync_watch::{SyncWatch, Verdict};
use super::{Driver, End, EngineGone};
use crate::cold_reader::ColdReader;
use crate::config::StorageSettings;
use crate::job_threads::{JobReport, JobThreads};
use crate::log_folder::{SpaceKeeper, SpaceReport, WalEvent, WalWriter};
use crate::metrics;

/// How long the last checkpoint may take. Without it the next start replays what it lacks.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked meanwhile whether one that failed can be tried again.
const STOP_RETRY: Duration = Duration::from_millis(250);

/// How long threads may take to end once there is nothing more to do.
const THREADS_END_TIMEOUT: Duration = Duration::from_secs(10);

/// The same after a failure: the disk may hang.
const THREADS_FAILED_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the metrics of what is stored are renewed.
const USAGE_INTERVAL: Duration = Duration::from_secs(10);

/// The log's threads and what they report. Dropped in this order: the writer's thread has the lock of the folder, so it is
/// the last to end.
#[derive(Debug)]
pub(crate) struct LogThreads {
    jobs: JobThreads,
    /// Only held: what it has to say comes through the reports.
    _keeper: SpaceKeeper,
    writer: WalWriter,
    pub(super) reader: ColdReader,
    pub(super) reports: LogReports,
    sync_timeout: Duration,
}

impl LogThreads {
    /// Puts the threads of an open log together, and starts those of jobs. If they end, the process does.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn begin(
        storage: &StorageSettings,
        reader: &ColdReader,
        (keeper, writer): (SpaceKeeper, WalWriter),
        reports: LogReports,
        trigger: &ShutdownTrigger,
    ) -> std::io::Result<Self> {
        let job_reports = reports.job_reports.clone();
        let jobs = JobThreads::spawn(
            reader.folder(),
            storage.compaction_bytes_per_second,
            Arc::clone(&reports.syncs),
            trigger,
            move |report| {
                // An engine that has ended hears nothing any more.
                let _ = job_reports.blocking_send(report);
            },
        )?;
        Ok(Self {
            jobs,
            _keeper: keeper,
            writer,
            reader: reader.clone(),
            reports,
            sync_timeout: Duration::from_millis(storage.sync_timeout_ms),
        })
    }

    /// Ends all threads, which takes as long as the disk takes for what they have in hand.
    pub(super) async fn end(self, end: End) {
        let at_most = match end {
            End::Failed => THREADS_FAILED_TIMEOUT,
            End::Idle => THREADS_END_TIMEOUT,
        };
        let ending = tokio::task::spawn_blocking(move || drop(self));
        if tokio::time::timeout(at_most, ending).await.is_err() {
            tracing::warn!("the disk does not finish what it was given; ending without it");
        }
    }
}

/// Where the engine stands with them.
#[derive(Debug)]
pub(super) struct Storage {
    sync: SyncWatch,
    /// WAL files that slots were given for, counted as [`SpaceReport::made`] does.
    files_given: u64,
    /// Bytes of slots, and of what jobs wrote, since the start.
    wal_bytes: u64,
    job_bytes: u64,
    usage_due: Instant,
    checkpointed: Option<Instant>,
    /// When the end comes, finished or not; set once nobody can reach the engine.
    stop_by: Option<Instant>,
}

impl Storage {
    pub(super) fn new(threads: &LogThreads) -> Self {
        let now = Instant::now();
        Self {
            sync: SyncWatch::new(threads.sync_timeout),
            files_given: threads.reports.space.borrow().made,
            wal_bytes: 0,
            job_bytes: 0,
            usage_due: now,
            checkpointed: None,
            stop_by: None,
        }
    }

    fn show(&self) {
        if let Some(at) = self.checkpointed {
            metrics::checkpoint_age(at.elapsed());
        }
        if self.wal_bytes > 0 {
            let written = (self.wal_bytes + self.job_bytes) as f64;
            metrics::write_amplification(written / self.wal_bytes as f64);
        }
    }

    /// When there is something to do although nothing happens.
    pub(super) fn deadline(&self) -> Instant {
        // The end waits for a sync that goes on, however long that takes.
        let stop_by = self.stop_by.filter(|_| !self.sync.is_syncing());
        let stop_by = stop_by.map(|by| by.min(Instant::now() + STOP_RETRY));
        let others = [self.sync.deadline(), stop_by];
        others.into_iter().flatten().fold(self.usage_due, Instant::min)
    }
}

impl Driver {
    pub(super) fn wal_event(&mut self, event: Option<WalEvent>) -> Result<(), EngineGone> {
        match event {
            Some(WalEvent::Durable(slot_no)) => {
                if self.storage.sync.end() {
                    tracing::warn!("the disk has finished the sync that was stuck");
                    metrics::sync_stuck(false);
                }
                self.engine.health.synced();
                // What was staged meanwhile goes to the disk first: it is not to idle while this slot is taken in and clients are
                // answered.
                self.engine.broker.slot_synced(slot_no);
                self.write_next()?;
                self.engine.broker.slot_durable(slot_no, &mut self.effects);
                Ok(())
            }
            Some(WalEvent::Failed(error)) => Err(self.fail("wal", error.to_string())),
            None => Err(self.fail("wal", "the writing thread has ended".to_owned())),
        }
    }

    pub(super) fn job_report(&mut self, report: JobReport) {
        metrics::job(&report);
        self.storage.job_bytes += report.traffic.written;
        match &report.done {
            // Long jobs are given up at the end.
            JobDone::Failed { lane, doing, error }
                if self.storage.stop_by.is_none() || *lane == Lane::Housekeeping =>
            {
                tracing::warn!("{doing} failed, it is tried again later: {error}");
            }
            JobDone::Checkpointed(_) => self.storage.checkpointed = Some(Instant::now()),
            JobDone::Compacted { .. }
            | JobDone::Failed { .. }
            | JobDone::Freed(_)
            | JobDone::Rewritten { .. }
            | JobDone::Sealed(_) => {}
        }
        let (clock, kind) = (self.engine.clock, report.kind);
        let broker = &mut self.engine.broker;
        let applied = broker.job_done(clock.mono(), clock.wall(), report.done, &mut self.effects);
        for damage in applied.damaged {
            self.engine.log.reader.report(&damage);
        }
        for key in applied.rejected {
            let (topic_no, partition) = (key.topic_no.0, key.partition.0);
            tracing::error!(
                topic_no,
                partition,
                kind,
                "the result of a job does not fit; nothing is lost"
            );
        }
    }

    /// Starts what the engine wants done beside it.
    pub(super) fn start_jobs(&mut self) {
        let clock = self.engine.clock;
        while let Some(job) = self.engine.broker.take_job(clock.mono(), clock.wall()) {
            if self.is_needed(&job) {
                self.engine.log.jobs.start(job);
            }
        }
    }

    /// Long jobs are not begun any more at the end. To the engine they run until then.
    fn is_needed(&self, job: &Job) -> bool {
        self.storage.stop_by.is_none() || job.lane() == Lane::Housekeeping
    }

    /// Hands the next slot to the disk.
    pub(super) fn write_next(&mut self) -> Result<(), EngineGone> {
        let Some(slot) = self.engine.broker.take_slot() else {
            return Ok(());
        };
        self.note_given(&slot);
        // A writer that has stopped reports why by its last event; this is only met if that was lost.
        match self.engine.log.writer.write(slot) {
            Ok(()) => Ok(()),
            Err(stopped) => Err(self.fail("wal", stopped.to_string())),
        }
    }

    fn note_given(&mut self, slot: &SlotToWrite) {
        metrics::writing(slot.bytes.len());
        self.storage.wal_bytes += slot.bytes.len() as u64;
        self.storage.sync.begin(Instant::now());
        self.engine.health.syncing(self.engine.clock.mono());
        if slot.new_file.is_some() {
            self.storage.files_given += 1;
            self.tell_room();
        }
    }

    /// There is news of the disk; or nobody keeps space any more, and when the disk fills up nobody would say so.
    pub(super) fn space_event(&mut self, is_kept: bool) -> Result<(), EngineGone> {
        if !is_kept {
            return Err(self.fail("disk space", "the thread that keeps it has ended".to_owned()));
        }
        self.tell_room();
        Ok(())
    }

    /// Tells the engine how much space there is.
    pub(super) fn tell_room(&mut self) {
        let report = *self.engine.log.reports.space.borrow_and_update();
        let space = DiskSpace { total_bytes: report.disk.total, usable_bytes: report.disk.free };
        self.engine.broker.set_room(room(&report, self.storage.files_given), space);
    }

    /// Does what time asks for.
    pub(super) fn storage_deadlines(&mut self) -> Result<(), EngineGone> {
        let now = Instant::now();
        match self.storage.sync.check(now) {
            Verdict::Fine => {}
            Verdict::Stuck => {
                tracing::error!("the disk has not finished a sync for 10 s");
                metrics::sync_stuck(true);
            }
            Verdict::GiveUp => return Err(self.give_up()),
        }
        if self.storage.usage_due <= now {
            self.storage.usage_due = now + USAGE_INTERVAL;
            metrics::log_usage(&self.engine.broker.log_usage());
            self.storage.show();
        }
        Ok(())
    }

    fn give_up(&self) -> EngineGone {
        let ms = self.storage.sync.timeout().as_millis();
        let detail = format!(
            "the disk has not finished a sync for {ms} ms (sync_timeout_ms) and is given up. What was not acknowledged \
             may or may not be on it. See what the kernel says of the disk, then start again"
        );
        self.fail("wal", detail)
    }

    /// Nobody can reach the engine any more: whether everything is done that is worth waiting for.
    pub(super) fn is_finished(&mut self) -> bool {
        let now = Instant::now();
        let Some(by) = self.storage.stop_by else {
            self.storage.stop_by = Some(now + STOP_TIMEOUT);
            self.engine.log.jobs.hurry();
            self.engine.broker.stop();
            // What this asks for is begun in the next turn, which comes at once.
            self.storage.usage_due = now;
            return false;
        };
        if self.storage.sync.is_syncing() {
            return false;
        }
        if self.engine.broker.is_settled() {
            return true;
        }
        if now >= by {
            tracing::warn!("the last checkpoint takes too long; the next start replays more");
        }
        now >= by
    }

    pub(super) fn fail(&self, component: &'static str, detail: String) -> EngineGone {
        self.engine.trigger.fatal(FatalError { component, detail });
        EngineGone
    }
}

/// What a report means once slots for `files_given` files were given to the disk: what it does not know of yet is not there
/// any more.
fn room(report: &SpaceReport, files_given: u64) -> Room {
    let not_known = files_given.saturating_sub(report.made);
    let ready_files = usize::try_from(report.files.saturating_sub(not_known));
    Room {
        ready_files: ready_files.unwrap_or(usize::MAX),
        below_floor: report.below_floor,
        free_bytes: report.disk.free,
        spare_bytes: report.spare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_folder;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_a_sync_without_asking_all_the_time() {
        let (now, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut storage = Storage {
            sync: SyncWatch::new(hour),
            files_given: 0,
            wal_bytes: 0,
            job_bytes: 0,
            usage_due: now + hour,
            checkpointed: None,
            stop_by: None,
        };
        assert_eq!(storage.deadline(), now + hour);
        storage.stop_by = Some(now + STOP_TIMEOUT);
        assert_eq!(storage.deadline(), now + STOP_RETRY);
        storage.stop_by = Some(now);
        assert_eq!(storage.deadline(), now);
        storage.sync.begin(now);
        assert!(storage.deadline() >= now + STOP_TIMEOUT, "the sync's own deadline counts");
    }

    #[test]
    fn files_that_a_report_does_not_know_of_are_not_there_any_more() {
        for (made, files, given, expected) in
            [(1, 5, 1, 5), (1, 5, 2, 4), (1, 1, 5, 0), (3, 5, 2, 5), (0, 64, 0, 64)]
        {
            let disk = log_folder::DiskSpace { total: 90, free: 40 };
            let report = SpaceReport { made, spare: 30, files, below_floor: true, disk };
            let (free_bytes, spare_bytes) = (40, 30);
            let expected =
                Room { ready_files: expected, below_floor: true, free_bytes, spare_bytes };
            assert_eq!(room(&report, given), expected, "{made} {files} {given}");
        }
    }
}
