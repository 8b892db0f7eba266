//! Jobs of the engine: taken, run and given back at moments of their own.

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{DiskError, FileName, Trouble};
use broker_log::{Job, JobDone, Pace, Proceed};
use wire::time::MonoMs;

use super::World;

/// A job that was taken and not given back yet.
#[derive(Debug)]
pub(super) enum Taken {
    Ran(JobDone),
    Waits(Job),
}

/// Lets a job write so many times.
struct Steps(u64);

impl Pace for Steps {
    fn wrote(&mut self, _: usize) -> Proceed {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Proceed::Go
            }
            None => Proceed::Stop,
        }
    }
}

impl World {
    pub(super) fn take_job(&mut self) -> bool {
        let now = self.now();
        let Some(job) = self.log_mut().take_job(now) else {
            return false;
        };
        self.note(format_args!("takes {}", name_of(&job)));
        let lane = job.lane();
        let is_free = |taken: &Taken| match taken {
            Taken::Ran(done) => lane_of(done) != lane,
            Taken::Waits(job) => job.lane() != lane,
        };
        assert!(self.jobs.iter().all(is_free), "one job of each lane at a time");
        self.jobs.push(Taken::Waits(job));
        true
    }

    pub(super) fn run_job(
        &mut self,
        nth: u64,
        pace: u64,
        fails: Option<(usize, Trouble)>,
    ) -> Result<(), DiskError> {
        let waiting: Vec<usize> =
            (0..self.jobs.len()).filter(|at| matches!(self.jobs[*at], Taken::Waits(_))).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let at = waiting[(nth % waiting.len() as u64) as usize];
        let Taken::Waits(job) = self.jobs.remove(at) else {
            return Ok(());
        };
        let name = name_of(&job);
        if let Some((calls, trouble)) = fails {
            self.disk.fail_after(calls, trouble);
        }
        let done = job.run(&mut self.disk, &mut Steps(pace), &PlainRecords);
        self.disk.stop_failing();
        if self.disk.is_dead() {
            return Err(DiskError::Died);
        }
        if let JobDone::Failed { doing, error, .. } = &done {
            let failed = format!("{name} failed {doing}: {error}");
            self.note(format_args!("{failed}"));
            let may_fail = fails.is_some() || pace < u64::MAX || self.space_max.is_some();
            assert!(may_fail, "{failed}");
        } else {
            self.note(format_args!("{name} is done"));
        }
        self.jobs.push(Taken::Ran(done));
        Ok(())
    }

    pub(super) fn end_job(&mut self, nth: u64) {
        let ran: Vec<usize> =
            (0..self.jobs.len()).filter(|at| matches!(self.jobs[*at], Taken::Ran(_))).collect();
        if ran.is_empty() {
            return;
        }
        let at = ran[(nth % ran.len() as u64) as usize];
        let Taken::Ran(done) = self.jobs.remove(at) else {
            return;
        };
        let now = self.now();
        let applied = self.log_mut().job_done(now, done);
        assert_eq!(applied.rejected, [], "a job's result fits what the log holds");
        assert_eq!(applied.damaged, [], "nobody has damaged anything");
        if let Some(id) = applied.checkpoint {
            self.note(format_args!("checkpoint {}", id.n));
            let (answered, waiting) =
                self.deletions.drain(..).partition(|(after, ..)| *after <= id);
            self.deletions = waiting;
            let answered: Vec<_> = answered;
            for (_, key, log_start) in answered {
                if let Some(part) = self.book.parts.get_mut(&key) {
                    part.deleted = part.deleted.max(log_start);
                }
            }
        }
    }

    /// An orderly end: everything that was sent is durable, and in a checkpoint.
    ///
    /// # Errors
    /// If the process dies.
    pub fn stop(&mut self) -> Result<(), DiskError> {
        self.log_mut().request_checkpoint();
        // A lane in which something failed rests for a while.
        for _ in 0..100 {
            self.commit()?;
            self.pass(1_000);
            self.take_job();
            self.run_job(0, u64::MAX, None)?;
            self.end_job(0);
            if self.jobs.is_empty() && self.log().is_settled() {
                return Ok(());
            }
        }
        panic!("an orderly end comes to an end: {:?}", self.jobs);
    }

    /// Runs jobs until there is nothing to do; time goes by as far as it must.
    pub fn settle(&mut self) -> Result<(), DiskError> {
        let mut idle_rounds = 0;
        for round in 0.. {
            assert!(round < 500, "jobs come to an end");
            idle_rounds += 1;
            if self.commit()? {
                idle_rounds = 0;
            }
            self.pass(20_000);
            self.look_at_room()?;
            while self.take_job() || !self.jobs.is_empty() {
                idle_rounds = 0;
                self.run_job(0, u64::MAX, None)?;
                self.end_job(0);
            }
            if self.log().next_maintenance() == Some(MonoMs(0)) {
                idle_rounds = 0;
            }
            if idle_rounds == 3 {
                break;
            }
        }
        self.check_space();
        Ok(())
    }

    /// Every file on the disk is known, and nothing waits to be given back but what somebody reads.
    fn check_space(&mut self) {
        let usage = self.log().usage();
        let is_unit = |name: &FileName| matches!(name, FileName::Unit(_) | FileName::Wal(_));
        let names = self.disk.names();
        let files = names.iter().filter(|name| is_unit(name)).count();
        assert_eq!(files, usage.units + usage.wal_files + usage.dead_units, "{names:?}: {usage:?}");
        let is_draft =
            |name: &FileName| matches!(name, FileName::CheckpointDraft(_) | FileName::UnitDraft(_));
        assert!(!names.iter().any(is_draft), "{names:?}");
        let is_read = !self.held.is_empty();
        assert!(is_read || usage.dead_units < 3, "{usage:?}");
    }
}

fn name_of(job: &Job) -> String {
    match job {
        Job::Checkpoint(job) => format!("checkpoint {}", job.head.id.n),
        Job::Compact(job) => format!("compact {:?}", job.key),
        Job::Free(job) => format!("free {:?}", job.units),
        Job::Rewrite(job) => {
            let inputs: Vec<String> = job.inputs.iter().map(|unit| unit.id.to_string()).collect();
            format!("rewrite {} into unit {} and on", inputs.join(", "), job.first_unit)
        }
        Job::Seal(job) => format!("seal {}", job.file_no),
    }
}

fn lane_of(done: &JobDone) -> broker_log::Lane {
    match done {
        JobDone::Sealed(_) | JobDone::Checkpointed(_) | JobDone::Freed(_) => {
            broker_log::Lane::Housekeeping
        }
        JobDone::Compacted { .. } | JobDone::Rewritten { .. } => broker_log::Lane::Compaction,
        JobDone::Failed { lane, .. } => *lane,
    }
}
