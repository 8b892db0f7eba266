//! What the log needs beside events: jobs, room, policies, an orderly end.

use std::sync::Arc;

use broker_log::{Applied, Job, JobDone, Log, LogUsage, Now as LogNow, Room, TopicNo};
use wire::time::{MonoMs, UnixMs};

use super::Broker;
use crate::event::Effect;
use crate::keyed_topics::KeyedTopics;
use crate::metadata::Topic;

/// The file system of the log, as its administrators see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What the broker may still use of it, in bytes.
    pub usable_bytes: u64,
}

impl Broker {
    /// The next job to run beside the engine, on a thread of its lane; give its result to [`Broker::job_done`]. Ask until
    /// there is none, after each round of events.
    pub fn take_job(&mut self, mono: MonoMs, wall: UnixMs) -> Option<Job> {
        self.log.take_job(LogNow { mono, wall })
    }

    /// A job has ended. An operator should hear of the damage that it came across, and of what was rejected.
    pub fn job_done(
        &mut self,
        mono: MonoMs,
        wall: UnixMs,
        done: JobDone,
        out: &mut Vec<Effect>,
    ) -> Applied {
        let applied = self.log.job_done(LogNow { mono, wall }, done);
        if let Some(id) = applied.checkpoint {
            self.checkpoint_durable(id, out);
        }
        applied
    }

    /// Takes in how much space there is, whenever that has changed. Until the first time, space has no end.
    pub fn set_room(&mut self, room: Room, space: DiskSpace) {
        self.log.set_room(room);
        self.disk_space = Some(space);
    }

    /// The process is about to end: asks for a last checkpoint. Go on until [`Broker::is_settled`].
    pub fn stop(&mut self) {
        self.log.request_checkpoint();
    }

    /// Whether everything is durable, and in a checkpoint if one was asked for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.log.is_settled()
    }

    /// The log, to look at: a simulator reads it as no client can.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What the log consists of. Looks at every partition: for metrics, now and then.
    #[must_use]
    pub fn log_usage(&self) -> LogUsage {
        self.log.usage()
    }

    /// The topics whose records need keys: what connections check batches by. Another `Arc` once it has changed.
    #[must_use]
    pub fn keyed_topics(&self) -> &Arc<KeyedTopics> {
        &self.keyed_topics
    }

    /// Does what time asks of the log.
    pub(super) fn maintain(&mut self, mono: MonoMs, wall: UnixMs) {
        if self.log.next_maintenance().is_some_and(|at| at <= mono) {
            self.log.maintain(LogNow { mono, wall });
        }
    }

    /// Says to the log how long a topic's records are kept.
    pub(super) fn apply_policy(&mut self, topic: &Topic) {
        let policy = topic.configs.policy(&self.settings.retention);
        self.log.set_policy(TopicNo(topic.no), policy);
    }
}
