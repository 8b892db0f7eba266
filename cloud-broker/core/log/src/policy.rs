//! How long a topic's records are kept.

/// What retention and key compaction do with a topic. The default keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicPolicy {
    /// Kafka's `retention.ms`, by append time; `None`: for ever. Only set if `cleanup.policy` has `delete`.
    pub retention_ms: Option<u64>,
    /// Kafka's `retention.bytes`, for each partition; `None`: without limit. Only set if `cleanup.policy` has `delete`.
    pub retention_bytes: Option<u64>,
    /// Set if `cleanup.policy` has `compact`.
    pub compact: Option<CompactPolicy>,
}

/// How a topic is compacted by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactPolicy {
    /// Kafka's `min.cleanable.dirty.ratio`, in thousandths.
    pub min_dirty_per_mille: u16,
    /// Kafka's `min.compaction.lag.ms`: records younger than this are left alone.
    pub min_lag_ms: u64,
    /// Kafka's `max.compaction.lag.ms`: a record older than this is compacted, however small the dirty part is.
    pub max_lag_ms: u64,
    /// Kafka's `delete.retention.ms`: how long a tombstone stays once it is the last record of its key (KIP-534).
    pub delete_retention_ms: u64,
}
