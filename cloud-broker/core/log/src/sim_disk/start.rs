//! What a broker's process does with the disk around the engine: starting, writing slots, reading.

use wire::ids::Incarnation;
use wire::time::UnixMs;

use super::state::{FileName, Folder};
use super::{DiskError, SimDisk};
use crate::ids::UnitId;
use crate::log::{Log, SlotToWrite};
use crate::read::{Piece, PieceRead};
use crate::recovery::{Recovered, RecoveryError, recover};
use crate::settings::LogSettings;
use crate::slot::SLOT_ALIGN;
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
        let name = FileName::Wal(rewrite.file_no);
        let mut state = disk.state.borrow_mut();
        for (pos, bytes) in &rewrite.pieces {
            state.write(name, *pos as usize, bytes)?;
        }
        // Nothing is ever written behind the last slot of a life that is over.
        let end = rewrite.pieces.iter().map(|(pos, bytes)| *pos as usize + bytes.len()).max();
        let end = end.unwrap_or(0).next_multiple_of(SLOT_ALIGN);
        let len = state.inode(name)?.len();
        state.set_len(name, len.min(end))?;
        state.sync(name)?;
        state.sync_folder(Folder::Wal)?;
    }
    for file_no in &recovered.dead_files {
        disk.free(UnitId::Wal(*file_no))?;
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
