//! The section UNITS: what concerns the log as a whole.

use wire::time::UnixMs;

use super::{CheckpointErrorKind, CheckpointHead, UnsealedFile};
use crate::fields::{Cursor, i64_at, put, u32_at, u64_at};
use crate::ids::{FileNo, SlotNo, TopicNo, UnitId, UnitNo};
use crate::unit::{UnitKind, UnitMeta};

const HEAD_BYTES: usize = 40;
const UNIT_BYTES: usize = 80;
const UNSEALED_BYTES: usize = 40;

const NAME_WAL: u8 = 0;
const NAME_UNIT: u8 = 1;

/// What the section says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) next_unit: UnitNo,
    pub(super) next_topic: TopicNo,
    pub(super) replay_file: FileNo,
    pub(super) replay_pos: u64,
    pub(super) units: Vec<UnitMeta>,
    pub(super) unsealed: Vec<UnsealedFile>,
}

/// The section's bytes; `None` if it has no room for so much.
pub(super) fn encode(head: &CheckpointHead) -> Option<Vec<u8>> {
    let units = u32::try_from(head.units.len()).ok()?;
    let unsealed = u32::try_from(head.unsealed.len()).ok()?;
    let mut fields = [0; HEAD_BYTES];
    put(&mut fields, 0, head.next_unit.0.to_le_bytes());
    put(&mut fields, 8, head.replay.file_no.0.to_le_bytes());
    put(&mut fields, 16, head.replay.pos.to_le_bytes());
    put(&mut fields, 24, head.next_topic.0.to_le_bytes());
    put(&mut fields, 28, units.to_le_bytes());
    put(&mut fields, 32, unsealed.to_le_bytes());
    let mut out = Vec::new();
    out.extend_from_slice(&fields);
    for unit in &head.units {
        out.extend_from_slice(&encode_unit(unit));
    }
    for file in &head.unsealed {
        out.extend_from_slice(&encode_unsealed(file));
    }
    Some(out)
}

/// The section's length.
pub(super) fn len(head: &CheckpointHead) -> usize {
    HEAD_BYTES + head.units.len() * UNIT_BYTES + head.unsealed.len() * UNSEALED_BYTES
}

pub(super) fn decode(bytes: &[u8]) -> Result<Units, CheckpointErrorKind> {
    let short = CheckpointErrorKind::Inconsistent("the list of units has another length");
    let mut cursor = Cursor::new(bytes);
    let fields: &[u8; HEAD_BYTES] = cursor.take().ok_or(short)?;
    let units = cursor.take_list(u32_at(fields, 28)).ok_or(short)?;
    let unsealed = cursor.take_list(u32_at(fields, 32)).ok_or(short)?;
    if !cursor.is_empty() {
        return Err(short);
    }
    let units: Option<Vec<UnitMeta>> = units.iter().map(decode_unit).collect();
    let units = units.ok_or(CheckpointErrorKind::Inconsistent("a unit of an unknown kind"))?;
    if !units.is_sorted_by(|before, unit| before.id < unit.id) {
        return Err(CheckpointErrorKind::Inconsistent("the units are not in order"));
    }
    let unsealed: Vec<UnsealedFile> = unsealed.iter().map(decode_unsealed).collect();
    if !unsealed.is_sorted_by(|before, file| before.file_no < file.file_no) {
        return Err(CheckpointErrorKind::Inconsistent("the unsealed files are not in order"));
    }
    Ok(Units {
        next_unit: UnitNo(u64_at(fields, 0)),
        next_topic: TopicNo(u32_at(fields, 24)),
        replay_file: FileNo(u64_at(fields, 8)),
        replay_pos: u64_at(fields, 16),
        units,
        unsealed,
    })
}

fn encode_unit(unit: &UnitMeta) -> [u8; UNIT_BYTES] {
    let (name, number) = encode_id(unit.id);
    let mut out = [0; UNIT_BYTES];
    put(&mut out, 0, number.to_le_bytes());
    out[8] = name;
    out[9] = match unit.kind {
        UnitKind::SealedWal => 1,
        UnitKind::Evacuated => 2,
        UnitKind::OnePartition => 3,
        UnitKind::Compacted => 4,
    };
    put(&mut out, 12, unit.crc.to_le_bytes());
    put(&mut out, 16, unit.len.to_le_bytes());
    put(&mut out, 24, unit.entries_off.to_le_bytes());
    put(&mut out, 32, unit.dir_off.to_le_bytes());
    put(&mut out, 40, unit.entry_count.to_le_bytes());
    put(&mut out, 44, unit.dir_count.to_le_bytes());
    put(&mut out, 48, unit.first_slot.0.to_le_bytes());
    put(&mut out, 56, unit.end_slot.0.to_le_bytes());
    put(&mut out, 64, unit.max_append_ms.0.to_le_bytes());
    put(&mut out, 72, unit.setsum.to_le_bytes());
    out
}

fn decode_unit(bytes: &[u8; UNIT_BYTES]) -> Option<UnitMeta> {
    let kind = match bytes[9] {
        1 => UnitKind::SealedWal,
        2 => UnitKind::Evacuated,
        3 => UnitKind::OnePartition,
        4 => UnitKind::Compacted,
        _ => return None,
    };
    Some(UnitMeta {
        id: decode_id(bytes[8], u64_at(bytes, 0))?,
        kind,
        len: u64_at(bytes, 16),
        entries_off: u64_at(bytes, 24),
        dir_off: u64_at(bytes, 32),
        entry_count: u32_at(bytes, 40),
        dir_count: u32_at(bytes, 44),
        first_slot: SlotNo(u64_at(bytes, 48)),
        end_slot: SlotNo(u64_at(bytes, 56)),
        max_append_ms: UnixMs(i64_at(bytes, 64)),
        setsum: u64_at(bytes, 72),
        crc: u32_at(bytes, 12),
    })
}

fn encode_unsealed(file: &UnsealedFile) -> [u8; UNSEALED_BYTES] {
    let mut out = [0; UNSEALED_BYTES];
    put(&mut out, 0, file.file_no.0.to_le_bytes());
    put(&mut out, 8, file.first_slot.0.to_le_bytes());
    put(&mut out, 16, file.end_slot.0.to_le_bytes());
    put(&mut out, 24, file.slots_end.to_le_bytes());
    put(&mut out, 32, file.size.to_le_bytes());
    out
}

fn decode_unsealed(bytes: &[u8; UNSEALED_BYTES]) -> UnsealedFile {
    UnsealedFile {
        file_no: FileNo(u64_at(bytes, 0)),
        first_slot: SlotNo(u64_at(bytes, 8)),
        end_slot: SlotNo(u64_at(bytes, 16)),
        slots_end: u64_at(bytes, 24),
        size: u64_at(bytes, 32),
    }
}

/// The kind of a unit's name, and its number.
pub(super) fn encode_id(id: UnitId) -> (u8, u64) {
    match id {
        UnitId::Wal(file_no) => (NAME_WAL, file_no.0),
        UnitId::Unit(unit_no) => (NAME_UNIT, unit_no.0),
    }
}

pub(super) fn decode_id(name: u8, number: u64) -> Option<UnitId> {
    match name {
        NAME_WAL => Some(UnitId::Wal(FileNo(number))),
        NAME_UNIT => Some(UnitId::Unit(UnitNo(number))),
        _ => None,
    }
}
