//! Building a slot's bytes.

use bytes::Bytes;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::assign_place;
use wire::time::UnixMs;

use super::buffer::SlotBuffer;
use super::entries::{RUN_ENTRY_BYTES, RunEntry, RunFlags, UPLINK_ENTRY_BYTES, UplinkEntry};
use super::{
    CRC_AT, ControlBody, KIND_DATA, SLOT_BYTES_MAX, SLOT_HEADER_BYTES, SLOT_VERSION, SlotCrc,
    SlotHead, SlotHeader,
};
use crate::fields::put;
use crate::ids::PartitionKey;
use crate::unit::setsum_of_batch;
use crate::uplink_stream::UplinkAppend;

/// A batch that has its offsets and waits for its slot.
#[derive(Debug, Clone)]
pub struct BatchToPlace {
    /// The partition.
    pub key: PartitionKey,
    /// Written into the batch.
    pub leader_epoch: LeaderEpoch,
    /// Written into the batch.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Greatest timestamp of a record.
    pub max_timestamp: UnixMs,
    /// Kind of batch.
    pub flags: RunFlags,
    /// The batch, as it was received.
    pub bytes: Bytes,
    /// What an uplink stream's batch says.
    pub uplink: Option<UplinkAppend>,
}

/// A slot's bytes and what is in them.
#[derive(Debug, Clone)]
pub struct EncodedSlot {
    /// The slot with its padding.
    pub bytes: Bytes,
    /// Its CRC, which the next slot repeats.
    pub crc: u32,
    /// Its runs, in the order of their bytes.
    pub runs: Vec<RunEntry>,
    /// Each run's setsum.
    pub setsums: Vec<u64>,
    /// Its uplink entries, each stream's in the order of appends.
    pub uplinks: Vec<UplinkEntry>,
}

/// Lays `batches` into a DATA slot, sorted by partition and otherwise in their order.
///
/// # Panics
/// If they do not fit [`SLOT_BYTES_MAX`] or one is shorter than a batch's header: staging lets neither in.
#[must_use]
pub fn encode_data(head: &SlotHead, batches: &[BatchToPlace]) -> EncodedSlot {
    let batches = sorted(batches);
    let (mut runs, setsums, mut uplinks) = tables(&batches);
    let tables_end =
        SLOT_HEADER_BYTES + runs.len() * RUN_ENTRY_BYTES + uplinks.len() * UPLINK_ENTRY_BYTES;
    let total_len = tables_end + batches.iter().map(|b| b.bytes.len()).sum::<usize>();
    assert!(total_len <= SLOT_BYTES_MAX, "staging closes a slot in time");

    let shift = u32::try_from(tables_end).expect("below SLOT_BYTES_MAX");
    let counts = (runs.len(), uplinks.len());
    let mut slot = SlotBuilder::new(head, KIND_DATA, counts, total_len);
    for run in &mut runs {
        run.pos += shift;
        slot.push(&run.encode());
    }
    for uplink in &mut uplinks {
        uplink.pos += shift;
        slot.push(&uplink.encode());
    }
    slot.checksum();
    for batch in batches {
        let bytes = slot.push(&batch.bytes);
        assign_place(bytes, batch.base_offset, batch.leader_epoch);
        slot.checksum();
    }
    let (bytes, crc) = slot.finish();
    EncodedSlot { bytes, crc, runs, setsums, uplinks }
}

/// The batches by partition, and otherwise in their order.
fn sorted(batches: &[BatchToPlace]) -> Vec<&BatchToPlace> {
    let mut sorted: Vec<&BatchToPlace> = batches.iter().collect();
    sorted.sort_by_key(|batch| batch.key);
    sorted
}

/// A slot without batches.
///
/// # Panics
/// If the body does not fit [`SLOT_BYTES_MAX`]: two million shards.
#[must_use]
pub fn encode_control(head: &SlotHead, body: &ControlBody) -> EncodedSlot {
    let bytes = body.encode();
    let total_len = SLOT_HEADER_BYTES + bytes.len();
    assert!(total_len <= SLOT_BYTES_MAX, "fewer shards than that");
    let mut slot = SlotBuilder::new(head, body.kind(), (0, 0), total_len);
    slot.push(&bytes);
    let (bytes, crc) = slot.finish();
    EncodedSlot { bytes, crc, runs: Vec::new(), setsums: Vec::new(), uplinks: Vec::new() }
}

/// The two tables for batches in the order of their bytes, positions counted from the first batch.
fn tables(batches: &[&BatchToPlace]) -> (Vec<RunEntry>, Vec<u64>, Vec<UplinkEntry>) {
    let mut runs: Vec<RunEntry> = Vec::new();
    let mut setsums: Vec<u64> = Vec::new();
    let mut uplinks = Vec::new();
    let mut pos = 0_u32;
    for batch in batches {
        let number = setsum_of_batch(batch.key, batch.base_offset, crc_field(&batch.bytes));
        let len = u32::try_from(batch.bytes.len()).expect("at most RECORD_BATCH_BYTES_MAX");
        if let Some(append) = batch.uplink {
            uplinks.push(UplinkEntry { append, pos });
        }
        match runs.last_mut() {
            Some(run) if belongs(batch, run) => {
                run.len += len;
                run.batches += 1;
                run.last_offset = batch.last_offset;
                run.max_timestamp = run.max_timestamp.max(batch.max_timestamp);
                if let Some(setsum) = setsums.last_mut() {
                    *setsum = setsum.wrapping_add(number);
                }
            }
            Some(_) | None => {
                setsums.push(number);
                runs.push(RunEntry {
                    key: batch.key,
                    leader_epoch: batch.leader_epoch,
                    pos,
                    len,
                    batches: 1,
                    flags: batch.flags,
                    base_offset: batch.base_offset,
                    last_offset: batch.last_offset,
                    max_timestamp: batch.max_timestamp,
                });
            }
        }
        pos += len;
    }
    (runs, setsums, uplinks)
}

/// A batch's own CRC. Shorter bytes are no batch, and end in `assign_place`.
fn crc_field(batch: &[u8]) -> u32 {
    batch.get(17..21).and_then(|crc| crc.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn belongs(batch: &BatchToPlace, run: &RunEntry) -> bool {
    run.key == batch.key
        && run.leader_epoch == batch.leader_epoch
        && run.flags == batch.flags
        && run.batches < u16::MAX
}

/// A slot in the making, and the checksum of what was added to it: it is cheapest while that is in the processor's cache.
struct SlotBuilder {
    buffer: SlotBuffer,
    header: [u8; SLOT_HEADER_BYTES],
    crc: SlotCrc,
    /// Bytes that the checksum covers.
    checked: usize,
    /// What the header says.
    total_len: usize,
}

impl SlotBuilder {
    /// A slot of `total_len` bytes, with its header.
    fn new(head: &SlotHead, kind: u8, (runs, uplinks): (usize, usize), total_len: usize) -> Self {
        let count = |n: usize| u32::try_from(n).expect("a slot below 4 GiB has fewer entries");
        let fields = SlotHeader {
            head: *head,
            total_len,
            crc: 0,
            version: SLOT_VERSION,
            kind,
            run_count: count(runs),
            uplink_count: count(uplinks),
        };
        let mut header = [0; SLOT_HEADER_BYTES];
        fields.write(&mut header);
        let mut buffer = SlotBuffer::new(total_len);
        buffer.push(&header);
        Self { buffer, header, crc: SlotCrc::new(&header), checked: SLOT_HEADER_BYTES, total_len }
    }

    /// Adds bytes, which may be changed until the next call.
    fn push(&mut self, bytes: &[u8]) -> &mut [u8] {
        let start = self.buffer.len();
        self.buffer.push(bytes);
        &mut self.buffer.slot()[start..]
    }

    /// Takes what was added into the checksum.
    fn checksum(&mut self) {
        self.crc.update(&self.buffer.slot()[self.checked..]);
        self.checked = self.buffer.len();
    }

    /// The slot with its padding, and its CRC.
    ///
    /// # Panics
    /// If it has not as many bytes as its header says: recovery would refuse it.
    fn finish(mut self) -> (Bytes, u32) {
        assert_eq!(self.buffer.len(), self.total_len, "the header was written for so many bytes");
        self.checksum();
        let crc = self.crc.finish();
        put(&mut self.header, CRC_AT, crc.to_le_bytes());
        self.buffer.slot()[..SLOT_HEADER_BYTES].copy_from_slice(&self.header);
        (self.buffer.into_bytes(), crc)
    }
}
