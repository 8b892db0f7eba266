//! Whether there is space on the disk for what is appended.

use super::{AppendError, Log};

/// What the shell knows of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// WAL files that are prepared, so that a new one takes nothing from the disk.
    pub ready_files: usize,
    /// Less is free than must be.
    pub below_floor: bool,
}

impl Log {
    /// Takes in how much space there is. Until it is called for the first time, space has no end.
    pub fn set_room(&mut self, room: Room) {
        self.place.set_room(room);
    }

    /// Whether `bytes` more fit behind all that waits.
    pub(super) fn check_disk(&self, bytes: usize) -> Result<(), AppendError> {
        let _ = bytes;
        Ok(())
    }
}
