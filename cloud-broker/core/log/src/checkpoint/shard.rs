//! The section SHARD: the partitions of a shard, and where their idempotent producers stand.

use super::{CheckpointErrorKind, PartitionState};
use crate::checkpoint::{partition, producers};
use crate::fields::{Cursor, put, u32_at};
use crate::ids::{PartitionKey, Shard};

const HEAD_BYTES: usize = 8;

/// A shard's section while it is made.
#[derive(Debug, Clone, Default)]
pub(super) struct ShardPart {
    /// What is known of each partition.
    pub(super) partitions: Table,
    /// The producers of each partition.
    pub(super) groups: Table,
}

impl ShardPart {
    /// The section's length.
    pub(super) fn len(&self) -> usize {
        HEAD_BYTES + self.partitions.bytes.len() + self.groups.bytes.len()
    }

    /// The section in parts, one behind the other; `None` if there are too many partitions for it.
    pub(super) fn finish(self) -> Option<[Vec<u8>; 3]> {
        let mut head = [0; HEAD_BYTES];
        put(&mut head, 0, u32::try_from(self.partitions.starts.len()).ok()?.to_le_bytes());
        put(&mut head, 4, u32::try_from(self.groups.starts.len()).ok()?.to_le_bytes());
        Some([head.to_vec(), self.partitions.in_order(), self.groups.in_order()])
    }
}

/// Entries of different lengths, one for each of some partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Where the entry of each partition begins.
    starts: Vec<(PartitionKey, usize)>,
}

impl Table {
    /// Where to write the entry of a partition.
    pub(super) fn entry(&mut self, key: PartitionKey) -> &mut Vec<u8> {
        self.starts.push((key, self.bytes.len()));
        &mut self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    fn in_order(mut self) -> Vec<u8> {
        if self.starts.is_sorted() {
            return self.bytes;
        }
        let ends = self.starts.iter().skip(1).map(|(_, start)| *start).chain([self.bytes.len()]);
        let mut entries: Vec<_> =
            self.starts.iter().zip(ends).map(|((key, start), end)| (*key, *start..end)).collect();
        entries.sort_by_key(|(key, _)| *key);
        let mut out = Vec::with_capacity(self.bytes.len());
        for (_, range) in entries {
            out.extend_from_slice(&self.bytes[range]);
        }
        self.bytes = out;
        self.bytes
    }
}

/// Reads the partitions of a section, sorted by key; each is this shard's and consistent in itself.
pub(super) fn decode(
    shard: Shard,
    bytes: &[u8],
) -> Result<Vec<PartitionState>, CheckpointErrorKind> {
    use CheckpointErrorKind::Inconsistent;
    let short = Inconsistent("a shard's section has another length");
    let mut cursor = Cursor::new(bytes);
    let head: &[u8; HEAD_BYTES] = cursor.take().ok_or(short)?;
    // Grows as partitions are read: the count alone allocates nothing.
    let mut states: Vec<PartitionState> = Vec::new();
    for _ in 0..u32_at(head, 0) {
        let state = partition::decode(&mut cursor)?;
        if state.key.shard() != shard {
            return Err(Inconsistent("a partition of another shard"));
        }
        if states.last().is_some_and(|last| last.key >= state.key) {
            return Err(Inconsistent("the partitions are not in order"));
        }
        states.push(state);
    }
    let mut last = None;
    for _ in 0..u32_at(head, 4) {
        let (key, known) = producers::decode(&mut cursor)?;
        if last >= Some(key) {
            return Err(Inconsistent("the groups of producers are not in order"));
        }
        last = Some(key);
        if let Ok(at) = states.binary_search_by_key(&key, |state| state.key) {
            states[at].producers = known;
        }
    }
    if cursor.is_empty() { Ok(states) } else { Err(short) }
}
