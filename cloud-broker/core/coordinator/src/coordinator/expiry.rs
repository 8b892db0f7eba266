//! Offsets that nobody came back for, and those in topics that are gone.
//!
//! A search goes through the groups a few at a time, and begins anew some time after it ended. An offset expires when its
//! own time has come, if the client gave it one; else when its group has been empty, or if it never had members when the
//! offset has been there, for longer than the retention (KIP-211). A group without offsets goes when it is empty: Kafka
//! keeps those no longer either.

use wire::time::{MonoMs, UnixMs};

use super::{Coordinator, Now};
use crate::committed::CommittedGroup;
use crate::ids::{GroupId, TopicName};
use crate::outbox::{Then, Write};
use crate::record::{CommittedOffset, Record, encode_batch};
use crate::settings::{
    EXPIRY_GROUPS_PER_STEP, EXPIRY_INTERVAL_MS, EXPIRY_OFFSETS_PER_GROUP, EXPIRY_STEP_MS,
};

/// Where a search is.
#[derive(Debug)]
pub(super) struct Expiry {
    /// The group that was looked at last.
    after: Option<GroupId>,
    next: MonoMs,
}

impl Expiry {
    pub(super) fn new(now: MonoMs) -> Self {
        Self { after: None, next: now + EXPIRY_INTERVAL_MS }
    }

    pub(super) fn next(&self) -> MonoMs {
        self.next
    }
}

impl<A: Copy> Coordinator<A> {
    /// Makes one step of a search, if it is time.
    pub(super) fn expire_offsets(&mut self, now: Now) {
        if self.expiry.next > now.mono {
            return;
        }
        let behind = self.committed.behind(self.expiry.after.as_ref());
        let step: Vec<_> = behind.take(EXPIRY_GROUPS_PER_STEP).map(|(id, _)| id.clone()).collect();
        if step.len() < EXPIRY_GROUPS_PER_STEP {
            self.expiry = Expiry::new(now.mono);
        } else {
            let next = now.mono + EXPIRY_STEP_MS;
            self.expiry = Expiry { after: step.last().cloned(), next };
        }
        for id in step {
            let Ok(partition) = self.route(&id) else {
                continue;
            };
            let records = self.expired(&id, now.wall);
            if records.is_empty() {
                continue;
            }
            // Bounded far below a batch's size by the limits on names and on offsets per search.
            if let Ok(batch) = encode_batch(&records, now.wall) {
                let then = Then::Expire;
                self.out.writes.push_back(Write { partition, batch, records, then });
            }
        }
    }

    /// Topics are no more, so neither are the offsets in them: one of the same name begins anew. What the log has no room for
    /// stays until it expires.
    pub fn forget_topics(&mut self, wall: UnixMs, is_gone: impl Fn(&str) -> bool) {
        let has_gone = |group: &CommittedGroup| group.offsets.keys().any(|t| is_gone(t.as_str()));
        let with_topic = self.committed.behind(None).filter(|(_, group)| has_gone(group));
        let ids: Vec<GroupId> = with_topic.map(|(id, _)| id.clone()).collect();
        for id in ids {
            let (Ok(partition), Some(group)) = (self.route(&id), self.committed.get(id.as_str()))
            else {
                continue;
            };
            let records = tombstones(&id, group, |name, _| is_gone(name.as_str()));
            for records in records.chunks(EXPIRY_OFFSETS_PER_GROUP) {
                if let Ok(batch) = encode_batch(records, wall) {
                    let (records, then) = (records.to_vec(), Then::Expire);
                    self.out.writes.push_back(Write { partition, batch, records, then });
                }
            }
        }
    }

    /// Tombstones of what has expired of a group; of the group too if nothing is left of it.
    fn expired(&self, id: &GroupId, now: UnixMs) -> Vec<Record> {
        let Some(committed) = self.committed.get(id.as_str()) else {
            return Vec::new();
        };
        let group = self.groups.get(id);
        if group.is_some_and(|group| !group.is_idle()) {
            return Vec::new();
        }
        let empty_since = group.map(super::Group::since);
        let retention = i64::try_from(self.settings.offsets_retention_ms).unwrap_or(i64::MAX);
        let expires = |offset: &CommittedOffset| {
            let kept_from = empty_since.filter(|since| since.0 >= 0).unwrap_or(offset.committed);
            let by_retention = UnixMs(kept_from.0.saturating_add(retention));
            offset.expires.unwrap_or(by_retention) <= now
        };
        let mut records = tombstones(id, committed, |_, offset| expires(offset));
        records.truncate(EXPIRY_OFFSETS_PER_GROUP);
        if records.len() == committed.offsets_count && committed.metadata.is_some() {
            records.push(Record::Group { group: id.clone(), metadata: None });
        }
        records
    }
}

fn tombstones(
    id: &GroupId,
    committed: &CommittedGroup,
    is_over: impl Fn(&TopicName, &CommittedOffset) -> bool,
) -> Vec<Record> {
    let offsets = committed.offsets.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |(partition, offset)| (topic, *partition, offset))
    });
    let over = offsets.filter(|(topic, _, offset)| is_over(topic, offset));
    let tombstones = over.map(|(topic, partition, _)| Record::Offset {
        group: id.clone(),
        topic: topic.clone(),
        partition,
        offset: None,
    });
    tombstones.collect()
}
