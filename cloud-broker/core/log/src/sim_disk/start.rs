//! What a broker's process does with the disk around the engine: starting, writing slots, reading.

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::time::UnixMs;

use super::state::{FileName, Folder};
use super::{DiskError, SimDisk};
use crate::log::{Log, SlotToWrite};
use crate::read::Piece;
use crate::recovery::{Recovered, RecoveryError, recover};
use crate::settings::LogSettings;
use crate::store::UnitStore;

/// Starts a broker's log on `disk` as `incarnation`: what the process does on a real one. Its OPEN is durable.
///
/// # Errors
/// [`RecoveryError`].
pub fn start(
    disk: &mut SimDisk,
    incarnation: Incarnation,
    settings: &LogSettings,
) -> Result<Log, RecoveryError<DiskError>> {
    disk.open().map_err(RecoveryError::Source)?;
    let recovered = recover(disk)?;
    let log = carry_out(disk, incarnation, settings, recovered);
    log.map_err(RecoveryError::Source)
}

fn carry_out(
    disk: &mut SimDisk,
    incarnation: Incarnation,
    settings: &LogSettings,
    recovered: Recovered,
) -> Result<Log, DiskError> {
    if let Some(rewrite) = &recovered.rewrite {
        for (pos, bytes) in &rewrite.pieces {
            let mut state = disk.state.borrow_mut();
            state.write(FileName::Wal(rewrite.file_no), *pos as usize, bytes)?;
        }
        disk.sync(rewrite.file_no)?;
        disk.sync_folder(Folder::Wal)?;
    }
    for file_no in &recovered.dead_files {
        disk.remove(FileName::Wal(*file_no))?;
    }
    for unit in &recovered.orphans {
        disk.free(*unit)?;
    }
    disk.sync_folder(Folder::Wal)?;
    let mut log = Log::open(settings, incarnation, recovered, UnixMs(1));
    if let Some(open) = log.take_slot() {
        write(disk, &open)?;
        log.slot_durable(open.slot_no);
    }
    Ok(log)
}

/// Writes and syncs a slot.
///
/// # Errors
/// [`DiskError`].
pub fn write(disk: &mut SimDisk, slot: &SlotToWrite) -> Result<(), DiskError> {
    disk.write_slot(slot)?;
    disk.sync(slot.file_no)
}

/// The bytes of a part of a read; `None` if the file does not hold them.
#[must_use]
pub fn read_piece(disk: &mut SimDisk, piece: &Piece) -> Option<Bytes> {
    let part = piece.read(disk).ok()?;
    part.is_whole.then(|| Bytes::from(part.batches.concat()))
}
