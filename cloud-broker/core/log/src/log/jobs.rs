//! What is to be done beside the engine, and what becomes of it.

use std::collections::BTreeMap;

use wire::time::MonoMs;

use super::checkpoint::Checkpoints;
use super::compact::Compaction;
use super::rewrite::{Planning, Rewriting};
use super::seal::{Collecting, TakingIn};
use super::{Log, Now};
use crate::ids::{FileNo, PartitionKey, UnitId};
use crate::job::{Damage, FreeJob, Job, JobDone, Lane, SealJob};
use crate::store::CheckpointId;

/// Units that one job gives back.
const UNITS_PER_FREE_MAX: usize = 256;

/// After a job has failed, its lane rests this long; twice as long each time it fails again.
const RETRY_MS_MIN: u64 = 250;

/// A lane rests no longer than this.
const RETRY_MS_MAX: u64 = 30_000;

/// A partition that could not be compacted, most likely because it is damaged, is left alone this long.
const UNABLE_MS: u64 = 600_000;

/// Numbers of units that a compaction may use up before it fails.
const NUMBERS_PER_COMPACTION: u64 = 1 << 16;

/// A step deals with so many entries for each run of the last slot, which takes about as long as the run took.
const ENTRIES_PER_RUN: usize = 1;

/// The same while files wait to be sealed: more of them must not come than go.
const ENTRIES_PER_RUN_BEHIND: usize = 3;

/// The file at hand and the one that is being sealed.
const FILES_USUAL: usize = 2;

/// What a job's end has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// This checkpoint is durable, and so is all that was deleted before it was made: release what was parked on it or on
    /// one before it.
    pub checkpoint: Option<CheckpointId>,
    /// Damage that the job came across: tell the operator.
    pub damaged: Vec<Damage>,
    /// Partitions for which the job's result was not taken, because it does not fit what they hold. Nothing is lost, but the
    /// program is wrong.
    pub rejected: Vec<PartitionKey>,
}

/// What runs, and what decides about the next.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    pub(super) housekeeping: LaneState<Housekeeping>,
    pub(super) compaction: LaneState<Compacting>,
    pub(super) checkpoints: Checkpoints,
    /// Something has changed since it was last found that there is nothing to rewrite.
    pub(super) may_rewrite: bool,
    /// The same for giving space back.
    pub(super) may_free: bool,
    /// The oldest file could not be sealed: it is tried again when nothing else is to be done.
    pub(super) seal_failed: bool,
    /// What the lane of long jobs did last was to rewrite, so that compaction comes next: neither waits for the other to have
    /// nothing left to do.
    has_rewritten: bool,
    /// The runs of the oldest file, before it is sealed.
    pub(super) collecting: Option<Collecting>,
    /// A file that was sealed. Its lane is taken until all partitions know.
    pub(super) taking_in: Option<TakingIn>,
    pub(super) compaction_tick: Compaction,
    /// Partitions that could not be compacted, and until when they are left alone.
    pub(super) unable: BTreeMap<PartitionKey, MonoMs>,
}

#[derive(Debug)]
pub(super) struct LaneState<T> {
    pub(super) running: Option<T>,
    rests_until: MonoMs,
    failures: u32,
}

impl<T> Default for LaneState<T> {
    fn default() -> Self {
        Self { running: None, rests_until: MonoMs(0), failures: 0 }
    }
}

impl<T> LaneState<T> {
    fn is_free(&self, now: Now) -> bool {
        self.running.is_none() && self.rests_until <= now.mono
    }

    fn failed(&mut self, now: Now) {
        let rest = RETRY_MS_MIN.saturating_mul(1 << self.failures.min(16)).min(RETRY_MS_MAX);
        self.rests_until = now.mono + rest;
        self.failures = self.failures.saturating_add(1);
        self.running = None;
    }

    pub(super) fn succeeded(&mut self) -> Option<T> {
        self.failures = 0;
        self.running.take()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Housekeeping {
    Checkpoint,
    Free,
    Seal(FileNo),
}

#[derive(Debug)]
pub(super) enum Compacting {
    Compact(Compacted),
    Plan(Planning),
    Rewrite(Rewriting),
}

/// What a compaction that runs reads.
#[derive(Debug)]
pub(super) struct Compacted {
    key: PartitionKey,
    units: Vec<UnitId>,
}

impl Jobs {
    pub(super) fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, may_rewrite: true, may_free: true, ..Self::default() }
    }

    /// Whether something goes on in steps: call for the next one soon.
    pub(super) fn goes_on(&self) -> bool {
        let collects = self.collecting.as_ref().is_some_and(|collecting| !collecting.is_whole());
        let plans = match &self.compaction.running {
            Some(Compacting::Plan(planning)) => !planning.is_whole(),
            Some(Compacting::Compact(_) | Compacting::Rewrite(_)) | None => false,
        };
        collects || plans || self.taking_in.is_some() || self.checkpoints.is_building()
    }

    /// Whether files get their footers, as far as is known.
    pub(super) fn can_seal(&self) -> bool {
        !self.seal_failed
    }

    /// Something was deleted: there may be something to do.
    pub(super) fn look_again(&mut self) {
        self.may_rewrite = true;
        self.may_free = true;
    }
}

impl Log {
    /// The next job to run; `None` while one runs in each lane that has something to do. Give its result to
    /// [`Log::job_done`].
    ///
    /// Ask again whenever something has happened: a slot is durable, a job is done, [`Log::maintain`] was called.
    pub fn take_job(&mut self, now: Now) -> Option<Job> {
        // Nothing is touched before this life has its OPEN: it might still turn out to be no life at all.
        self.durable_through?;
        self.build_checkpoint_if_durable();
        self.go_on();
        self.begin_checkpoint_if_due(now);
        if self.jobs.housekeeping.is_free(now) {
            let planned = self.plan_housekeeping().or_else(|| {
                // A checkpoint that waited for a file to be sealed may go ahead: files without records were just dropped.
                self.begin_checkpoint_if_due(now);
                self.plan_housekeeping()
            });
            if let Some((running, job)) = planned {
                self.jobs.housekeeping.running = Some(running);
                return Some(job);
            }
        }
        if let Some(job) = self.take_planned() {
            return Some(Job::Rewrite(job));
        }
        // What is being taken in is neither one thing nor the other.
        if !self.jobs.compaction.is_free(now) || self.jobs.taking_in.is_some() {
            return None;
        }
        if self.jobs.has_rewritten {
            self.begin_compaction(now).or_else(|| self.begin_rewrite(now))
        } else {
            let job = self.begin_rewrite(now);
            // Its lane may be taken although nothing is to be done yet.
            if self.jobs.compaction.is_free(now) { self.begin_compaction(now) } else { job }
        }
    }

    /// Does one step of whatever takes several.
    pub(super) fn go_on(&mut self) {
        self.go_on_taking_in(self.step_entries());
        self.go_on_collecting();
        self.go_on_building();
        self.go_on_planning();
    }

    /// How much a step deals with, in entries: where slots have many runs about as much as they do, so that a commit waits for a
    /// step about as long as for the commit before it.
    pub(super) fn step_entries(&self) -> usize {
        let is_behind = self.catalog.files.len() > FILES_USUAL;
        let per_run = if is_behind { ENTRIES_PER_RUN_BEHIND } else { ENTRIES_PER_RUN };
        self.settings.step_entries.max(per_run * self.last_slot.runs)
    }

    fn begin_rewrite(&mut self, now: Now) -> Option<Job> {
        let planning = self.plan_rewrite(now)?;
        self.jobs.compaction.running = Some(Compacting::Plan(planning));
        self.jobs.has_rewritten = true;
        self.go_on_planning();
        self.take_planned().map(Job::Rewrite)
    }

    fn begin_compaction(&mut self, now: Now) -> Option<Job> {
        let job = self.plan_compaction(now)?;
        let units: Vec<UnitId> = job.extents.iter().map(|(e, _)| e.unit).collect();
        self.catalog.set_busy(&units, true);
        let compacted = Compacted { key: job.key, units };
        self.jobs.compaction.running = Some(Compacting::Compact(compacted));
        self.jobs.has_rewritten = false;
        Some(Job::Compact(job))
    }

    /// A job has ended.
    pub fn job_done(&mut self, now: Now, done: JobDone) -> Applied {
        match done {
            JobDone::Sealed(made) => {
                self.sealed(made);
                Applied::default()
            }
            JobDone::Checkpointed(id) => {
                self.jobs.housekeeping.succeeded();
                self.jobs.may_free = true;
                self.checkpointed(now, id);
                Applied { checkpoint: Some(id), ..Applied::default() }
            }
            JobDone::Freed(units) => {
                self.jobs.housekeeping.succeeded();
                self.catalog.freed(&units);
                // Those that could not be given back.
                self.catalog.not_freed();
                Applied::default()
            }
            JobDone::Rewritten { inputs, made, damaged } => {
                let running = self.jobs.compaction.succeeded();
                let Some(Compacting::Rewrite(rewriting)) = running else {
                    return Applied::default();
                };
                self.rewritten(now, &rewriting, &inputs, &made, damaged)
            }
            JobDone::Compacted { key, inputs, made, cleaned, next_horizon, damaged } => {
                let Some(Compacting::Compact(running)) = self.jobs.compaction.succeeded() else {
                    return Applied::default();
                };
                let rejected = self.compacted(key, &inputs, &made, (cleaned, next_horizon));
                self.catalog.set_busy(&running.units, false);
                if rejected.is_empty() {
                    self.jobs.unable.remove(&key);
                } else {
                    self.jobs.unable.insert(key, now.mono + UNABLE_MS);
                }
                self.jobs.look_again();
                Applied { damaged, rejected, checkpoint: None }
            }
            JobDone::Failed { lane, .. } => {
                self.job_failed(now, lane);
                Applied::default()
            }
        }
    }

    fn job_failed(&mut self, now: Now, lane: Lane) {
        match lane {
            Lane::Housekeeping => {
                match self.jobs.housekeeping.running {
                    Some(Housekeeping::Checkpoint) => self.jobs.checkpoints.failed(),
                    Some(Housekeeping::Free) => {
                        self.catalog.not_freed();
                        self.jobs.may_free = true;
                    }
                    Some(Housekeeping::Seal(_)) => self.jobs.seal_failed = true,
                    None => {}
                }
                self.jobs.housekeeping.failed(now);
            }
            Lane::Compaction => {
                match self.jobs.compaction.running.take() {
                    Some(Compacting::Compact(compacted)) => {
                        self.catalog.set_busy(&compacted.units, false);
                        self.catalog.skip_unit_numbers(NUMBERS_PER_COMPACTION);
                        self.jobs.unable.insert(compacted.key, now.mono + UNABLE_MS);
                    }
                    Some(Compacting::Rewrite(rewriting)) => {
                        self.catalog.set_busy(&rewriting.units, false);
                        self.catalog.skip_unit_numbers(rewriting.numbers_max);
                        self.jobs.may_rewrite = true;
                    }
                    // No job runs while one is planned.
                    Some(planning @ Compacting::Plan(_)) => {
                        self.jobs.compaction.running = Some(planning);
                        return;
                    }
                    None => {}
                }
                self.jobs.compaction.failed(now);
            }
        }
    }

    /// A file that cannot be sealed is the last to be looked at: checkpoints and space must not wait for it for ever.
    fn plan_housekeeping(&mut self) -> Option<(Housekeeping, Job)> {
        let seal = |job: SealJob| (Housekeeping::Seal(job.file_no), Job::Seal(job));
        if self.jobs.can_seal()
            && let Some(job) = self.plan_seal()
        {
            return Some(seal(job));
        }
        if let Some(job) = self.jobs.checkpoints.take_built() {
            return Some((Housekeeping::Checkpoint, Job::Checkpoint(job)));
        }
        if let Some(job) = self.plan_free() {
            return Some((Housekeeping::Free, Job::Free(job)));
        }
        if self.jobs.can_seal() { None } else { self.plan_seal().map(seal) }
    }

    fn plan_free(&mut self) -> Option<FreeJob> {
        // A reader that lets go of a unit says nothing: maintenance looks again.
        if !std::mem::take(&mut self.jobs.may_free) {
            return None;
        }
        let kept = self.jobs.checkpoints.kept()?;
        let units = self.catalog.take_freeable(&kept, UNITS_PER_FREE_MAX);
        self.jobs.may_free = !units.is_empty();
        self.jobs.may_free.then_some(FreeJob { units })
    }
}
