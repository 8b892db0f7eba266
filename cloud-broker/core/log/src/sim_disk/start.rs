//! What a broker's process does with the disk around the engine: starting, writing slots, reading.

use wire::ids::Incarnation;
use wire::time::UnixMs;

use super::state::{FileName, Folder};
use super::{DiskError, SimDisk};
use crate::log::{Log, SlotToWrite};
use crate::read::{Piece, PieceRead};
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
    now: UnixMs,
) -> Result<Log, RecoveryError<DiskError>> {
    disk.open().map_err(RecoveryError::Source)?;
    let recovered = recover(disk)?;
    let log = carry_out(disk, settings, recovered, (incarnation, now));
    log.map_err(RecoveryError::Source)
}

fn carry_out(
    disk: &mut SimDisk,
    settings: &LogSettings,
    recovered: Recovered,
    (incarnation, now): (Incarnation, UnixMs),
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
    let mut log = Log::open(settings, incarnation, recovered, now);
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

/// What a part of a read yields; `None` if the disk does not hold it.
#[must_use]
pub fn read_piece(disk: &mut SimDisk, piece: &Piece) -> Option<PieceRead> {
    piece.read(disk).ok()
}
