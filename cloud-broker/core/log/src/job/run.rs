//! Running a job against a store.

use std::fmt::Display;

use super::{Job, JobDone, checkpoint, compact, free, rewrite, seal};
use crate::compaction::RecordRewriter;
use crate::store::{CheckpointStore, UnitStore};

/// Whether a long job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proceed {
    /// It does.
    Go,
    /// The process is about to end: give up.
    Stop,
}

/// Holds jobs back, so that commits do not suffer from them.
pub trait Pace {
    /// `bytes` were written, or are about to be. Returns when more may be.
    fn wrote(&mut self, bytes: usize) -> Proceed;

    /// `bytes` were read, and nothing was written since the last call: what a job does that looks at much before it writes.
    fn read(&mut self, _bytes: usize) -> Proceed {
        self.wrote(0)
    }

    /// A moment at which others may have the processor: commits that are ready to go on come first.
    fn breathe(&mut self) {}
}

impl Job {
    /// Runs the job, and returns when it is done or has failed.
    pub fn run<S, E>(
        self,
        store: &mut S,
        pace: &mut dyn Pace,
        records: &dyn RecordRewriter,
    ) -> JobDone
    where
        S: UnitStore<Error = E> + CheckpointStore<Error = E>,
        E: Display,
    {
        match self {
            Self::Seal(job) => seal::run(&job, store, pace),
            Self::Checkpoint(job) => checkpoint::run(job, store, pace),
            Self::Free(job) => free::run(job, store),
            Self::Rewrite(job) => rewrite::run(job, store, pace),
            Self::Compact(job) => compact::run(&job, store, pace, records),
        }
    }
}
