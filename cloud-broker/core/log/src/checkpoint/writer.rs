//! Making a checkpoint.

use bytes::Bytes;

use super::error::SectionTooLarge;
use super::header::{CheckpointIndex, SECTION_BYTES_MAX, Section, SectionKind, crc32c_of};
use super::shard::ShardPart;
use super::{CheckpointHead, PartitionState, ProducerState, partition, producers, units};
use crate::ids::{PartitionKey, SHARDS, Shard};

/// Lays a checkpoint out. Call [`CheckpointWriter::producers`] when the last slot that the checkpoint covers is staged,
/// [`CheckpointWriter::partition`] for every partition and [`CheckpointWriter::finish`] when that slot is durable.
///
/// It runs on the engine's task, so it copies each state once and sorts nothing that comes in order.
#[derive(Debug)]
pub struct CheckpointWriter {
    /// One for each shard.
    shards: Vec<ShardPart>,
    too_large: Option<SectionTooLarge>,
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
        let shards = (0..SHARDS).map(|_| ShardPart::default()).collect();
        Self { shards, too_large: None }
    }

    /// Adds the producers of a partition, sorted by id; once for each partition. A partition that is not added later takes
    /// them along into nothing.
    pub fn producers(&mut self, key: PartitionKey, known: &[ProducerState]) {
        if !known.is_empty() {
            let part = &mut self.shards[usize::from(key.shard().0)];
            producers::encode(key, known, part.groups.entry(key));
        }
    }

    /// Adds a partition, once; in any order, fastest in that of keys. Its producers are added too, unless there are none in
    /// `state`.
    pub fn partition(&mut self, state: &PartitionState) {
        debug_assert_eq!(state.inconsistency(), None, "{state:?}");
        self.producers(state.key, &state.producers);
        let shard = state.key.shard();
        let part = &mut self.shards[usize::from(shard.0)];
        if partition::encode(state, part.partitions.entry(state.key)).is_none() {
            self.too_large = Some(SectionTooLarge::Shard(shard));
        }
    }

    /// The checkpoint's bytes in parts, one behind the other.
    ///
    /// # Errors
    /// [`SectionTooLarge`].
    ///
    /// # Panics
    /// If replay is to go on in another incarnation's chain than the checkpoint's own: there is one field for both.
    pub fn finish(self, head: &CheckpointHead) -> Result<Vec<Bytes>, SectionTooLarge> {
        assert_eq!(head.id.incarnation, head.replay.incarnation, "a checkpoint of another's chain");
        debug_assert!(head.units.is_sorted_by(|before, unit| before.id < unit.id));
        debug_assert!(head.unsealed.is_sorted_by(|before, file| before.file_no < file.file_no));
        if let Some(too_large) = self.too_large {
            return Err(too_large);
        }
        let units = units::encode(head).ok_or(SectionTooLarge::Units)?;
        let mut parts = vec![Bytes::new()];
        let mut sections = Vec::new();
        let section = add_section(SectionKind::Units, vec![units], &mut parts);
        sections.push(section.ok_or(SectionTooLarge::Units)?);
        for (number, part) in (0..SHARDS).zip(self.shards) {
            if part.partitions.is_empty() {
                continue;
            }
            let shard = Shard(number);
            let section = part
                .finish()
                .and_then(|section| add_section(SectionKind::Shard(shard), section, &mut parts));
            sections.push(section.ok_or(SectionTooLarge::Shard(shard))?);
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
    kind: SectionKind,
    section: impl IntoIterator<Item = Vec<u8>>,
    parts: &mut Vec<Bytes>,
) -> Option<Section> {
    let first = parts.len();
    parts.extend(section.into_iter().map(Bytes::from));
    let section = &parts[first..];
    let len = section_len(section.iter().map(Bytes::len).sum())?;
    let crc = crc32c_of(section.iter().map(|part| &part[..]));
    Some(Section { kind, pos: 0, len, crc })
}

/// A section's length as the directory has it; `None` beyond [`SECTION_BYTES_MAX`].
fn section_len(bytes: usize) -> Option<u32> {
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= SECTION_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_a_limit() {
        let most = SECTION_BYTES_MAX as usize;
        assert_eq!(section_len(most), Some(SECTION_BYTES_MAX));
        assert_eq!(section_len(most + 1), None);
    }
}
