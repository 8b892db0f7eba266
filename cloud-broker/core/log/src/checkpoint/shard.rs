//! The section SHARD: the partitions of a shard, and where their idempotent producers stand.

use std::ops::Range;

use bytes::Bytes;

use super::{CheckpointErrorKind, PartitionState};
use crate::checkpoint::{partition, producers};
use crate::fields::{Cursor, put, u32_at};
use crate::ids::{PartitionKey, Shard};

const HEAD_BYTES: usize = 8;

/// What the section of a shard will hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ShardCounts {
    /// Partitions.
    pub(super) partitions: u32,
    /// Partitions with producers.
    pub(super) groups: u32,
    /// Bytes of both.
    pub(super) bytes: usize,
}

impl ShardCounts {
    /// The section's length.
    pub(super) fn len(self) -> usize {
        HEAD_BYTES + self.bytes
    }

    /// What the section begins with.
    pub(super) fn head(self) -> Bytes {
        let mut head = [0; HEAD_BYTES];
        put(&mut head, 0, self.partitions.to_le_bytes());
        put(&mut head, 4, self.groups.to_le_bytes());
        Bytes::copy_from_slice(&head)
    }
}

/// So many bytes of entries are kept together. All in one place would be moved each time that it gets too small, and the engine
/// has answers to give.
const PIECE_BYTES: usize = 256 << 10;

/// Entries of different lengths, one for each of some partitions of any shard. They are written down in the order in which they
/// come: whoever makes a checkpoint has no time to sort them.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pieces: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    shard: Shard,
    key: PartitionKey,
    /// Which piece it lies in.
    piece: usize,
    /// Where in that.
    range: Range<usize>,
}

impl Table {
    /// Adds the entry of a partition, which `write` writes; gives back its length.
    pub(super) fn add<T>(
        &mut self,
        key: PartitionKey,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> (usize, T) {
        if self.pieces.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.pieces.push(Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8));
        }
        let piece = self.pieces.len() - 1;
        let bytes = &mut self.pieces[piece];
        let start = bytes.len();
        let written = write(bytes);
        let range = start..bytes.len();
        let len = range.len();
        self.entries.push(Entry { shard: key.shard(), key, piece, range });
        (len, written)
    }

    /// The entries by shard and partition, without a copy.
    pub(super) fn in_order(self) -> impl Iterator<Item = (Shard, Bytes)> {
        let Self { pieces, mut entries } = self;
        entries.sort_unstable_by_key(|entry| (entry.shard, entry.key));
        let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
        entries
            .into_iter()
            .map(move |Entry { shard, piece, range, .. }| (shard, pieces[piece].slice(range)))
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
