//! The last 64 bytes of a unit (docs/formats/unit.md, "Trailer").

use wire::time::UnixMs;

use super::table::SHARD_ROW_BYTES;
use super::{UnitKind, UnitMeta};
use crate::fields::{field, put, u16_at, u32_at, u64_at};
use crate::ids::{SlotNo, UnitId};
use crate::slot::RUN_ENTRY_BYTES;

/// Bytes of a trailer.
pub(super) const TRAILER_BYTES: usize = 64;

/// The version that this crate writes and reads.
pub(super) const UNIT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"CVU1";
const CRC_AT: usize = 60;

/// Why bytes are not a trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrailerError {
    /// Not a trailer, or one that contradicts the file.
    Invalid,
    /// Another version wrote it.
    Version(u16),
}

/// The trailer of a unit with this directory, and its CRC; `meta.crc` is not looked at.
pub(super) fn encode(meta: &UnitMeta, directory: &[u8]) -> ([u8; TRAILER_BYTES], u32) {
    let mut out = [0; TRAILER_BYTES];
    put(&mut out, 0, MAGIC);
    put(&mut out, 4, UNIT_VERSION.to_le_bytes());
    out[6] = match meta.kind {
        UnitKind::SealedWal => 1,
        UnitKind::Evacuated => 2,
        UnitKind::OnePartition => 3,
        UnitKind::Compacted => 4,
    };
    put(&mut out, 8, meta.entries_off.to_le_bytes());
    put(&mut out, 16, meta.dir_off.to_le_bytes());
    put(&mut out, 24, meta.first_slot.0.to_le_bytes());
    put(&mut out, 32, meta.end_slot.0.to_le_bytes());
    put(&mut out, 40, meta.entry_count.to_le_bytes());
    put(&mut out, 44, meta.dir_count.to_le_bytes());
    put(&mut out, 48, meta.setsum.to_le_bytes());
    let crc = crc_of(directory, &out);
    put(&mut out, CRC_AT, crc.to_le_bytes());
    (out, crc)
}

/// Reads the trailer of the unit `id` of `len` bytes. Its CRC is for [`crc_of`] to check, once the directory was read.
/// The time of the latest commit is not in it.
pub(super) fn decode(
    id: UnitId,
    len: u64,
    bytes: &[u8; TRAILER_BYTES],
) -> Result<UnitMeta, TrailerError> {
    if field(bytes, 0) != MAGIC {
        return Err(TrailerError::Invalid);
    }
    let version = u16_at(bytes, 4);
    if version != UNIT_VERSION {
        return Err(TrailerError::Version(version));
    }
    let meta = UnitMeta {
        id,
        kind: match bytes[6] {
            1 => UnitKind::SealedWal,
            2 => UnitKind::Evacuated,
            3 => UnitKind::OnePartition,
            4 => UnitKind::Compacted,
            _ => return Err(TrailerError::Invalid),
        },
        len,
        entries_off: u64_at(bytes, 8),
        dir_off: u64_at(bytes, 16),
        first_slot: SlotNo(u64_at(bytes, 24)),
        end_slot: SlotNo(u64_at(bytes, 32)),
        entry_count: u32_at(bytes, 40),
        dir_count: u32_at(bytes, 44),
        max_append_ms: UnixMs(0),
        setsum: u64_at(bytes, 48),
        crc: u32_at(bytes, CRC_AT),
    };
    if fits(&meta) { Ok(meta) } else { Err(TrailerError::Invalid) }
}

/// The CRC of a trailer: over the directory and everything before itself.
pub(super) fn crc_of(directory: &[u8], trailer: &[u8; TRAILER_BYTES]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(directory);
    digest.update(&trailer[..CRC_AT]);
    u32::try_from(digest.finalize()).expect("a 32-bit CRC fits 32 bits")
}

/// Whether the parts that `meta` tells of fill the end of the file.
fn fits(meta: &UnitMeta) -> bool {
    let entries = u64::from(meta.entry_count) * RUN_ENTRY_BYTES as u64;
    let directory = u64::from(meta.dir_count) * SHARD_ROW_BYTES as u64;
    meta.entries_off.checked_add(entries) == Some(meta.dir_off)
        && meta.dir_off.checked_add(directory + TRAILER_BYTES as u64) == Some(meta.len)
}
