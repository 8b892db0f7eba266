//! Making a checkpoint.

use std::iter;

use bytes::Bytes;

use super::error::SectionTooLarge;
use super::header::{
    CheckpointIndex, SECTION_BYTES_MAX, Section, SectionKind, crc32c_of, index_len,
};
use super::shard::{ShardCounts, Table};
use super::{CheckpointHead, PartitionState, ProducerState, partition, producers, units};
use crate::ids::{PartitionKey, SHARDS, Shard};

/// So many shards are laid out before others may have the processor.
const SHARDS_PER_BREATH: u16 = 64;

/// Lays a checkpoint out. Call [`CheckpointWriter::producers`] when the last slot that the checkpoint covers is staged,
/// [`CheckpointWriter::partition`] for every partition and [`CheckpointWriter::finish`] when that slot is durable.
///
/// It runs on the engine's task, so it copies each state once and sorts nothing that comes in order.
#[derive(Debug, Clone)]
pub struct CheckpointWriter {
    /// What is known of each partition.
    partitions: Table,
    /// The producers of each partition.
    groups: Table,
    /// One for each shard.
    shards: Vec<ShardCounts>,
    too_large: Option<SectionTooLarge>,
    section_bytes_max: u32,
}

impl Default for CheckpointWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckpointWriter {
    /// A checkpoint without a partition.
    #[must_use]
    pub fn new() -> Self {
        Self::with_section_bytes_max(SECTION_BYTES_MAX)
    }

    /// One whose sections are no longer than this.
    pub(crate) fn with_section_bytes_max(section_bytes_max: u32) -> Self {
        let shards = vec![ShardCounts::default(); usize::from(SHARDS)];
        let (partitions, groups) = (Table::default(), Table::default());
        Self { partitions, groups, shards, too_large: None, section_bytes_max }
    }

    /// Adds the producers of a partition, sorted by id; once for each partition. A partition that is not added later takes
    /// them along into nothing.
    pub fn producers(&mut self, key: PartitionKey, known: &[ProducerState]) {
        if !known.is_empty() {
            let (bytes, ()) = self.groups.add(key, |out| producers::encode(key, known, out));
            let counts = &mut self.shards[usize::from(key.shard().0)];
            counts.groups += 1;
            counts.bytes += bytes;
        }
    }

    /// Adds a partition, once; in any order, fastest in that of keys. Its producers are added too, unless there are none in
    /// `state`.
    pub fn partition(&mut self, state: &PartitionState) {
        debug_assert_eq!(state.inconsistency(), None, "{state:?}");
        self.producers(state.key, &state.producers);
        let shard = state.key.shard();
        let (bytes, encoded) = self.partitions.add(state.key, |out| partition::encode(state, out));
        if encoded.is_none() {
            self.too_large = Some(SectionTooLarge::Shard(shard));
        }
        let counts = &mut self.shards[usize::from(shard.0)];
        counts.partitions += 1;
        counts.bytes += bytes;
    }

    /// Bytes of the checkpoint as it is by now.
    #[must_use]
    pub fn len(&self, head: &CheckpointHead) -> u64 {
        let shards = self.shards.iter().filter(|counts| counts.partitions > 0);
        let (count, bytes) =
            shards.fold((0, 0), |(count, bytes), counts| (count + 1, bytes + counts.len()));
        (index_len(1 + count) + units::len(head) + bytes) as u64
    }

    /// The checkpoint's bytes in parts, one behind the other.
    ///
    /// # Errors
    /// [`SectionTooLarge`].
    ///
    /// # Panics
    /// If replay is to go on in another incarnation's chain than the checkpoint's own: there is one field for both.
    pub fn finish(self, head: &CheckpointHead) -> Result<Vec<Bytes>, SectionTooLarge> {
        self.finish_with(head, || {})
    }

    /// The same; calls `breathe` after every few shards.
    pub(crate) fn finish_with(
        self,
        head: &CheckpointHead,
        mut breathe: impl FnMut(),
    ) -> Result<Vec<Bytes>, SectionTooLarge> {
        assert_eq!(head.id.incarnation, head.replay.incarnation, "a checkpoint of another's chain");
        debug_assert!(head.units.is_sorted_by(|before, unit| before.id < unit.id));
        debug_assert!(head.unsealed.is_sorted_by(|before, file| before.file_no < file.file_no));
        if let Some(too_large) = self.too_large {
            return Err(too_large);
        }
        let units = units::encode(head).ok_or(SectionTooLarge::Units)?;
        let mut parts = vec![Bytes::new()];
        let mut sections = Vec::new();
        let mut add =
            |kind, section| add_section((kind, section), self.section_bytes_max, &mut parts);
        let section = add(SectionKind::Units, vec![units.into()]);
        sections.push(section.ok_or(SectionTooLarge::Units)?);
        let mut partitions = self.partitions.in_order().peekable();
        let mut groups = self.groups.in_order().peekable();
        for (shard, counts) in (0..SHARDS).map(Shard).zip(self.shards) {
            if shard.0 % SHARDS_PER_BREATH == 0 {
                breathe();
            }
            let mut section = vec![counts.head()];
            section.extend(
                iter::from_fn(|| partitions.next_if(|(of, _)| *of == shard))
                    .map(|(_, entry)| entry),
            );
            section.extend(
                iter::from_fn(|| groups.next_if(|(of, _)| *of == shard)).map(|(_, entry)| entry),
            );
            if counts.partitions > 0 {
                let section = add(SectionKind::Shard(shard), section);
                sections.push(section.ok_or(SectionTooLarge::Shard(shard))?);
            }
        }
        let index = CheckpointIndex {
            id: head.id,
            replay_slot: head.replay.slot_no,
            prev_crc: head.replay.prev_crc,
            leader_epoch: head.replay.leader_epoch,
            gc_slot: head.gc_slot,
            sections,
        };
        parts[0] = index.encode().into();
        Ok(parts)
    }
}

/// Adds a section's bytes to `parts`; `None` if they are too many for one. Where it lies, the directory says.
fn add_section(
    (kind, section): (SectionKind, Vec<Bytes>),
    bytes_max: u32,
    parts: &mut Vec<Bytes>,
) -> Option<Section> {
    let first = parts.len();
    parts.extend(section);
    let section = &parts[first..];
    let len = section_len(section.iter().map(Bytes::len).sum(), bytes_max)?;
    let crc = crc32c_of(section.iter().map(|part| &part[..]));
    Some(Section { kind, pos: 0, len, crc })
}

/// A section's length as the directory has it; `None` beyond `bytes_max`.
fn section_len(bytes: usize, bytes_max: u32) -> Option<u32> {
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_a_limit() {
        let most = SECTION_BYTES_MAX as usize;
        assert_eq!(section_len(most, SECTION_BYTES_MAX), Some(SECTION_BYTES_MAX));
        assert_eq!(section_len(most + 1, SECTION_BYTES_MAX), None);
    }
}
