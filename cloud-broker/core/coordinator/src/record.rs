//! The records of `__consumer_offsets`, in the formats of Kafka 4.1.
//!
//! Source: `OffsetCommitKey.json`, `OffsetCommitValue.json`, `GroupMetadataKey.json` and `GroupMetadataValue.json` in
//! Kafka's `group-coordinator` module; a key begins with the number of its kind, a value with its version, both i16.
//! Written are the versions that Kafka 4.1 writes itself: offsets 3, or 1 if they expire at a time of their own; groups
//! 3. Read is every version. Layouts: docs/formats/consumer-offsets.md.

mod codec;

use bytes::Bytes;
use thiserror::Error;
use wire::ids::ProducerId;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::record_batch::{BatchProducer, Codec, HEADER_BYTES, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use crate::ids::{GroupId, InstanceId, MemberId, TopicName};
use codec::{Reader, Writer};

/// Kinds of keys: `apiKey` in Kafka's definitions. Kind 0 is the form of kind 1 from before Kafka 0.9.
const LEGACY_OFFSET_KEY: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;

/// Versions of values.
const OFFSET_WITH_EXPIRY: i16 = 1;
const OFFSET_WITH_EPOCH: i16 = 3;
const GROUP_WITH_INSTANCES: i16 = 3;

/// The first version with compact lengths and tagged fields, of either value.
const FLEXIBLE_FROM: i16 = 4;

/// The last version that is known, of either value.
const VERSION_MAX: i16 = 4;

/// Bytes that a record's own fields take at most beside key and value.
const RECORD_OVERHEAD_BYTES: usize = 40;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// What a group is.
    Group {
        /// The group.
        group: GroupId,
        /// `None`: it is no more.
        metadata: Option<GroupMetadata>,
    },
    /// Where a group is in a partition.
    Offset {
        /// The group.
        group: GroupId,
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: i32,
        /// `None`: the group has no offset there any more.
        offset: Option<CommittedOffset>,
    },
}

/// An offset as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where to go on.
    pub offset: i64,
    /// Epoch of the last record that was consumed; −1 if unknown.
    pub leader_epoch: i32,
    /// What the client wanted to keep with it.
    pub metadata: String,
    /// When it was committed.
    pub committed: UnixMs,
    /// When it expires, if the client said so.
    pub expires: Option<UnixMs>,
}

/// A generation of a group as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// What kind of group it is; opaque.
    pub protocol_type: String,
    /// Counts the rebalances.
    pub generation: i32,
    /// The protocol that was chosen; `None` without members.
    pub protocol: Option<String>,
    /// Who assigned.
    pub leader: Option<MemberId>,
    /// When it came into this state.
    pub since: UnixMs,
    /// The members.
    pub members: Vec<SavedMember>,
}

/// A member as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedMember {
    /// Its id.
    pub id: MemberId,
    /// Of a static member.
    pub instance: Option<InstanceId>,
    /// What the client called itself.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// How long the group waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// Why bytes are not a record of a kind that is known. Skip the record, and say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes contradict the format.
    #[error("the record contradicts its format")]
    Malformed,
    /// A kind or version of another coordinator or a newer release.
    #[error("kind or version {0} is not known")]
    Unknown(i16),
}

/// Records too large for one batch: cut them, or refuse what they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Record {
    /// The group that the record is about.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        match self {
            Self::Group { group, .. } | Self::Offset { group, .. } => group,
        }
    }

    /// Key, and value unless this is a tombstone.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut key = Writer::new();
        match self {
            Self::Group { group, metadata } => {
                key.i16(GROUP_KEY);
                key.text(group.as_str());
                (key.finish(), metadata.as_ref().map(encode_group))
            }
            Self::Offset { group, topic, partition, offset } => {
                key.i16(OFFSET_KEY);
                key.text(group.as_str());
                key.text(topic.as_str());
                key.i32(*partition);
                (key.finish(), offset.as_ref().map(encode_offset))
            }
        }
    }

    /// Reads key and value of a record.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key);
        match key.i16()? {
            LEGACY_OFFSET_KEY | OFFSET_KEY => {
                let group = GroupId::from(key.text()?);
                let topic = TopicName::from(key.text()?);
                let partition = key.i32()?;
                let offset = value.map(decode_offset).transpose()?;
                Ok(Self::Offset { group, topic, partition, offset })
            }
            GROUP_KEY => {
                let group = GroupId::from(key.text()?);
                let metadata = value.map(decode_group).transpose()?;
                Ok(Self::Group { group, metadata })
            }
            other => Err(RecordError::Unknown(other)),
        }
    }
}

/// One record batch with these records.
pub(crate) fn encode_batch(records: &[Record], now: UnixMs) -> Result<Bytes, TooLarge> {
    let mut builder = RecordBatchBuilder::new();
    for record in records {
        let (key, value) = record.encode();
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len) + RECORD_OVERHEAD_BYTES;
        if HEADER_BYTES + builder.records().len() + bytes > RECORD_BATCH_BYTES_MAX {
            return Err(TooLarge);
        }
        builder.push(&wire::record_batch::Record {
            timestamp: now,
            key: Some(&key),
            value: value.as_deref(),
            headers: &[],
        });
    }
    let nobody =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    let batch = builder.seal(nobody, Codec::None, builder.records());
    batch.map(Bytes::from).ok_or(TooLarge)
}

fn encode_offset(offset: &CommittedOffset) -> Vec<u8> {
    let mut w = Writer::new();
    match offset.expires {
        None => {
            w.i16(OFFSET_WITH_EPOCH);
            w.i64(offset.offset);
            w.i32(offset.leader_epoch);
            w.text(&offset.metadata);
            w.i64(offset.committed.0);
        }
        Some(expires) => {
            w.i16(OFFSET_WITH_EXPIRY);
            w.i64(offset.offset);
            w.text(&offset.metadata);
            w.i64(offset.committed.0);
            w.i64(expires.0);
        }
    }
    w.finish()
}

fn decode_offset(value: &[u8]) -> Result<CommittedOffset, RecordError> {
    let (version, mut r) = versioned(value)?;
    let offset = r.i64()?;
    let leader_epoch = if version >= OFFSET_WITH_EPOCH { r.i32()? } else { -1 };
    let metadata = r.text()?.to_owned();
    let committed = UnixMs(r.i64()?);
    let expires = if version == OFFSET_WITH_EXPIRY { r.i64()? } else { -1 };
    r.skip_tags()?;
    let expires = (expires >= 0).then_some(UnixMs(expires));
    Ok(CommittedOffset { offset, leader_epoch, metadata, committed, expires })
}

fn encode_group(group: &GroupMetadata) -> Vec<u8> {
    let mut w = Writer::new();
    w.i16(GROUP_WITH_INSTANCES);
    w.text(&group.protocol_type);
    w.i32(group.generation);
    w.optional_text(group.protocol.as_deref());
    w.optional_text(group.leader.as_ref().map(MemberId::as_str));
    w.i64(group.since.0);
    w.count(group.members.len());
    for member in &group.members {
        w.text(member.id.as_str());
        w.optional_text(member.instance.as_ref().map(InstanceId::as_str));
        w.text(&member.client_id);
        w.text(&member.client_host);
        w.i32(member.rebalance_timeout_ms);
        w.i32(member.session_timeout_ms);
        w.blob(&member.subscription);
        w.blob(&member.assignment);
    }
    w.finish()
}

fn decode_group(value: &[u8]) -> Result<GroupMetadata, RecordError> {
    let (version, mut r) = versioned(value)?;
    let protocol_type = r.text()?.to_owned();
    let generation = r.i32()?;
    let protocol = r.optional_text()?.map(str::to_owned);
    let leader = r.optional_text()?.map(MemberId::from);
    let since = UnixMs(if version >= 2 { r.i64()? } else { -1 });
    // The count allocates nothing: members are pushed as they are read.
    let mut members = Vec::new();
    for _ in 0..r.count()? {
        members.push(decode_member(version, &mut r)?);
    }
    r.skip_tags()?;
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, since, members })
}

fn decode_member(version: i16, r: &mut Reader<'_>) -> Result<SavedMember, RecordError> {
    let id = MemberId::from(r.text()?);
    let instance = if version >= 3 { r.optional_text()?.map(InstanceId::from) } else { None };
    let client_id = r.text()?.to_owned();
    let client_host = r.text()?.to_owned();
    let rebalance_timeout_ms = if version >= 1 { r.i32()? } else { -1 };
    let session_timeout_ms = r.i32()?;
    let subscription = Bytes::copy_from_slice(r.blob()?);
    let assignment = Bytes::copy_from_slice(r.blob()?);
    r.skip_tags()?;
    Ok(SavedMember {
        id,
        instance,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    })
}

/// A value's version, and a reader of what follows it.
fn versioned(value: &[u8]) -> Result<(i16, Reader<'_>), RecordError> {
    let mut r = Reader::new(value);
    let version = r.i16()?;
    if !(0..=VERSION_MAX).contains(&version) {
        return Err(RecordError::Unknown(version));
    }
    if version >= FLEXIBLE_FROM {
        r.make_flexible();
    }
    Ok((version, r))
}

#[cfg(test)]
mod tests;
