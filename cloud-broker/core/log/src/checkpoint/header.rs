//! A checkpoint's header and directory: what it is and where its sections lie.

use wire::ids::Incarnation;
use wire::offset::LeaderEpoch;
use wire::record_batch::crc32c;

use super::error::{CheckpointError, CheckpointErrorKind};
use crate::fields::{field, put, u16_at, u32_at, u64_at};
use crate::ids::{SHARDS, Shard, SlotNo};
use crate::store::CheckpointId;

/// The version that this crate writes and reads.
pub const CHECKPOINT_VERSION: u16 = 1;

/// Bytes of the header; the directory follows.
pub const CHECKPOINT_HEADER_BYTES: usize = 64;

/// Bytes of one entry of the directory.
const ENTRY_BYTES: usize = 32;

/// Sections of one checkpoint. Bounds the directory, which is read before its CRC can be checked.
pub const SECTIONS_MAX: u32 = 1 << 16;

/// Bytes of a section. The directory has 32 bits for them; half of what that allows fits a buffer wherever it is read.
pub(super) const SECTION_BYTES_MAX: u32 = u32::MAX >> 1;

// The shards and the list of units.
const _: () = assert!((SHARDS as u32) < SECTIONS_MAX);

const MAGIC: [u8; 4] = *b"CVC1";
const CRC_AT: usize = 60;

const KIND_UNITS: u16 = 1;
const KIND_SHARD: u16 = 2;

/// What a section holds. Sorted as in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SectionKind {
    /// The units, and what else concerns the log as a whole.
    Units,
    /// The partitions of a shard.
    Shard(Shard),
}

impl SectionKind {
    fn encode(self) -> (u16, u32) {
        match self {
            Self::Units => (KIND_UNITS, 0),
            Self::Shard(shard) => (KIND_SHARD, u32::from(shard.0)),
        }
    }

    fn decode(kind: u16, id: u32) -> Result<Self, CheckpointErrorKind> {
        match kind {
            KIND_UNITS if id == 0 => Ok(Self::Units),
            KIND_SHARD if id < u32::from(SHARDS) => {
                let shard = u16::try_from(id).expect("below SHARDS");
                Ok(Self::Shard(Shard(shard)))
            }
            KIND_UNITS | KIND_SHARD => {
                Err(CheckpointErrorKind::Inconsistent("a section of no such shard"))
            }
            _ => Err(CheckpointErrorKind::SectionKind(kind)),
        }
    }
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// First byte in the file.
    pub pos: u64,
    /// Bytes.
    pub len: u32,
    /// CRC over them.
    pub crc: u32,
}

impl Section {
    /// The byte behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.pos.saturating_add(u64::from(self.len))
    }

    /// Its bytes in those of the whole file: fewer, if the file is cut off.
    pub(super) fn of<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let end = usize::try_from(self.end()).unwrap_or(usize::MAX).min(file.len());
        let start = usize::try_from(self.pos).unwrap_or(usize::MAX).min(end);
        &file[start..end]
    }

    /// Checks that `bytes` are this section's, and returns them.
    ///
    /// # Errors
    /// [`CheckpointErrorKind::Crc`], [`CheckpointErrorKind::Length`].
    pub fn check<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], CheckpointError> {
        if bytes.len() != self.len as usize {
            return Err(self.error(CheckpointErrorKind::Length));
        }
        if crc32c(bytes) == self.crc {
            Ok(bytes)
        } else {
            Err(self.error(CheckpointErrorKind::Crc))
        }
    }

    /// That something is wrong with it.
    pub(super) fn error(&self, kind: CheckpointErrorKind) -> CheckpointError {
        CheckpointError { from: self.pos, to: self.end(), kind }
    }
}

/// A checkpoint's header and directory. Enough to read any one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointIndex {
    /// Which.
    pub id: CheckpointId,
    /// The first slot that it does not cover, in the chain of the same incarnation.
    pub replay_slot: SlotNo,
    /// The CRC of the slot before that.
    pub prev_crc: u32,
    /// The incarnation's leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// No checkpoint that is kept needs a slot below this one.
    pub gc_slot: SlotNo,
    /// The sections: the units, then the shards in their order; one behind the other to the end of the file.
    pub sections: Vec<Section>,
}

impl CheckpointIndex {
    /// Bytes of the header and the directory, as the header at the start of `bytes` has it.
    ///
    /// # Errors
    /// [`CheckpointError`] if no checkpoint begins so.
    pub fn len_in(bytes: &[u8]) -> Result<usize, CheckpointError> {
        let error = |kind| CheckpointError { from: 0, to: CHECKPOINT_HEADER_BYTES as u64, kind };
        let header: &[u8; CHECKPOINT_HEADER_BYTES] =
            bytes.first_chunk().ok_or(error(CheckpointErrorKind::Length))?;
        if field(header, 0) != MAGIC {
            return Err(error(CheckpointErrorKind::NotACheckpoint));
        }
        let sections = u32_at(header, 48);
        // Nothing vouches for this number before the CRC over as many entries does.
        if sections > SECTIONS_MAX {
            return Err(error(CheckpointErrorKind::Crc));
        }
        Ok(index_len(sections as usize))
    }

    /// Reads header and directory at the start of `bytes`, which need not hold more.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let len = Self::len_in(bytes)?;
        let error = |kind| CheckpointError { from: 0, to: len as u64, kind };
        let (header, directory) = bytes
            .get(..len)
            .and_then(|index| index.split_first_chunk::<CHECKPOINT_HEADER_BYTES>())
            .ok_or(error(CheckpointErrorKind::Length))?;
        if crc_of(header, directory) != u32_at(header, CRC_AT) {
            return Err(error(CheckpointErrorKind::Crc));
        }
        let version = u16_at(header, 4);
        if version != CHECKPOINT_VERSION {
            return Err(error(CheckpointErrorKind::Version(version)));
        }
        let replay_slot = SlotNo(u64_at(header, 32));
        let sections = decode_directory(directory, replay_slot).map_err(error)?;
        Ok(Self {
            id: CheckpointId { incarnation: Incarnation(field(header, 8)), n: u64_at(header, 24) },
            replay_slot,
            prev_crc: u32_at(header, 52),
            leader_epoch: LeaderEpoch(i32::from_le_bytes(field(header, 56))),
            gc_slot: SlotNo(u64_at(header, 40)),
            sections,
        })
    }

    /// The bytes of header and directory. Every section's position follows from the lengths; the ones in `self` are not
    /// looked at.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut header = [0; CHECKPOINT_HEADER_BYTES];
        put(&mut header, 0, MAGIC);
        put(&mut header, 4, CHECKPOINT_VERSION.to_le_bytes());
        put(&mut header, 8, self.id.incarnation.0);
        put(&mut header, 24, self.id.n.to_le_bytes());
        put(&mut header, 32, self.replay_slot.0.to_le_bytes());
        put(&mut header, 40, self.gc_slot.0.to_le_bytes());
        let sections = u32::try_from(self.sections.len()).expect("units and shards");
        put(&mut header, 48, sections.to_le_bytes());
        put(&mut header, 52, self.prev_crc.to_le_bytes());
        put(&mut header, 56, self.leader_epoch.0.to_le_bytes());

        let mut out = header.to_vec();
        let mut pos = index_len(self.sections.len()) as u64;
        for section in &self.sections {
            let (kind, id) = section.kind.encode();
            let mut entry = [0; ENTRY_BYTES];
            put(&mut entry, 0, kind.to_le_bytes());
            put(&mut entry, 4, id.to_le_bytes());
            put(&mut entry, 8, self.replay_slot.0.to_le_bytes());
            put(&mut entry, 16, pos.to_le_bytes());
            put(&mut entry, 24, section.len.to_le_bytes());
            put(&mut entry, 28, section.crc.to_le_bytes());
            out.extend_from_slice(&entry);
            pos += u64::from(section.len);
        }
        let crc = crc_of(&header, &out[CHECKPOINT_HEADER_BYTES..]);
        out[CRC_AT..CHECKPOINT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks that the sections end where a file of `len` bytes does.
    ///
    /// # Errors
    /// [`CheckpointErrorKind::Length`], with the bytes that are missing or too many.
    pub fn check_len(&self, len: u64) -> Result<(), CheckpointError> {
        let end = self.sections.last().map_or(index_len(0) as u64, Section::end);
        if end == len {
            return Ok(());
        }
        let kind = CheckpointErrorKind::Length;
        Err(CheckpointError { from: end.min(len), to: end.max(len), kind })
    }
}

pub(super) fn index_len(sections: usize) -> usize {
    CHECKPOINT_HEADER_BYTES + sections * ENTRY_BYTES
}

fn decode_directory(
    directory: &[u8],
    replay_slot: SlotNo,
) -> Result<Vec<Section>, CheckpointErrorKind> {
    let (entries, _) = directory.as_chunks::<ENTRY_BYTES>();
    let mut sections: Vec<Section> = Vec::with_capacity(entries.len());
    let mut pos = index_len(entries.len()) as u64;
    for entry in entries {
        let kind = SectionKind::decode(u16_at(entry, 0), u32_at(entry, 4))?;
        let section = Section {
            kind,
            pos: u64_at(entry, 16),
            len: u32_at(entry, 24),
            crc: u32_at(entry, 28),
        };
        let follows = section.pos == pos && sections.last().is_none_or(|last| last.kind < kind);
        if !follows || SlotNo(u64_at(entry, 8)) != replay_slot {
            return Err(CheckpointErrorKind::Inconsistent("the directory is not in order"));
        }
        if section.len > SECTION_BYTES_MAX {
            return Err(CheckpointErrorKind::Inconsistent("a section that is too long"));
        }
        pos = section.end();
        sections.push(section);
    }
    match sections.first().map(|section| section.kind) {
        Some(SectionKind::Units) => Ok(sections),
        Some(SectionKind::Shard(_)) | None => {
            Err(CheckpointErrorKind::Inconsistent("there is no list of units"))
        }
    }
}

/// The CRC of header and directory: over everything but the CRC field itself.
fn crc_of(header: &[u8; CHECKPOINT_HEADER_BYTES], directory: &[u8]) -> u32 {
    crc32c_of([&header[..CRC_AT], directory])
}

/// CRC-32C over parts that lie one behind the other in the file.
pub(super) fn crc32c_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a 32-bit CRC fits 32 bits")
}
