//! What an operator may set, and the limits that nobody may.

use wire::limits::{RECORD_BATCH_BYTES_MAX, TOPIC_NAME_BYTES_MAX};

/// The topic that holds the coordinator's records.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Longest group id, in bytes. It is written with every offset; Kafka's only limit is that of any text.
pub const GROUP_ID_BYTES_MAX: usize = 1024;

/// Longest id that a client gives itself or its static member, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 1024;

/// Groups that one coordinator holds, with members or with offsets.
pub const GROUPS_MAX: usize = 100_000;

/// Members of one group, those that were only given an id included (Kafka's `group.max.size`).
pub const GROUP_MEMBERS_MAX: usize = 2_000;

/// Protocols that a member may offer.
pub const MEMBER_PROTOCOLS_MAX: usize = 16;

/// Bytes of the protocols that a member may offer, names and metadata.
pub const MEMBER_METADATA_BYTES_MAX: usize = 256 << 10;

/// Bytes that the members of one group may take, metadata and names: they are written as one record.
pub const GROUP_METADATA_BYTES_MAX: usize = 3 << 20;

/// Bytes that the members of all groups may take.
pub const METADATA_BYTES_MAX: usize = 128 << 20;

/// Offsets of one group.
pub const GROUP_OFFSETS_MAX: usize = 100_000;

/// Bytes of memory that the offsets of all groups may take, names and metadata included.
pub const OFFSETS_BYTES_MAX: usize = 256 << 20;

/// Longest metadata of an offset, in bytes (Kafka's `offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;

/// Shortest session that a member may ask for (Kafka's `group.min.session.timeout.ms`).
pub const SESSION_TIMEOUT_MS_MIN: i32 = 6_000;

/// Longest session that a member may ask for (Kafka's `group.max.session.timeout.ms`).
pub const SESSION_TIMEOUT_MS_MAX: i32 = 1_800_000;

/// Shortest rebalance timeout that is kept to, whatever a member asks for: a group whose members all stay away looks at
/// its clock again after each.
pub const REBALANCE_TIMEOUT_MS_MIN: i32 = 1_000;

/// How long a new member may wait for a rebalance before it is given up: it has no heartbeat yet, and its connection says
/// nothing while it waits (Kafka's `NEW_MEMBER_JOIN_TIMEOUT_MS`).
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 300_000;

/// Pause before a write that the log had no room for is tried again.
pub const WRITE_RETRY_MS: u64 = 1_000;

/// Pause between two searches for offsets that have expired (Kafka's `offsets.retention.check.interval.ms`).
pub const EXPIRY_INTERVAL_MS: u64 = 600_000;

/// Groups that one step of such a search looks at, so that nobody waits for it.
pub const EXPIRY_GROUPS_PER_STEP: usize = 256;

/// Offsets of one group that one search removes at most; the next one goes on.
pub const EXPIRY_OFFSETS_PER_GROUP: usize = 4_000;

/// Pause between two steps.
pub const EXPIRY_STEP_MS: u64 = 50;

/// Bytes of records that one write of a deletion aims at.
pub const DELETION_BYTES_TARGET: usize = 1 << 20;

const _: () = assert!(MEMBER_METADATA_BYTES_MAX <= GROUP_METADATA_BYTES_MAX);
const _: () = assert!(GROUP_METADATA_BYTES_MAX <= METADATA_BYTES_MAX);
// A group's record: what its members take, and assignments, which come in one frame of 1 MiB.
const _: () = assert!(GROUP_METADATA_BYTES_MAX + (2 << 20) <= RECORD_BATCH_BYTES_MAX);
const _: () = assert!(2 * DELETION_BYTES_TARGET <= RECORD_BATCH_BYTES_MAX);

// A search's tombstones of one group are one batch.
const _: () = assert!(
    (EXPIRY_OFFSETS_PER_GROUP + 2) * (GROUP_ID_BYTES_MAX + TOPIC_NAME_BYTES_MAX + 64)
        <= RECORD_BATCH_BYTES_MAX
);

/// Settings of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long an empty group waits for more members after its first one, as Kafka's
    /// `group.initial.rebalance.delay.ms`. Longer saves rebalances when many consumers start, and delays the first
    /// record.
    pub initial_rebalance_delay_ms: u64,
    /// How long offsets are kept after their group became empty (or, of consumers without a group, after the commit), as
    /// Kafka's `offsets.retention.minutes`. Longer costs memory.
    pub offsets_retention_ms: u64,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self { initial_rebalance_delay_ms: 3_000, offsets_retention_ms: 7 * 24 * 3_600_000 }
    }
}
