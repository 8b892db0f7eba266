//! A slot: what one commit writes (docs/formats/wal.md, "Slot"). The same bytes go to a file or an object.
//!
//! A slot is only what it claims to be if magic, CRC, incarnation, number and the previous slot's CRC all fit: that is
//! what tells it from the stale content of a recycled file. [`Slot::decode`] checks all of them and the layout inside.

mod buffer;
mod control;
mod encode;
mod entries;

use wire::ids::Incarnation;
use wire::time::UnixMs;

pub use control::{ALL_SHARDS, ControlBody, Open, Predecessor, ShardEpoch};
pub use encode::{BatchToPlace, EncodedSlot, encode_control, encode_data};
pub use entries::{RunEntry, RunFlags, UplinkEntry};

use crate::fields::{field, i64_at, put, u16_at, u32_at, u64_at};
use crate::ids::SlotNo;
pub(crate) use entries::RUN_ENTRY_BYTES;
use entries::UPLINK_ENTRY_BYTES;

/// The version that this crate writes and reads.
pub const SLOT_VERSION: u16 = 1;

/// Bytes before a slot's body.
pub const SLOT_HEADER_BYTES: usize = 64;

/// Slots begin at multiples of this in their file, and are padded with zeros up to the next one: unaligned slots made a
/// commit into a cold file three times as expensive.
pub const SLOT_ALIGN: usize = 4096;

/// Largest slot, in bytes.
pub const SLOT_BYTES_MAX: usize = 16 << 20;

/// What the entries of one batch take up in a slot at most, in bytes.
pub(crate) const ENTRY_BYTES_PER_BATCH: usize = RUN_ENTRY_BYTES + UPLINK_ENTRY_BYTES;

const MAGIC: [u8; 4] = *b"CVS1";
const CRC_AT: usize = 60;

const KIND_DATA: u8 = 1;
const KIND_OPEN: u8 = 2;
const KIND_RELEASE: u8 = 3;
const KIND_SEAL: u8 = 4;

/// What every slot says, whatever is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHead {
    /// Whose chain.
    pub incarnation: Incarnation,
    /// Which slot of it.
    pub slot_no: SlotNo,
    /// CRC of the slot before it; 0 for the first.
    pub prev_crc: u32,
    /// Wall time of the commit.
    pub append_ms: UnixMs,
}

/// Which slot a reader expects at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedSlot {
    /// Whose chain.
    pub incarnation: Incarnation,
    /// Which slot of it.
    pub slot_no: SlotNo,
    /// CRC of the slot before it; 0 for the first.
    pub prev_crc: u32,
}

/// Why bytes are not the slot that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The CRC does not match: torn or damaged.
    #[error("the slot's CRC does not match")]
    Crc,
    /// CRC and chain fit, but the inside contradicts itself: the program that wrote it was wrong.
    #[error("the slot contradicts itself")]
    Layout,
    /// Not the start of a slot, or cut off.
    #[error("no slot begins here")]
    Missing,
    /// An intact slot, but not the expected one: what a recycled file held before.
    #[error("another slot than the expected one")]
    Stale,
    /// Another version wrote it: use that version.
    #[error("slot of version {0}; this program reads version {SLOT_VERSION}")]
    Version(u16),
}

/// The first 64 bytes of a slot, not yet checked against the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotHeader {
    /// What every slot says.
    pub head: SlotHead,
    /// Bytes without padding; within [`SLOT_BYTES_MAX`].
    pub total_len: usize,
    /// CRC of everything but itself.
    pub crc: u32,
    version: u16,
    kind: u8,
    run_count: u32,
    uplink_count: u32,
}

impl SlotHeader {
    /// Reads the header at the start of `bytes`, which need not hold more than it.
    ///
    /// # Errors
    /// [`SlotError::Missing`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SlotError> {
        let fields: &[u8; SLOT_HEADER_BYTES] = bytes.first_chunk().ok_or(SlotError::Missing)?;
        let total_len = u32_at(fields, 32) as usize;
        let plausible = (SLOT_HEADER_BYTES..=SLOT_BYTES_MAX).contains(&total_len);
        if field(fields, 0) != MAGIC || !plausible {
            return Err(SlotError::Missing);
        }
        Ok(Self {
            head: SlotHead {
                incarnation: Incarnation(field(fields, 8)),
                slot_no: SlotNo(u64_at(fields, 24)),
                prev_crc: u32_at(fields, 40),
                append_ms: UnixMs(i64_at(fields, 48)),
            },
            total_len,
            crc: u32_at(fields, CRC_AT),
            version: u16_at(fields, 4),
            kind: fields[6],
            run_count: u32_at(fields, 36),
            uplink_count: u32_at(fields, 44),
        })
    }

    /// Bytes with padding.
    #[must_use]
    pub fn padded_len(&self) -> usize {
        self.total_len.next_multiple_of(SLOT_ALIGN)
    }

    /// Checks the CRC over `slot`, the bytes that this header was parsed from.
    ///
    /// # Errors
    /// [`SlotError::Missing`] if the slot is cut off, [`SlotError::Crc`].
    pub fn check_crc(&self, slot: &[u8]) -> Result<(), SlotError> {
        let slot = slot.get(..self.total_len).ok_or(SlotError::Missing)?;
        if crc_of(slot) == self.crc { Ok(()) } else { Err(SlotError::Crc) }
    }

    fn write(&self, out: &mut [u8; SLOT_HEADER_BYTES]) {
        put(out, 0, MAGIC);
        put(out, 4, self.version.to_le_bytes());
        out[6] = self.kind;
        put(out, 8, self.head.incarnation.0);
        put(out, 24, self.head.slot_no.0.to_le_bytes());
        let total_len = u32::try_from(self.total_len).expect("at most SLOT_BYTES_MAX");
        put(out, 32, total_len.to_le_bytes());
        put(out, 36, self.run_count.to_le_bytes());
        put(out, 40, self.head.prev_crc.to_le_bytes());
        put(out, 44, self.uplink_count.to_le_bytes());
        put(out, 48, self.head.append_ms.0.to_le_bytes());
        put(out, CRC_AT, self.crc.to_le_bytes());
    }
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotBody {
    /// Record batches.
    Data {
        /// Where the batches of each partition lie, sorted by partition; they fill the slot without gaps.
        runs: Vec<RunEntry>,
        /// What the uplink streams' batches among them say.
        uplinks: Vec<UplinkEntry>,
    },
    /// An event of the chain itself.
    Control(ControlBody),
}

/// A slot that is what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its header.
    pub header: SlotHeader,
    /// Its body.
    pub body: SlotBody,
}

impl Slot {
    /// Reads the slot at the start of `bytes`, if it is the `expected` one.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn decode(bytes: &[u8], expected: &ExpectedSlot) -> Result<Self, SlotError> {
        let header = SlotHeader::parse(bytes)?;
        header.check_crc(bytes)?;
        let found = ExpectedSlot {
            incarnation: header.head.incarnation,
            slot_no: header.head.slot_no,
            prev_crc: header.head.prev_crc,
        };
        if found != *expected {
            return Err(SlotError::Stale);
        }
        if header.version != SLOT_VERSION {
            return Err(SlotError::Version(header.version));
        }
        let body = &bytes[SLOT_HEADER_BYTES..header.total_len];
        let body = if header.kind == KIND_DATA {
            decode_data(&header, body)?
        } else if header.run_count == 0 && header.uplink_count == 0 {
            SlotBody::Control(ControlBody::decode(header.kind, body).ok_or(SlotError::Layout)?)
        } else {
            return Err(SlotError::Layout);
        };
        Ok(Self { header, body })
    }
}

fn decode_data(header: &SlotHeader, body: &[u8]) -> Result<SlotBody, SlotError> {
    let run_bytes = header.run_count as usize * RUN_ENTRY_BYTES;
    let uplink_bytes = header.uplink_count as usize * UPLINK_ENTRY_BYTES;
    let (runs, rest) = body.split_at_checked(run_bytes).ok_or(SlotError::Layout)?;
    let (uplinks, _) = rest.split_at_checked(uplink_bytes).ok_or(SlotError::Layout)?;
    let (runs, _) = runs.as_chunks();
    let (uplinks, _) = uplinks.as_chunks();
    let runs: Vec<RunEntry> = runs.iter().map(RunEntry::decode).collect();
    let uplinks: Option<Vec<UplinkEntry>> = uplinks.iter().map(UplinkEntry::decode).collect();
    let uplinks = uplinks.ok_or(SlotError::Layout)?;

    let mut end = SLOT_HEADER_BYTES + run_bytes + uplink_bytes;
    let batches = end..header.total_len;
    for (i, run) in runs.iter().enumerate() {
        let follows = run.pos as usize == end && run.len > 0 && run.batches > 0;
        let sorted = i == 0 || runs[i - 1].sort_key() < run.sort_key();
        if !follows || !sorted || run.base_offset > run.last_offset {
            return Err(SlotError::Layout);
        }
        end += run.len as usize;
    }
    let placed = |entry: &UplinkEntry| batches.contains(&(entry.pos as usize));
    if end != header.total_len || !uplinks.iter().all(placed) {
        return Err(SlotError::Layout);
    }
    Ok(SlotBody::Data { runs, uplinks })
}

fn crc_of(slot: &[u8]) -> u32 {
    let (header, body) = slot.split_at(SLOT_HEADER_BYTES);
    let mut crc = SlotCrc::new(header);
    crc.update(body);
    crc.finish()
}

/// The CRC of a slot: over everything but the CRC field itself, which is the last of the header.
struct SlotCrc(crc_fast::Digest);

impl SlotCrc {
    fn new(header: &[u8]) -> Self {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&header[..CRC_AT]);
        Self(digest)
    }

    /// Takes in what comes next behind the header.
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a 32-bit CRC fits 32 bits")
    }
}

#[cfg(test)]
mod tests;
