//! Giving units back.

use std::fmt::Display;

use super::{FreeJob, JobDone, Lane};
use crate::store::UnitStore;

pub(super) fn run<S: UnitStore>(job: FreeJob, store: &mut S) -> JobDone
where
    S::Error: Display,
{
    for unit in &job.units {
        if let Err(error) = store.free(*unit) {
            return JobDone::Failed {
                lane: Lane::Housekeeping,
                doing: "giving units back",
                error: format!("{unit}: {error}"),
            };
        }
    }
    JobDone::Freed(job.units)
}
