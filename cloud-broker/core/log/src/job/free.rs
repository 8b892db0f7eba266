//! Giving units back.

use std::fmt::Display;

use super::{FreeJob, JobDone, Lane};
use crate::store::UnitStore;

/// Gives back what can be given back: one unit that cannot must not keep the space of all others.
pub(super) fn run<S: UnitStore>(job: FreeJob, store: &mut S) -> JobDone
where
    S::Error: Display,
{
    let mut failed = None;
    let mut freed = Vec::new();
    for unit in job.units {
        match store.free(unit) {
            Ok(()) => freed.push(unit),
            Err(error) => failed = Some(format!("{unit}: {error}")),
        }
    }
    match failed {
        Some(error) if freed.is_empty() => {
            JobDone::Failed { lane: Lane::Housekeeping, doing: "giving units back", error }
        }
        // What is left is tried again, and fails alone then.
        Some(_) | None => JobDone::Freed(freed),
    }
}
