//! The metadata image: which topics there are, under which names, ids and numbers.
//!
//! Only writer of `ctl/cluster`. A change is staged, handed out as one compare-and-swap ([`ControlWrite`]; changes that
//! queue up meanwhile share the next one), and becomes visible only when the shell reports that it is stored.
//!
//! Deliberately missing: deletion, configs, ACLs.

mod stored;

use std::collections::BTreeMap;

use thiserror::Error;
use wire::ids::TopicId;
use wire::limits::is_topic_name;

pub use stored::StoredError;

/// Most topics that one cluster holds.
pub const TOPICS_MAX: usize = 10_000;

/// Most partitions that one topic is made with.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

/// Most partitions of all topics together.
pub const PARTITIONS_MAX: u64 = 100_000;

const _: () = assert!(TOPIC_PARTITIONS_MAX as u64 <= PARTITIONS_MAX);

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
}

/// A topic that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// The id it will have.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: u32,
}

/// Names the compare-and-swap that a staged change travels in. They are answered in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// One compare-and-swap of `ctl/cluster` for the shell to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlWrite {
    /// The version that must be stored for the write to happen; 0 means that nothing is stored.
    pub expected_version: u64,
    /// The new content, stored under the next version.
    pub bytes: Vec<u8>,
}

/// What became of a wish for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is there.
    Exists,
    /// It will be there when this ticket is answered.
    Staged(Ticket),
}

/// Why a topic is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicRefused {
    /// Ask with another name.
    #[error("not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -, neither . nor ..")]
    Name,
    /// Ask with another number of partitions.
    #[error("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions")]
    Partitions,
    /// Nothing can be made until topics are deleted.
    #[error("the cluster is full: {TOPICS_MAX} topics, {PARTITIONS_MAX} partitions")]
    Full,
}

/// What is known of the cluster, as last stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    version: u64,
    cluster: [u8; 16],
    next_no: u32,
    topics: BTreeMap<u32, Topic>,
    by_name: BTreeMap<String, u32>,
    by_id: BTreeMap<TopicId, u32>,
    partitions: u64,
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

    /// The number that the next topic gets.
    #[must_use]
    pub fn next_topic_no(&self) -> u32 {
        self.next_no
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

    fn empty(version: u64, cluster: [u8; 16]) -> Self {
        Self {
            version,
            cluster,
            next_no: 1,
            topics: BTreeMap::new(),
            by_name: BTreeMap::new(),
            by_id: BTreeMap::new(),
            partitions: 0,
        }
    }

    fn insert(&mut self, topic: Topic) {
        self.next_no = self.next_no.max(topic.no.saturating_add(1));
        self.partitions += u64::from(topic.partitions);
        self.by_name.insert(topic.name.clone(), topic.no);
        self.by_id.insert(topic.id, topic.no);
        self.topics.insert(topic.no, topic);
    }
}

/// The image and the changes on their way into it.
#[derive(Debug)]
pub struct Metadata {
    image: Image,
    queued: Vec<NewTopic>,
    writing: Option<Image>,
    /// The write in flight, or the last one answered.
    ticket: u64,
}

impl Metadata {
    /// Starts from what is stored.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self { image, queued: Vec::new(), writing: None, ticket: 0 }
    }

    /// What is stored.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Sees to it that a topic is there, staging it if it is not.
    ///
    /// # Errors
    /// [`TopicRefused`].
    pub fn ensure(&mut self, topic: NewTopic) -> Result<Wish, TopicRefused> {
        if self.image.by_name(&topic.name).is_some() {
            return Ok(Wish::Exists);
        }
        if !is_topic_name(&topic.name) {
            return Err(TopicRefused::Name);
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&topic.partitions) {
            return Err(TopicRefused::Partitions);
        }
        let in_flight = self.writing.as_ref();
        if in_flight.is_some_and(|image| image.by_name(&topic.name).is_some()) {
            return Ok(Wish::Staged(Ticket(self.ticket)));
        }
        if !self.queued.iter().any(|queued| queued.name == topic.name) {
            self.check_room(&topic)?;
            self.queued.push(topic);
        }
        Ok(Wish::Staged(Ticket(self.ticket + 1)))
    }

    /// The next write to make, unless one is in flight or nothing changed.
    pub fn poll_write(&mut self) -> Option<ControlWrite> {
        if self.writing.is_some() || self.queued.is_empty() {
            return None;
        }
        let mut next = self.image.clone();
        for new in self.queued.drain(..) {
            let topic =
                Topic { name: new.name, id: new.id, no: next.next_no, partitions: new.partitions };
            next.insert(topic);
        }
        let bytes = stored::encode(&next);
        self.ticket += 1;
        self.writing = Some(next);
        Some(ControlWrite { expected_version: self.image.version, bytes })
    }

    /// The write in flight is stored under `version`: its topics are there now. Returns them, and the ticket.
    pub fn stored(&mut self, version: u64) -> (Ticket, Vec<Topic>) {
        let mut made = Vec::new();
        if let Some(mut next) = self.writing.take() {
            next.version = version;
            let new = next.topics.range(self.image.next_no..);
            made = new.map(|(_, topic)| topic.clone()).collect();
            self.image = next;
        }
        (Ticket(self.ticket), made)
    }

    /// The write in flight was not made: its topics are not there.
    pub fn not_stored(&mut self) -> Ticket {
        self.writing = None;
        Ticket(self.ticket)
    }

    fn check_room(&self, topic: &NewTopic) -> Result<(), TopicRefused> {
        let base = self.writing.as_ref().unwrap_or(&self.image);
        let queued: u64 = self.queued.iter().map(|t| u64::from(t.partitions)).sum();
        let topics = base.topics.len() + self.queued.len() + 1;
        let partitions = base.partitions + queued + u64::from(topic.partitions);
        if topics > TOPICS_MAX || partitions > PARTITIONS_MAX || base.next_no == u32::MAX {
            return Err(TopicRefused::Full);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
