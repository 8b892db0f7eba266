//! The engine: puts staging, partitions, streams, catalog, tail and the place in the WAL together.

mod append;
mod building;
mod checkpoint;
mod compact;
mod durable;
mod idempotent;
mod jobs;
mod lookup;
mod maintain;
mod place;
mod rewrite;
mod room;
mod seal;
mod usage;

use std::collections::BTreeMap;

use wire::ids::Incarnation;
use wire::offset::{LeaderEpoch, Offset};
use wire::time::{MonoMs, UnixMs};
use wire::uplink::StreamState;

pub use append::{AppendError, Appended, UplinkOutcome};
pub use durable::{Durable, Moved, SlotToWrite};
pub use idempotent::{IdempotentError, IdempotentOutcome};
pub use jobs::Applied;
pub use maintain::{DeleteRecordsError, RecordsDeleted};
pub use place::NewFile;
pub use room::Room;
pub use usage::LogUsage;

use crate::append_clock::AppendClock;
use crate::catalog::Catalog;
use crate::ids::{PartitionKey, SlotNo, TopicNo};
use crate::partition::{PartitionLog, PartitionOffsets};
use crate::policy::TopicPolicy;
use crate::producer::Producers;
use crate::recovery::Recovered;
use crate::retention::RetentionClock;
use crate::settings::{LogSettings, PARTITIONS_MAX};
use crate::slot::ControlBody;
use crate::staging::Staging;
use crate::tail::Tail;
use crate::uplink_stream::{UplinkStream, UplinkStreams};
use checkpoint::Checkpoints;
pub(crate) use checkpoint::{FoundCheckpoints, Stored};
use durable::{InFlight, LastSlot};
use jobs::Jobs;
use maintain::Maintenance;
use place::WritePlace;

/// What both clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For waiting.
    pub mono: MonoMs,
    /// For people, and for the age of records.
    pub wall: UnixMs,
}

/// The log holds [`PARTITIONS_MAX`] partitions: refuse to make another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log holds {PARTITIONS_MAX} partitions already")]
pub struct TooManyPartitions;

/// The log of one broker.
#[derive(Debug)]
pub struct Log {
    settings: LogSettings,
    incarnation: Incarnation,
    leader_epoch: LeaderEpoch,
    partitions: BTreeMap<PartitionKey, PartitionLog>,
    policies: BTreeMap<TopicNo, TopicPolicy>,
    next_topic_no: TopicNo,
    streams: UplinkStreams,
    producers: Producers,
    staging: Staging,
    in_flight: Option<InFlight>,
    /// On disk, and not taken in yet.
    synced: Option<InFlight>,
    durable_through: Option<SlotNo>,
    prev_crc: u32,
    place: WritePlace,
    tail: Tail,
    catalog: Catalog,
    jobs: Jobs,
    last_slot: LastSlot,
    maintenance: Maintenance,
    append_clock: AppendClock,
    retention_clock: RetentionClock,
}

impl Log {
    /// Goes on from what recovery found, as `incarnation`: random bits that were never used before. The OPEN slot is
    /// staged; write it before anything is served.
    ///
    /// # Panics
    /// If `incarnation` is the one before: the source of randomness is broken, and slots could be mistaken for others.
    #[must_use]
    pub fn open(
        settings: &LogSettings,
        incarnation: Incarnation,
        recovered: Recovered,
        now: UnixMs,
    ) -> Self {
        assert_ne!(recovered.last_incarnation(), Some(incarnation), "an incarnation is used once");
        let place = WritePlace::new(incarnation, settings.wal_file_bytes, recovered.next_file_no);
        // Larger ones would leave much of each file empty, and fit no file that is ready.
        let mut staging = Staging::new(settings.slot_bytes_target.min(place.payload() / 2));
        let mut append_clock = AppendClock::new(recovered.newest_append);
        let opened = append_clock.stamp(now);
        staging.push_control(opened, ControlBody::Open(recovered.open_body()));
        let leader_epoch = recovered.next_leader_epoch();
        let mut jobs =
            Jobs::new(Checkpoints::new(recovered.checkpoints, recovered.report.slot_bytes));
        // Another one may be the next that cannot be relied on.
        if !recovered.damaged.is_empty() {
            jobs.checkpoints.ask();
        }
        Self {
            incarnation,
            leader_epoch,
            place,
            next_topic_no: recovered.next_topic_no,
            partitions: recovered.partitions,
            policies: BTreeMap::new(),
            streams: recovered.streams,
            producers: recovered.producers,
            staging,
            in_flight: None,
            synced: None,
            durable_through: None,
            prev_crc: 0,
            tail: Tail::new(settings.tail_bytes),
            catalog: recovered.catalog,
            jobs,
            last_slot: LastSlot { file_no: recovered.next_file_no, end: 0, crc: 0, runs: 0 },
            maintenance: Maintenance::default(),
            append_clock,
            retention_clock: RetentionClock::new(recovered.newest_append),
            settings: settings.clone(),
        }
    }

    /// Makes the partition known, empty if it is new.
    ///
    /// # Errors
    /// [`TooManyPartitions`].
    pub fn register_partition(&mut self, key: PartitionKey) -> Result<(), TooManyPartitions> {
        if self.partitions.len() >= PARTITIONS_MAX && !self.partitions.contains_key(&key) {
            return Err(TooManyPartitions);
        }
        self.partitions.entry(key).or_default();
        let behind = TopicNo(key.topic_no.0.saturating_add(1));
        self.next_topic_no = self.next_topic_no.max(behind);
        Ok(())
    }

    /// A number that no topic in this log ever had.
    #[must_use]
    pub fn next_topic_no(&self) -> TopicNo {
        self.next_topic_no
    }

    /// The epoch that batches are stored under: one more in every incarnation.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Where each leader epoch begins in a partition, in order, from the one on that its log start lies in.
    #[must_use]
    pub fn epochs(&self, key: PartitionKey) -> &[(LeaderEpoch, Offset)] {
        self.partitions.get(&key).map_or(&[], PartitionLog::epochs)
    }

    /// Forgets a topic: its partitions, its policy, where its producers and uplink streams stood. Its number stays used. What
    /// was staged of it is still written, and seen by nobody. Its space is given back by and by.
    pub fn remove_topic(&mut self, topic_no: TopicNo) {
        let (first, last) = PartitionKey::all_of(topic_no);
        for (_, partition) in self.partitions.extract_if(first..=last, |_, _| true) {
            for extent in partition.extents() {
                self.catalog.extent_gone(extent);
            }
        }
        self.policies.remove(&topic_no);
        self.streams.remove_topic(topic_no);
        self.producers.remove_topic(topic_no);
        self.jobs.look_again();
    }

    /// The topics that have partitions here, in the order of their numbers.
    pub fn topic_nos(&self) -> impl Iterator<Item = TopicNo> {
        let mut last = None;
        self.partitions.keys().filter_map(move |key| {
            let is_new = last.replace(key.topic_no) != Some(key.topic_no);
            is_new.then_some(key.topic_no)
        })
    }

    /// The offsets of a partition, if it exists.
    #[must_use]
    pub fn offsets(&self, key: PartitionKey) -> Option<PartitionOffsets> {
        Some(self.partitions.get(&key)?.offsets())
    }

    /// Where a stream durably stands; `None` if nothing of it was ever stored.
    #[must_use]
    pub fn stream_state_durable(&self, stream: &UplinkStream) -> Option<StreamState> {
        self.streams.durable(stream)
    }

    /// The slot that an answer has to wait for which must come after everything appended so far; `None`: all of that is
    /// durable.
    #[must_use]
    pub fn slot_for_answer(&self) -> Option<SlotNo> {
        let last = self.staging.last_slot();
        last.filter(|_| last > self.durable_through)
    }
}
