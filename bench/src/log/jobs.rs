//! The threads that do the engine's jobs, as the broker's do, but never paced.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use broker_core::KafkaRecords;
use broker_log::{Job, JobDone, Lane, Pace, Proceed};
use cloud_broker::log_folder::LogFolder;

/// One job in each lane.
const JOBS: usize = 2;

/// A thread for each lane.
#[derive(Debug)]
pub struct Jobs {
    housekeeping: Option<SyncSender<Job>>,
    compaction: Option<SyncSender<Job>>,
    done: Receiver<JobDone>,
    threads: Vec<JoinHandle<()>>,
}

impl Jobs {
    /// Starts the threads.
    pub fn spawn(folder: &LogFolder) -> Self {
        let (answers, done) = sync_channel(JOBS);
        let mut threads = Vec::new();
        let mut lane = || {
            let (jobs, requests) = sync_channel::<Job>(1);
            let (mut folder, answers) = (folder.clone(), answers.clone());
            threads.push(thread::spawn(move || {
                for job in requests {
                    let done = job.run(&mut folder, &mut Unpaced, &KafkaRecords);
                    if answers.send(done).is_err() {
                        return;
                    }
                }
            }));
            Some(jobs)
        };
        Self { housekeeping: lane(), compaction: lane(), done, threads }
    }

    /// Has `job` done.
    pub fn start(&self, job: Job) {
        let lane = match job.lane() {
            Lane::Compaction => &self.compaction,
            Lane::Housekeeping => &self.housekeeping,
        };
        if let Some(lane) = lane {
            // A thread that has ended has said why.
            let _ = lane.send(job);
        }
    }

    /// A job that has ended.
    pub fn finished(&self) -> Option<JobDone> {
        self.done.try_recv().ok()
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.housekeeping = None;
        self.compaction = None;
        for thread in self.threads.drain(..) {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

struct Unpaced;

impl Pace for Unpaced {
    fn wrote(&mut self, _bytes: usize) -> Proceed {
        Proceed::Go
    }
}
