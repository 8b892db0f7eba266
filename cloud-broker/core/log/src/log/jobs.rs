//! What is to be done beside the engine, and what becomes of it.

use super::{Log, Now};
use crate::job::{Damage, Job, JobDone, Lane};
use crate::store::CheckpointId;

/// What a job's end has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// This checkpoint is durable, and so is all that was deleted before it was made.
    pub checkpoint: Option<CheckpointId>,
    /// Damage that the job came across.
    pub damaged: Vec<Damage>,
}

/// Jobs that run, and what decides about the next.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    checkpoint_asked: bool,
}

impl Jobs {
    /// Something has changed that may ask for a job.
    pub(super) fn look_again(&mut self) {}

    pub(super) fn checkpoint_bytes(&self) -> u64 {
        0
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        0
    }
}

impl Log {
    /// The next job to run; `None` while one runs in each lane that has something to do. Give its result to
    /// [`Log::job_done`].
    pub fn take_job(&mut self, now: Now) -> Option<Job> {
        let _ = now;
        None
    }

    /// A job has ended.
    pub fn job_done(&mut self, now: Now, done: JobDone) -> Applied {
        let _ = now;
        match done {
            JobDone::Checkpointed(id) => Applied { checkpoint: Some(id), ..Applied::default() },
            JobDone::Rewritten { damaged, .. } | JobDone::Compacted { damaged, .. } => {
                Applied { damaged, ..Applied::default() }
            }
            JobDone::Sealed(_) | JobDone::Freed(_) | JobDone::Failed { .. } => Applied::default(),
        }
    }

    /// Asks for a checkpoint of everything that was appended, so that the next start replays nothing.
    pub fn request_checkpoint(&mut self) {
        self.jobs.checkpoint_asked = true;
    }

    /// Whether everything is durable, and in a checkpoint if one was asked for: the process may end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slot_for_answer().is_none() && !self.jobs.checkpoint_asked
    }
}

const _: () = assert!(Lane::Housekeeping as u8 != Lane::Compaction as u8);
