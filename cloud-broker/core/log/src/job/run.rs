//! Running a job against a store.

use std::fmt::Display;

use super::{Job, JobDone, checkpoint, free, rewrite, seal};
use crate::store::{CheckpointStore, UnitStore};

/// Whether a long job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proceed {
    /// It does.
    Go,
    /// The process is about to end: give up.
    Stop,
}

/// Holds long jobs back, so that commits do not suffer from them.
pub trait Pace {
    /// `bytes` were written and synced. Returns when more may be.
    fn wrote(&mut self, bytes: usize) -> Proceed;
}

impl Job {
    /// Runs the job, and returns when it is done or has failed.
    pub fn run<S, E>(self, store: &mut S, pace: &mut dyn Pace) -> JobDone
    where
        S: UnitStore<Error = E> + CheckpointStore<Error = E>,
        E: Display,
    {
        match self {
            Self::Seal(job) => seal::run(job, store),
            Self::Checkpoint(job) => checkpoint::run(job, store),
            Self::Free(job) => free::run(job, store),
            Self::Rewrite(job) => rewrite::run(&job, store, pace),
            Self::Compact(_) => JobDone::Failed {
                lane: super::Lane::Compaction,
                doing: "compacting",
                error: String::from("not there yet"),
            },
        }
    }
}
