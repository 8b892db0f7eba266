//! Kafka's group coordinator as a replayed state machine: members of classic groups, and committed offsets.
//!
//! Everything that must survive is a record of `__consumer_offsets`, in Kafka's own formats ([`Record`]), and changes only
//! by applying such records: at start those of the log, later each one when it is appended. What Kafka keeps in memory
//! only (who waits for a rebalance, sessions) lives beside it and begins afresh.
//!
//! How it is driven: [`Coordinator::new`] knows nothing; for each partition of the topic, [`Coordinator::replay`] its
//! records and then say [`Coordinator::loaded`]. After that, call the methods that requests stand for and
//! [`Coordinator::handle_deadlines`] when [`Coordinator::next_deadline`] has come. After each of these calls take every
//! [`Write`], append it and report [`Coordinator::appended`] or [`Coordinator::refused`]; then take every answer. An
//! answer may leave when everything appended before it was taken is durable.
//!
//! Invariants: the members of a group get the assignment of one generation or none; nothing of an older generation
//! commits; the same calls give the same writes and answers; every limit is a constant in `settings`.
//!
//! Deliberately missing: Kafka's wire protocol, the log, topics; what a member's metadata and assignment mean (they are
//! opaque bytes); groups of the newer protocol (KIP-848), transactions.

mod committed;
mod coordinator;
mod error;
mod group;
mod ids;
mod outbox;
mod placement;
mod record;
mod request;
mod settings;
mod timers;

pub use committed::CommittedGroups;
pub use coordinator::{Coordinator, GroupDescription, GroupListing, MemberDescription, Now};
pub use error::GroupError;
pub use ids::{GroupId, InstanceId, MemberId, TopicName};
pub use outbox::{Answer, Joined, JoinedMember, OffsetVerdict, Synced, Write};
pub use placement::partition_of;
pub use record::{CommittedOffset, GroupMetadata, Record, RecordError, SavedMember};
pub use request::{
    CommitOffsets, DeleteOffsets, Heartbeat, JoinGroup, MemberName, OffsetToCommit, OffsetToDelete,
    Protocol, SyncGroup,
};
pub use settings::{
    GROUP_ID_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, GROUP_OFFSETS_MAX, GROUPS_MAX,
    GroupSettings, MEMBER_METADATA_BYTES_MAX, MEMBER_PROTOCOLS_MAX, METADATA_BYTES_MAX,
    OFFSET_METADATA_BYTES_MAX, OFFSETS_BYTES_MAX, OFFSETS_TOPIC, SESSION_TIMEOUT_MS_MAX,
    SESSION_TIMEOUT_MS_MIN,
};
