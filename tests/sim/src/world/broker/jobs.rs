//! What the broker's shell does beside events: jobs on threads of their own, space on the disk, deadlines.

use std::collections::VecDeque;

use broker_core::{Broker, DiskSpace, Image, KafkaRecords};
use broker_log::sim_disk::Death;
use broker_log::{Job, JobDone, Pace, Proceed, Room};

use super::{BrokerHost, Crash};
use crate::event::{BrokerStep, Event};
use crate::read_log::read_log;
use crate::world::World;

/// How often deadlines are looked at.
const TICK_MS: u64 = 500;

/// WAL files that are kept ready.
const READY_FILES: usize = 2;

/// Of 100 jobs, how many the process dies in.
const JOBS_THAT_DIE: u64 = 3;

/// Calls to the disk within which it does.
const CALLS_OF_A_JOB: usize = 12;

/// Jobs of a life.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    waiting: VecDeque<Job>,
    done: VecDeque<JobDone>,
}

/// Time is what the schedule makes of it.
struct AtOnce;

impl Pace for AtOnce {
    fn wrote(&mut self, _: usize) -> Proceed {
        Proceed::Go
    }
}

impl World<'_> {
    pub(super) fn tick_later(&mut self) {
        let tick = Event::Broker(self.broker.life, BrokerStep::Tick);
        self.schedule.after(TICK_MS, tick);
    }

    /// Deadlines, among them retention: what it drops was seen before.
    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.tick_later();
        let now = self.schedule.now();
        let host = &mut self.broker;
        let Some(broker) = &mut host.running else {
            return Ok(());
        };
        let mono = host.clock.mono(now);
        if host.keeps_bytes.is_some() && broker.next_deadline().is_some_and(|due| due <= mono) {
            let image = Image::load(host.control.0, &host.control.1);
            let image = image.map_err(|error| format!("the metadata is damaged: {error}"))?;
            let found = read_log(broker.log(), &mut host.disk, &image)?;
            self.oracle.look(found.entries, &found.starts)?;
        }
        let ready_files = host.disk.prepare(READY_FILES, host.settings.wal_file_bytes);
        let ready_files = ready_files.map_err(|error| error.to_string())?;
        let space = DiskSpace { total_bytes: u64::MAX, usable_bytes: u64::MAX };
        broker.set_room(Room { ready_files, below_floor: false, ..Room::ENDLESS }, space);
        let mut effects = Vec::new();
        broker.handle_deadlines(mono, host.clock.wall(now), &mut effects);
        self.carry_out(effects)
    }

    pub(super) fn take_jobs(&mut self) {
        let now = self.schedule.now();
        let BrokerHost { running: Some(broker), clock, jobs, life, .. } = &mut self.broker else {
            return;
        };
        while let Some(job) = broker.take_job(clock.mono(now), clock.wall(now)) {
            self.trace.line(now, format_args!("broker takes a job of lane {:?}", job.lane()));
            jobs.waiting.push_back(job);
            let run = Event::Broker(*life, BrokerStep::RunJob);
            self.schedule.after(self.rng.jobs.below(400), run);
        }
    }

    /// Asks the broker to end in order.
    pub(in crate::world) fn stop_broker(&mut self) {
        if let Some(broker) = &mut self.broker.running {
            broker.stop();
            self.broker.stops = true;
        }
    }

    /// A broker that was asked to end does so when everything is durable: then even a loss of power takes nothing.
    pub(super) fn end_broker_if_settled(&mut self) {
        let host = &self.broker;
        let is_settled = host.running.as_ref().is_some_and(Broker::is_settled);
        if host.stops && is_settled && host.slot.is_none() && host.control_write.is_none() {
            self.crash_and_restart_broker(Crash::Power);
        }
    }

    pub(super) fn run_job(&mut self) {
        let Some(job) = self.broker.jobs.waiting.pop_front() else {
            return;
        };
        let dies = !self.healed && self.rng.jobs.chance(JOBS_THAT_DIE);
        if dies {
            self.broker.disk.die_after(self.rng.jobs.place(CALLS_OF_A_JOB), Death::Killed);
        }
        let done = job.run(&mut self.broker.disk, &mut AtOnce, &KafkaRecords);
        if self.broker.disk.is_dead() {
            let crash = if self.rng.jobs.chance(50) { Crash::Killed } else { Crash::Power };
            self.crash_and_restart_broker(crash);
            return;
        }
        self.broker.disk.heal();
        self.broker.jobs.done.push_back(done);
        let done = Event::Broker(self.broker.life, BrokerStep::JobDone);
        self.schedule.after(self.rng.jobs.below(100), done);
    }

    pub(super) fn job_done(&mut self) -> Result<(), String> {
        let now = self.schedule.now();
        let host = &mut self.broker;
        let (Some(done), Some(broker)) = (host.jobs.done.pop_front(), &mut host.running) else {
            return Ok(());
        };
        if let JobDone::Failed { doing, error, .. } = &done {
            return Err(format!("a job fails on a good disk, {doing}: {error}"));
        }
        let mut effects = Vec::new();
        let (mono, wall) = (host.clock.mono(now), host.clock.wall(now));
        let applied = broker.job_done(mono, wall, done, &mut effects);
        self.trace.line(now, format_args!("broker has done a job"));
        if let Some(damage) = applied.damaged.first() {
            return Err(format!("a job comes upon damage that nobody did: {damage}"));
        }
        if let Some(key) = applied.rejected.first() {
            return Err(format!("the result of a job does not fit {key:?}"));
        }
        self.carry_out(effects)
    }
}
