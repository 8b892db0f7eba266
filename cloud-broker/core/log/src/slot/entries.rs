//! The two tables at the start of a DATA slot.

use wire::ids::{Partition, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::RecordBatchHeader;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use crate::fields::{field, i64_at, put, u16_at, u32_at, u64_at};
use crate::ids::{PartitionKey, TopicNo};
use crate::uplink_stream::{UplinkAppend, UplinkStream};

pub(crate) const RUN_ENTRY_BYTES: usize = 48;
pub(super) const UPLINK_ENTRY_BYTES: usize = 48;

/// An uplink entry says that a batch was appended. Other kinds are of later versions.
const UPLINK_APPEND: u8 = 1;

/// What all batches of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RunFlags(pub u16);

impl RunFlags {
    /// Transaction markers.
    pub const CONTROL: u16 = 1;
    /// Part of a transaction.
    pub const TRANSACTIONAL: u16 = 1 << 1;
    /// Timestamps are the broker's.
    pub const LOG_APPEND: u16 = 1 << 2;

    /// The flags of one batch.
    #[must_use]
    pub fn of(header: &RecordBatchHeader) -> Self {
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let log_append = header.attributes & RecordBatchHeader::LOG_APPEND_TIME != 0;
        Self(
            flag(header.is_control(), Self::CONTROL)
                | flag(header.is_transactional(), Self::TRANSACTIONAL)
                | flag(log_append, Self::LOG_APPEND),
        )
    }
}

/// Where consecutive batches of one partition lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEntry {
    /// The partition.
    pub key: PartitionKey,
    /// The owner's epoch, as in the batches.
    pub leader_epoch: LeaderEpoch,
    /// First byte, counted from the start of the slot.
    pub pos: u32,
    /// Bytes.
    pub len: u32,
    /// Batches, at least 1.
    pub batches: u16,
    /// What they have in common.
    pub flags: RunFlags,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Greatest timestamp of a record.
    pub max_timestamp: UnixMs,
}

impl RunEntry {
    pub(super) fn sort_key(&self) -> (PartitionKey, Offset) {
        (self.key, self.base_offset)
    }

    pub(crate) fn encode(&self) -> [u8; RUN_ENTRY_BYTES] {
        let mut out = [0; RUN_ENTRY_BYTES];
        put(&mut out, 0, self.key.topic_no.0.to_le_bytes());
        put(&mut out, 4, self.key.partition.0.to_le_bytes());
        put(&mut out, 8, self.leader_epoch.0.to_le_bytes());
        put(&mut out, 12, self.pos.to_le_bytes());
        put(&mut out, 16, self.len.to_le_bytes());
        put(&mut out, 20, self.batches.to_le_bytes());
        put(&mut out, 22, self.flags.0.to_le_bytes());
        put(&mut out, 24, self.base_offset.0.to_le_bytes());
        put(&mut out, 32, self.last_offset.0.to_le_bytes());
        put(&mut out, 40, self.max_timestamp.0.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; RUN_ENTRY_BYTES]) -> Self {
        Self {
            key: key_at(bytes, 0),
            leader_epoch: LeaderEpoch(i32::from_le_bytes(field(bytes, 8))),
            pos: u32_at(bytes, 12),
            len: u32_at(bytes, 16),
            batches: u16_at(bytes, 20),
            flags: RunFlags(u16_at(bytes, 22)),
            base_offset: Offset(i64_at(bytes, 24)),
            last_offset: Offset(i64_at(bytes, 32)),
            max_timestamp: UnixMs(i64_at(bytes, 40)),
        }
    }
}

/// What an uplink stream's batch says, so that the stream's state survives whatever happens to the batch later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UplinkEntry {
    /// The append.
    pub append: UplinkAppend,
    /// First byte of its batch, counted from the start of the slot.
    pub pos: u32,
}

impl UplinkEntry {
    pub(super) fn encode(&self) -> [u8; UPLINK_ENTRY_BYTES] {
        let append = &self.append;
        let mut out = [0; UPLINK_ENTRY_BYTES];
        put(&mut out, 0, append.stream.pid.0.to_le_bytes());
        put(&mut out, 8, append.stream.key.topic_no.0.to_le_bytes());
        put(&mut out, 12, append.stream.key.partition.0.to_le_bytes());
        put(&mut out, 16, append.epoch.0.to_le_bytes());
        out[18] = UPLINK_APPEND;
        put(&mut out, 20, append.base.get().to_le_bytes());
        put(&mut out, 24, append.count.to_le_bytes());
        put(&mut out, 28, self.pos.to_le_bytes());
        put(&mut out, 32, append.prev_tag.0.to_le_bytes());
        put(&mut out, 40, append.tag.0.to_le_bytes());
        out
    }

    /// `None` for another kind or a negative sequence.
    pub(super) fn decode(bytes: &[u8; UPLINK_ENTRY_BYTES]) -> Option<Self> {
        if bytes[18] != UPLINK_APPEND {
            return None;
        }
        Some(Self {
            append: UplinkAppend {
                stream: UplinkStream { pid: ProducerId(i64_at(bytes, 0)), key: key_at(bytes, 8) },
                epoch: StreamEpoch(i16::from_le_bytes(field(bytes, 16))),
                base: StreamSeq::new(i32::from_le_bytes(field(bytes, 20)))?,
                count: u32_at(bytes, 24),
                prev_tag: Tag(u64_at(bytes, 32)),
                tag: Tag(u64_at(bytes, 40)),
            },
            pos: u32_at(bytes, 28),
        })
    }
}

fn key_at<const N: usize>(bytes: &[u8; N], at: usize) -> PartitionKey {
    PartitionKey {
        topic_no: TopicNo(u32_at(bytes, at)),
        partition: Partition(u32_at(bytes, at + 4)),
    }
}
