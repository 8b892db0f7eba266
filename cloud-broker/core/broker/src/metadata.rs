//! The metadata image: which topics there are, under which names, ids and numbers, with which configs; which were deleted;
//! which producer ids may have been given out.
//!
//! Only writer of `ctl/cluster`. A change is staged, handed out as one compare-and-swap ([`ControlWrite`]; changes that
//! queue up meanwhile share the next one), and becomes visible only when the shell reports that it is stored.
//!
//! Deliberately missing: ACLs.

mod image;
mod stored;

use std::ops::Range;

use thiserror::Error;
use wire::ids::TopicId;
use wire::limits::{CONTROL_TOPIC, is_topic_name};

use crate::topic_config::TopicConfigs;

pub use image::{DELETED_TOPICS_MAX, Image, Topic};
pub use stored::StoredError;

/// Most topics that one cluster holds.
pub const TOPICS_MAX: usize = 10_000;

/// Most partitions that one topic is made with.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;

/// Most partitions of all topics together.
pub const PARTITIONS_MAX: u64 = 100_000;

/// Most bytes of `ctl/cluster`: all of it is written for every change.
pub const IMAGE_BYTES_MAX: usize = 12 << 20;

const _: () = assert!(TOPIC_PARTITIONS_MAX as u64 <= PARTITIONS_MAX);
const _: () = assert!(16 * DELETED_TOPICS_MAX < IMAGE_BYTES_MAX / 2);

/// Topics of Kafka's coordinators, and of the uplink.
const OWN: [&str; 5] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__share_group_state",
    "__transaction_state",
    CONTROL_TOPIC,
];
const OWN_PREFIX: &str = "culvert.";

/// Whether the broker needs a topic of this name itself, so that clients do not delete it.
pub(crate) fn is_own(name: &str) -> bool {
    OWN.contains(&name)
}

/// Whether only the broker itself chooses how a topic of this name is made, now or in a later release.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(OWN_PREFIX) || is_own(name)
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
    /// It is there, or about to be. Only for who wants to make it, not for who wants to have it.
    #[error("the topic exists")]
    Exists,
    /// Ask with another name.
    #[error("not a topic name: 1 to 249 of A-Z a-z 0-9 . _ -, neither . nor ..")]
    Name,
    /// Ask with another number of partitions.
    #[error("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions")]
    Partitions,
    /// Nothing can be made until topics are deleted.
    #[error(
        "the cluster is full: {TOPICS_MAX} topics, {PARTITIONS_MAX} partitions, {IMAGE_BYTES_MAX} bytes of metadata"
    )]
    Full,
}

/// What a write has changed.
#[derive(Debug)]
pub struct Changes {
    /// The write's.
    pub ticket: Ticket,
    /// Topics that are there now.
    pub made: Vec<Topic>,
    /// Topics that have other configs or more partitions now.
    pub changed: Vec<Topic>,
    /// Topics that were there.
    pub deleted: Vec<Topic>,
    /// Producer ids that may be given out now, by whoever reserved them.
    pub producer_ids: Range<u64>,
}

/// The image and the changes on their way into it.
#[derive(Debug)]
pub struct Metadata {
    image: Image,
    /// As it will be when the write in flight is stored.
    writing: Option<Image>,
    /// As it will be when the write after that is stored; built on the one before.
    staged: Option<Image>,
    /// The write in flight, or the last one answered.
    ticket: u64,
}

impl Metadata {
    /// Starts from what is stored.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self { image, writing: None, staged: None, ticket: 0 }
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
        let in_flight = self.writing.as_ref().and_then(|writing| writing.by_name(&topic.name));
        if in_flight.is_some() {
            return Ok(Wish::Staged(self.ticket()));
        }
        let configs = TopicConfigs::of_name(&topic.name);
        match self.create(topic, configs) {
            Ok(ticket) => Ok(Wish::Staged(ticket)),
            // It is not there and not in flight, so it is staged.
            Err(TopicRefused::Exists) => Ok(Wish::Staged(self.next_ticket())),
            Err(error) => Err(error),
        }
    }

    /// Stages a topic that must not be there yet.
    ///
    /// # Errors
    /// [`TopicRefused`].
    pub(crate) fn create(
        &mut self,
        topic: NewTopic,
        configs: TopicConfigs,
    ) -> Result<Ticket, TopicRefused> {
        let NewTopic { name, id, partitions } = topic;
        self.check(&name, partitions, &configs)?;
        let image = self.stage();
        let no = image.next_no;
        image.insert(Topic { name, id, no, partitions, configs });
        Ok(self.next_ticket())
    }

    /// Whether such a topic could be made now.
    pub(crate) fn check(
        &self,
        name: &str,
        partitions: u32,
        configs: &TopicConfigs,
    ) -> Result<(), TopicRefused> {
        if !is_topic_name(name) {
            return Err(TopicRefused::Name);
        }
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            return Err(TopicRefused::Partitions);
        }
        let latest = self.latest();
        if latest.by_name(name).is_some() {
            return Err(TopicRefused::Exists);
        }
        let is_full = latest.len() >= TOPICS_MAX
            || latest.partitions() + u64::from(partitions) > PARTITIONS_MAX
            || latest.bytes_max() + image::bytes_max(name, configs) > IMAGE_BYTES_MAX
            || latest.next_no == u32::MAX;
        if is_full { Err(TopicRefused::Full) } else { Ok(()) }
    }

    /// Stages the deletion of a topic that is there, unless it is on its way.
    pub(crate) fn delete(&mut self, id: TopicId) -> Ticket {
        if self.writing.as_ref().is_some_and(|writing| writing.by_id(id).is_none()) {
            return self.ticket();
        }
        self.stage().delete(id);
        self.next_ticket()
    }

    /// Stages other configs for a topic that is there.
    ///
    /// # Errors
    /// [`TopicRefused`]: there is no room for them.
    pub(crate) fn alter(
        &mut self,
        id: TopicId,
        configs: TopicConfigs,
    ) -> Result<Ticket, TopicRefused> {
        self.check_alter(id, &configs)?;
        self.stage().update(id, |topic| topic.configs = configs);
        Ok(self.next_ticket())
    }

    /// Whether a topic could have these configs now.
    pub(crate) fn check_alter(
        &self,
        id: TopicId,
        configs: &TopicConfigs,
    ) -> Result<(), TopicRefused> {
        let latest = self.latest();
        let Some(topic) = latest.by_id(id) else {
            return Ok(());
        };
        let others = latest.bytes_max() - topic.bytes_max();
        let bytes = others + image::bytes_max(&topic.name, configs);
        if bytes > IMAGE_BYTES_MAX { Err(TopicRefused::Full) } else { Ok(()) }
    }

    /// Stages more partitions for a topic that is there.
    ///
    /// # Errors
    /// [`TopicRefused`].
    pub(crate) fn grow(&mut self, id: TopicId, partitions: u32) -> Result<Ticket, TopicRefused> {
        self.check_grow(id, partitions)?;
        self.stage().update(id, |topic| topic.partitions = topic.partitions.max(partitions));
        Ok(self.next_ticket())
    }

    /// Whether a topic could have so many partitions now.
    pub(crate) fn check_grow(&self, id: TopicId, partitions: u32) -> Result<(), TopicRefused> {
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            return Err(TopicRefused::Partitions);
        }
        let latest = self.latest();
        let has = latest.by_id(id).map_or(0, |topic| topic.partitions);
        let more = u64::from(partitions.saturating_sub(has));
        if latest.partitions() + more > PARTITIONS_MAX { Err(TopicRefused::Full) } else { Ok(()) }
    }

    /// Stages a reservation of producer ids, unless one is on its way. `None`: there are no more.
    pub(crate) fn reserve_producer_ids(&mut self) -> Option<Ticket> {
        let visible = self.image.next_pid;
        if self.writing.as_ref().is_some_and(|writing| writing.next_pid > visible) {
            return Some(self.ticket());
        }
        let image = self.stage();
        if image.next_pid > visible || image.reserve_producer_ids() {
            return Some(self.next_ticket());
        }
        None
    }

    /// The next write to make, unless one is in flight or nothing changed.
    pub fn poll_write(&mut self) -> Option<ControlWrite> {
        if self.writing.is_some() {
            return None;
        }
        let next = self.staged.take()?;
        let bytes = stored::encode(&next);
        self.ticket += 1;
        self.writing = Some(next);
        Some(ControlWrite { expected_version: self.image.version, bytes })
    }

    /// The write in flight is stored under `version`: what it changes is so now.
    pub fn stored(&mut self, version: u64) -> Changes {
        let (next_no, next_pid) = (self.image.next_no, self.image.next_pid);
        let mut changes = Changes {
            ticket: self.ticket(),
            made: Vec::new(),
            changed: Vec::new(),
            deleted: Vec::new(),
            producer_ids: next_pid..next_pid,
        };
        if let Some(mut next) = self.writing.take() {
            next.version = version;
            changes.made = next.topics.range(next_no..).map(|(_, t)| t.clone()).collect();
            changes.producer_ids.end = next.next_pid;
            let old = std::mem::replace(&mut self.image, next);
            for topic in old.topics.into_values() {
                match self.image.by_no(topic.no) {
                    None => changes.deleted.push(topic),
                    Some(now) if *now != topic => changes.changed.push(now.clone()),
                    Some(_) => {}
                }
            }
        }
        changes
    }

    /// The write in flight was not made: nothing of it is so. What was staged behind it was built on it and goes too; who
    /// waits for the ticket that comes back, or one before it, asks again.
    pub fn not_stored(&mut self) -> Ticket {
        self.writing = None;
        if self.staged.take().is_some() {
            self.ticket += 1;
        }
        self.ticket()
    }

    /// As everything that was asked for will leave it.
    pub(crate) fn latest(&self) -> &Image {
        self.staged.as_ref().or(self.writing.as_ref()).unwrap_or(&self.image)
    }

    fn stage(&mut self) -> &mut Image {
        let Self { image, writing, staged, .. } = self;
        staged.get_or_insert_with(|| writing.as_ref().unwrap_or(image).clone())
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.ticket)
    }

    fn next_ticket(&self) -> Ticket {
        Ticket(self.ticket + 1)
    }
}

#[cfg(test)]
mod tests;
