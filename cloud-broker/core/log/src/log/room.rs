//! Whether there is space on the disk for what is appended.
//!
//! A write that fails for want of space ends the process, so nothing is taken that might not fit: what is staged has to fit what
//! is left of the open file and the files that are prepared.
//!
//! Jobs that copy need space before they give any back. They get a part of what is spare, so that they never fill the disk by
//! themselves; below the floor only those begin that give back more than they take.

use super::{AppendError, Log};
use crate::job::Made;
use crate::mutant::{self, Mutant};
use crate::slot::{ENTRY_BYTES_PER_BATCH, SLOT_BYTES_MAX};

/// The part of what is there that one job may take: what is appended meanwhile takes the rest.
const JOB_PART: u64 = 2;

/// What the shell knows of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// WAL files that are prepared, so that making one takes nothing from the disk. One that a slot in flight is about to
    /// become is not among them.
    pub ready_files: usize,
    /// Less is free than has to be.
    pub below_floor: bool,
    /// Bytes of the disk that are free.
    pub free_bytes: u64,
    /// Bytes of them above the floor.
    pub spare_bytes: u64,
}

impl Room {
    /// Space without end.
    pub const ENDLESS: Self = Self {
        ready_files: usize::MAX,
        below_floor: false,
        free_bytes: u64::MAX,
        spare_bytes: u64::MAX,
    };
}

/// What a job that copies may take up, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct JobRoom {
    /// If it surely gives back more than it takes: the floor is there for that.
    pub(super) gaining: u64,
    /// Any other.
    pub(super) other: u64,
}

impl Log {
    /// Takes in how much space there is. Until it is called for the first time, space has no end. The engine counts files that
    /// it uses up by itself; call it when one was prepared, and when the disk has filled up or has space again.
    pub fn set_room(&mut self, room: Room) {
        self.place.set_room(room);
    }

    /// What a job that begins now may take up.
    pub(super) fn job_room(&self) -> JobRoom {
        let room = self.place.room().unwrap_or(Room::ENDLESS);
        let spare = if room.below_floor { 0 } else { room.spare_bytes };
        JobRoom { gaining: room.free_bytes / JOB_PART, other: spare / JOB_PART }
    }

    /// A job has written these; the shell may not have seen it yet.
    pub(super) fn note_made(&mut self, made: &Made) {
        if let Some(mut room) = self.place.room() {
            let bytes = made.units.iter().map(|unit| unit.len).sum();
            room.free_bytes = room.free_bytes.saturating_sub(bytes);
            room.spare_bytes = room.spare_bytes.saturating_sub(bytes);
            self.place.set_room(room);
        }
    }

    /// Whether a batch of `bytes` surely fits behind all that waits.
    pub(super) fn check_disk(&self, bytes: usize) -> Result<(), AppendError> {
        let Some(room) = self.place.room() else {
            return Ok(());
        };
        let fits = !room.below_floor && self.fits(room.ready_files, bytes + ENTRY_BYTES_PER_BATCH);
        if fits || mutant::is(Mutant::RoomNotCounted) { Ok(()) } else { Err(AppendError::DiskFull) }
    }

    fn fits(&self, ready_files: usize, bytes: usize) -> bool {
        let payload = self.place.payload();
        // Slots of half a file at most leave no file less than half full.
        let padded = self.staging.padded_bytes_max() + bytes;
        if SLOT_BYTES_MAX <= payload / 2 && padded <= ready_files.saturating_mul(payload / 2) {
            return true;
        }
        let mut left = self.place.left();
        let mut files = 0;
        for slot in self.staging.padded_slots(bytes) {
            if slot > left {
                files += slot.div_ceil(payload).max(1);
                left = payload;
            }
            left -= slot.min(left);
        }
        files <= ready_files
    }
}
