//! What is stored of the cluster.

use std::collections::{BTreeMap, VecDeque};

use wire::ids::{ProducerId, TopicId};

use super::stored::{self, StoredError};
use crate::topic_config::TopicConfigs;

/// Deleted topics whose ids are remembered. Beyond it the one deleted first is forgotten: a gateway that still has readings
/// for it then learns only that there is no such topic, and keeps them.
pub const DELETED_TOPICS_MAX: usize = 10_000;

/// Producer ids that are reserved at once, as Kafka does: one write for so many producers.
pub(super) const PRODUCER_IDS_RESERVED: u64 = 1_000;

/// The uplink's half of the producer ids is never given out.
const PRODUCER_IDS_END: u64 = 1 << 62;

const _: () = assert!(PRODUCER_IDS_END as i64 == ProducerId::UPLINK_MIN.0);

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id: a topic that is made anew gets another one.
    pub id: TopicId,
    /// Its number in the log; never used twice.
    pub no: u32,
    /// How many partitions it has, at least 1.
    pub partitions: u32,
    /// What it has set.
    pub(crate) configs: TopicConfigs,
}

impl Topic {
    /// Bytes that it takes in the stored form, at most.
    pub(super) fn bytes_max(&self) -> usize {
        bytes_max(&self.name, &self.configs)
    }
}

/// Bytes that a topic takes in the stored form, at most: text with its length, an id, two numbers and a count.
pub(super) fn bytes_max(name: &str, configs: &TopicConfigs) -> usize {
    let configs = configs.iter().map(|(name, value)| name.len() + value.len() + 4);
    name.len() + 2 + 16 + 5 + 5 + 2 + configs.sum::<usize>()
}

/// What is known of the cluster, as last stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub(super) version: u64,
    pub(super) cluster: [u8; 16],
    pub(super) next_no: u32,
    /// Producer ids below it are given out or may be.
    pub(super) next_pid: u64,
    pub(super) topics: BTreeMap<u32, Topic>,
    /// The ids of deleted topics, the first deleted first.
    pub(super) deleted: VecDeque<TopicId>,
    by_name: BTreeMap<String, u32>,
    by_id: BTreeMap<TopicId, u32>,
    partitions: u64,
    topic_bytes: usize,
}

impl Image {
    /// The first content of `ctl/cluster`, for a cluster that gets this id. The shell stores it as version 1 before a
    /// [`crate::Broker`] is made.
    #[must_use]
    pub fn first(cluster: [u8; 16]) -> Vec<u8> {
        stored::encode(&Self::empty(0, cluster))
    }

    /// Reads what `ctl/cluster` holds under `version`.
    ///
    /// # Errors
    /// [`StoredError`]: these bytes are not such content, or of a newer release. Do not overwrite them.
    pub fn load(version: u64, bytes: &[u8]) -> Result<Self, StoredError> {
        stored::decode(version, bytes)
    }

    /// The cluster's id as Kafka clients see it.
    #[must_use]
    pub fn cluster_id(&self) -> String {
        self.cluster.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The topic with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.by_name.get(name)?)
    }

    /// The topic with this id.
    #[must_use]
    pub fn by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(self.by_id.get(&id)?)
    }

    /// The topic with this number.
    #[must_use]
    pub fn by_no(&self, no: u32) -> Option<&Topic> {
        self.topics.get(&no)
    }

    /// Whether a topic with this id was deleted, as far as that is remembered.
    #[must_use]
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deleted.contains(&id)
    }

    /// The number that the next topic gets.
    #[must_use]
    pub fn next_topic_no(&self) -> u32 {
        self.next_no
    }

    /// The first producer id that nobody can have.
    #[must_use]
    pub fn producer_ids_end(&self) -> u64 {
        self.next_pid
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there are no topics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Every topic, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values().filter_map(|no| self.topics.get(no))
    }

    /// How many partitions there are.
    pub(super) fn partitions(&self) -> u64 {
        self.partitions
    }

    /// Bytes of the stored form, at most.
    pub(super) fn bytes_max(&self) -> usize {
        stored::BYTES_WITHOUT_TOPICS_MAX + self.topic_bytes + 16 * self.deleted.len()
    }

    pub(super) fn empty(version: u64, cluster: [u8; 16]) -> Self {
        Self {
            version,
            cluster,
            next_no: 1,
            next_pid: 0,
            topics: BTreeMap::new(),
            deleted: VecDeque::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            partitions: 0,
            topic_bytes: 0,
        }
    }

    pub(super) fn insert(&mut self, topic: Topic) {
        self.next_no = self.next_no.max(topic.no.saturating_add(1));
        self.partitions += u64::from(topic.partitions);
        self.topic_bytes += topic.bytes_max();
        self.by_name.insert(topic.name.clone(), topic.no);
        self.by_id.insert(topic.id, topic.no);
        self.topics.insert(topic.no, topic);
    }

    /// Changes a topic, if it is there; not its name, id or number.
    pub(super) fn update(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) {
        let no = self.by_id.get(&id);
        if let Some(topic) = no.and_then(|no| self.topics.get_mut(no)) {
            self.partitions -= u64::from(topic.partitions);
            self.topic_bytes -= topic.bytes_max();
            change(topic);
            self.partitions += u64::from(topic.partitions);
            self.topic_bytes += topic.bytes_max();
        }
    }

    /// Deletes a topic, if it is there.
    pub(super) fn delete(&mut self, id: TopicId) {
        let Some(topic) = self.by_id.remove(&id).and_then(|no| self.topics.remove(&no)) else {
            return;
        };
        self.by_name.remove(&topic.name);
        self.partitions -= u64::from(topic.partitions);
        self.topic_bytes -= topic.bytes_max();
        if self.deleted.len() >= DELETED_TOPICS_MAX {
            self.deleted.pop_front();
        }
        self.deleted.push_back(id);
    }

    /// Reserves producer ids; `false` if there are no more, which takes 2⁶² of them.
    pub(super) fn reserve_producer_ids(&mut self) -> bool {
        let end = self.next_pid.saturating_add(PRODUCER_IDS_RESERVED);
        let fits = end <= PRODUCER_IDS_END;
        if fits {
            self.next_pid = end;
        }
        fits
    }
}
