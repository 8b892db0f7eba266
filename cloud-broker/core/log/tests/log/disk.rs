//! The simulated disk with the settings of these tests, and reads as a consumer makes them.

use broker_log::{
    FirstBatch, Log, LogSettings, PartitionKey, RecoveryError, SlotToWrite, sim_disk,
};
use bytes::Bytes;
use wire::ids::Incarnation;
use wire::offset::Offset;

pub use broker_log::sim_disk::{Death, DiskError, SimDisk as Disk, write};

use crate::batches::split;

/// Small enough that a short workload fills several files and leaves the tail behind.
pub fn small() -> LogSettings {
    LogSettings {
        wal_file_bytes: 64 << 10,
        slot_bytes_target: 16 << 10,
        tail_bytes: 24 << 10,
        pending_bytes_max: 1 << 20,
        ..LogSettings::default()
    }
}

/// Starts a broker process on `disk`.
pub fn start(
    disk: &mut Disk,
    life: u8,
    settings: &LogSettings,
) -> Result<Log, RecoveryError<DiskError>> {
    sim_disk::start(disk, Incarnation([life; 16]), settings)
}

/// Writes all that is staged.
pub fn flush(log: &mut Log, disk: &mut Disk) -> Vec<SlotToWrite> {
    let mut slots = Vec::new();
    while let Some(slot) = log.take_slot() {
        write(disk, &slot).unwrap();
        log.slot_durable(slot.slot_no);
        slots.push(slot);
    }
    slots
}

pub fn read_piece(disk: &mut Disk, piece: &broker_log::Piece) -> Bytes {
    sim_disk::read_piece(disk, piece).unwrap()
}

/// Every batch of a partition, read as a consumer would.
pub fn read_all(log: &Log, disk: &mut Disk, key: PartitionKey) -> Vec<(Offset, Bytes)> {
    let mut batches = Vec::new();
    let Some(offsets) = log.offsets(key) else {
        return batches;
    };
    let mut next = offsets.log_start;
    while next < offsets.high_watermark {
        let plan = log.read(key, next, 4096, FirstBatch::Always).unwrap();
        let before = batches.len();
        for piece in &plan.pieces {
            let bytes = read_piece(disk, piece);
            for (base, batch) in split(bytes) {
                assert_eq!(base, next, "offsets are dense");
                // Records less one stand 7 bytes into what a producer wrote.
                let delta = u32::from_be_bytes(batch[7..11].try_into().unwrap());
                next = base.plus(delta + 1);
                batches.push((base, batch));
            }
        }
        assert!(batches.len() > before, "a read below the high watermark yields something");
    }
    assert_eq!(next, offsets.high_watermark);
    batches
}
