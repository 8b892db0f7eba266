//! A disk with a page cache, and a process that can die between any two of its calls. For tests and for the simulator:
//! both must crash the same way, or one of them proves nothing.
//!
//! What the process sees is the cache: bytes and names as they were written last. What a loss of power leaves is the
//! platter, and of everything that was not synced any subset: single sectors of a file, the change of its length, single
//! changes of a folder. Every create, write, change of length, sync, rename and unlink is a counted call, and any of them
//! can be the last ([`Death`]) or fail ([`Trouble`]). Reads are not counted.
//!
//! Files are named as what they are ([`FileName`]). A WAL file that is given back waits under a name of its own until it is
//! used again, with everything that was in it: slots that look as if they belonged to the log.

mod inode;
mod start;
mod state;
mod store;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

pub use start::{read_piece, start, write};
pub use state::{Death, FileName, Trouble};
pub use store::UnitDraft;

use crate::ids::FileNo;
use crate::log::SlotToWrite;
use state::{Folder, State};

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// WAL files that are kept for recycling.
const SPARES_MAX: usize = 2;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The process ended in the middle of what it did. Every later call says the same.
    #[error("the process has died")]
    Died,
    /// No bytes are left.
    #[error("no space left on the disk")]
    Full,
    /// The device failed.
    #[error("the disk has failed")]
    Io,
    /// There is no such file.
    #[error("no such file")]
    Missing,
}

/// The disk. A clone is another disk with the same content.
#[derive(Debug, Default)]
pub struct SimDisk {
    /// Shared with the units that are being written, which outlive the call that made them. Nothing is borrowed for longer
    /// than one call.
    state: Rc<RefCell<State>>,
}

impl Clone for SimDisk {
    fn clone(&self) -> Self {
        Self { state: Rc::new(RefCell::new(self.state.borrow().clone())) }
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process dies at its `calls`th call from now, counted from 0.
    pub fn die_after(&mut self, calls: usize, death: Death) {
        self.state.borrow_mut().dies = Some((calls, death));
    }

    /// The `calls`th call from now, counted from 0, fails; the process goes on, and so does the disk.
    pub fn fail_after(&mut self, calls: usize, trouble: Trouble) {
        self.state.borrow_mut().fails = Some((calls, trouble));
    }

    /// What was to fail does not.
    pub fn stop_failing(&mut self) {
        self.state.borrow_mut().fails = None;
    }

    /// Another process runs, and nothing will happen to it.
    pub fn heal(&mut self) {
        let mut state = self.state.borrow_mut();
        state.dead = false;
        state.dies = None;
        state.fails = None;
    }

    /// Whether the process has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state.borrow().dead
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.borrow().calls
    }

    /// The disk holds at most so many bytes from now on; `None`: as many as anyone wants.
    pub fn set_space(&mut self, bytes_max: Option<u64>) {
        self.state.borrow_mut().space_max = bytes_max;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.borrow().used()
    }

    /// Everything that was not synced is lost, piece by piece, or not, as `survives` says.
    pub fn lose_power(&mut self, survives: &mut dyn FnMut() -> bool) {
        self.state.borrow_mut().lose_power(survives);
    }

    /// A file's bytes, to damage them.
    ///
    /// # Panics
    /// If there is no such WAL file.
    pub fn bytes_mut(&mut self, file_no: FileNo) -> RefMut<'_, Vec<u8>> {
        self.damage(FileName::Wal(file_no))
    }

    /// Any file's bytes, to damage them. Length and content may change; a later loss of power may undo it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn damage(&mut self, name: FileName) -> RefMut<'_, Vec<u8>> {
        RefMut::map(self.state.borrow_mut(), |state| state.damage(name))
    }

    /// Bits of one byte of a file rot, for good.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn flip(&mut self, name: FileName, at: usize, bits: u8) {
        self.state.borrow_mut().flip(name, at, bits);
    }

    /// From now on reads of this file fail, and of no other one.
    pub fn set_unreadable(&mut self, name: Option<FileName>) {
        self.state.borrow_mut().unreadable = name;
    }

    /// The files that exist, in the order of their names.
    #[must_use]
    pub fn names(&self) -> Vec<FileName> {
        self.state.borrow().names().collect()
    }

    /// The bytes of a file, if it exists.
    #[must_use]
    pub fn content(&self, name: FileName) -> Option<Vec<u8>> {
        Some(self.state.borrow().inode(name).ok()?.cache().to_vec())
    }

    /// The WAL files that exist.
    #[must_use]
    pub fn file_nos(&self) -> Vec<FileNo> {
        let state = self.state.borrow();
        let wal = |name| match name {
            FileName::Wal(file_no) => Some(file_no),
            _ => None,
        };
        state.names().filter_map(wal).collect()
    }

    /// Makes a WAL file with these bytes as if it had always been there.
    pub fn put_file(&mut self, file_no: FileNo, bytes: Vec<u8>) {
        self.put(FileName::Wal(file_no), bytes);
    }

    /// Makes a file with these bytes as if it had always been there.
    pub fn put(&mut self, name: FileName, bytes: Vec<u8>) {
        self.state.borrow_mut().put(name, bytes);
    }

    /// Loses a WAL file.
    pub fn unlink(&mut self, file_no: FileNo) {
        self.lose(FileName::Wal(file_no));
    }

    /// Loses a file for good.
    pub fn lose(&mut self, name: FileName) {
        self.state.borrow_mut().lose(name);
    }

    /// Makes the slot's file if it begins one, and writes the slot; nothing of it is durable yet.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write_slot(&mut self, slot: &SlotToWrite) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        if let Some(file) = &slot.new_file {
            state.create_wal(file)?;
        }
        state.write(FileName::Wal(slot.file_no), slot.pos as usize, &slot.bytes)
    }

    /// Makes durable what was written to a WAL file.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn sync(&mut self, file_no: FileNo) -> Result<(), DiskError> {
        self.state.borrow_mut().sync(FileName::Wal(file_no))
    }

    /// A sync fails: the kernel marks the pages clean although they are not on disk. The process must end.
    pub fn fail_sync(&mut self, file_no: FileNo) {
        self.state.borrow_mut().fail_sync(FileName::Wal(file_no));
    }

    /// Makes spare WAL files of `size` bytes until there are `wanted`, or no space is left for another; says how many there
    /// are.
    ///
    /// # Errors
    /// [`DiskError`], but not [`DiskError::Full`].
    pub fn prepare(&mut self, wanted: usize, size: u32) -> Result<usize, DiskError> {
        self.state.borrow_mut().prepare(wanted, size as usize)
    }

    fn remove(&mut self, name: FileName) -> Result<(), DiskError> {
        self.state.borrow_mut().unlink(name)
    }

    fn sync_folder(&mut self, folder: Folder) -> Result<(), DiskError> {
        self.state.borrow_mut().sync_folder(folder)
    }
}

#[cfg(test)]
mod tests;
