//! The threads that do the engine's jobs, one for each lane.
//!
//! Short jobs, which others wait for, go as fast as the disk allows. Long ones are paced so that commits do not suffer. A
//! thread that panics ends the process: the engine would wait for its job for ever.

mod pacing;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use broker_core::KafkaRecords;
use broker_log::{Job, JobDone, Lane, Pace};
use process::ShutdownTrigger;

use crate::log_folder::{LogFolder, Traffic};
use crate::sync_latency::SyncLatency;
use pacing::{Pacer, Stop, Unpaced};

/// What jobs add to their threads' nice value: where processors are short they get a third of what commits get.
const NICENESS: i32 = 5;

/// How a job went.
#[derive(Debug)]
pub struct JobReport {
    /// What the engine is to be told.
    pub done: JobDone,
    /// What it was, as metrics call it.
    pub kind: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What it read and wrote.
    pub traffic: Traffic,
}

/// Where jobs go.
#[derive(Debug)]
pub struct JobThreads {
    housekeeping: Worker,
    compaction: Worker,
    stop: Stop,
}

impl JobThreads {
    /// `compaction_bytes_per_second` is what long jobs may write at most; less while `syncs` take longer than usual. `on_report`
    /// is called on the threads. If one of them ends early, `trigger` hears of it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn spawn(
        folder: &LogFolder,
        compaction_bytes_per_second: u64,
        syncs: Arc<SyncLatency>,
        trigger: &ShutdownTrigger,
        on_report: impl FnMut(JobReport) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let pacer = Pacer::new(compaction_bytes_per_second, syncs, stop.clone());
        let spawn = |name, pace, on_report| Worker::spawn(name, folder, pace, trigger, on_report);
        Ok(Self {
            housekeeping: spawn("housekeeping", Box::new(Unpaced), Box::new(on_report.clone()))?,
            compaction: spawn("compaction", Box::new(pacer), Box::new(on_report))?,
            stop,
        })
    }

    /// Has `job` done. Does not block while the engine keeps to one job in each lane.
    pub fn start(&self, job: Job) {
        let worker = match job.lane() {
            Lane::Compaction => &self.compaction,
            Lane::Housekeeping => &self.housekeeping,
        };
        if let Some(jobs) = &worker.jobs {
            // A thread that has ended has ended the process.
            let _ = jobs.send(job);
        }
    }

    /// Long jobs are to be given up.
    pub(crate) fn hurry(&self) {
        self.stop.now();
    }
}

impl Drop for JobThreads {
    /// Waits for the jobs in hand; long ones are given up.
    fn drop(&mut self) {
        self.stop.now();
    }
}

type OnReport = Box<dyn FnMut(JobReport) + Send>;

#[derive(Debug)]
struct Worker {
    /// `None` once this is dropped. Bounded by one, because the engine has one job in each lane.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn spawn(
        name: &'static str,
        folder: &LogFolder,
        pace: Box<dyn Pace + Send>,
        trigger: &ShutdownTrigger,
        on_report: OnReport,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(1);
        let (folder, vital) = (folder.clone(), trigger.vital(name));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _vital = vital;
            yield_to_commits();
            work(&queue, &folder, pace, on_report);
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

/// Lowers the calling thread's priority: a commit that is ready to go on must not wait until a job's share of the processor is
/// used up, which is 3 ms and more.
fn yield_to_commits() {
    // Elsewhere this would be the whole process.
    if cfg!(target_os = "linux") {
        // Without it jobs go on as fast as commits do.
        let _ = rustix::process::nice(NICENESS);
    }
}

fn work(
    jobs: &Receiver<Job>,
    folder: &LogFolder,
    mut pace: Box<dyn Pace + Send>,
    mut on_report: OnReport,
) {
    for job in jobs {
        // Whoever asked for it has other things to do.
        thread::yield_now();
        let kind = kind(&job);
        let begun = Instant::now();
        let mut store = folder.with_own_traffic();
        let done = job.run(&mut store, pace.as_mut(), &KafkaRecords);
        on_report(JobReport { done, kind, took: begun.elapsed(), traffic: store.traffic() });
    }
}

fn kind(job: &Job) -> &'static str {
    match job {
        Job::Checkpoint(_) => "checkpoint",
        Job::Compact(_) => "compact",
        Job::Free(_) => "free",
        Job::Rewrite(_) => "rewrite",
        Job::Seal(_) => "seal",
    }
}

#[cfg(test)]
mod tests;
