//! The disk as the stores that the engine needs: what a folder of files does, call by call.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use super::state::{FileName, Folder, State};
use super::{DiskError, SimDisk};
use crate::ids::{FileNo, UnitId, UnitNo};
use crate::log::SlotToWrite;
use crate::recovery::{WalFileLen, WalSource};
use crate::slot::{SLOT_HEADER_BYTES, SlotHeader};
use crate::store::{
    CheckpointId, CheckpointStore, Put, SlotPlace, SlotStore, UnitSource, UnitStore, UnitWrite,
};

impl From<UnitId> for FileName {
    fn from(unit: UnitId) -> Self {
        match unit {
            UnitId::Unit(unit_no) => Self::Unit(unit_no),
            UnitId::Wal(file_no) => Self::Wal(file_no),
        }
    }
}

impl SimDisk {
    /// The `len` bytes of a file from `pos` on, fewer only at its end.
    pub(super) fn read(&self, name: FileName, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let state = self.state.borrow();
        let bytes = state.read(name)?.cache();
        let start = usize::try_from(pos).map_or(bytes.len(), |pos| pos.min(bytes.len()));
        let end = start.saturating_add(len).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[start..end]))
    }

    /// The whole slot of an intact header at `pos` of a WAL file, if both are there.
    fn slot_at(&self, file_no: FileNo, pos: u32) -> Result<Option<Bytes>, DiskError> {
        let name = FileName::Wal(file_no);
        let header = match self.read(name, u64::from(pos), SLOT_HEADER_BYTES) {
            Ok(header) => header,
            Err(DiskError::Missing) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(header) = SlotHeader::parse(&header) else {
            return Ok(None);
        };
        let bytes = self.read(name, u64::from(pos), header.padded_len())?;
        Ok((bytes.len() == header.padded_len() && header.check_crc(&bytes).is_ok())
            .then_some(bytes))
    }

    fn write_and_sync(&mut self, slot: &SlotToWrite) -> Result<(), DiskError> {
        self.write_slot(slot)?;
        self.sync(slot.file_no)
    }

    fn clear_drafts(&mut self) -> Result<(), DiskError> {
        for name in self.names() {
            if matches!(name, FileName::CheckpointDraft(_) | FileName::UnitDraft(_)) {
                self.remove(name)?;
            }
        }
        Ok(())
    }

    /// What a process does first with its folders: what a crash left half-made goes.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(&mut self) -> Result<(), DiskError> {
        self.clear_drafts()?;
        self.sync_folder(Folder::Units)?;
        self.sync_folder(Folder::Checkpoints)
    }
}

impl WalSource for SimDisk {
    type Error = DiskError;

    fn files(&mut self) -> Result<Vec<WalFileLen>, DiskError> {
        let state = self.state.borrow();
        let len = |name| Ok(state.len_of(name)? as u64);
        let mut files = Vec::new();
        for name in state.names() {
            if let FileName::Wal(file_no) = name {
                files.push(WalFileLen { file_no, len: len(name)? });
            }
        }
        // The order of a folder's entries is anyone's guess.
        files.reverse();
        Ok(files)
    }

    fn read_at(&mut self, file_no: FileNo, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        self.read(FileName::Wal(file_no), pos, len)
    }
}

impl SlotStore for SimDisk {
    type Error = DiskError;

    fn put_new(&mut self, slot: &SlotToWrite) -> Put<DiskError> {
        let number = |bytes: &[u8]| {
            let head = SlotHeader::parse(bytes).ok()?.head;
            Some((head.incarnation, head.slot_no))
        };
        match self.slot_at(slot.file_no, slot.pos) {
            Err(error) => return Put::Unknown(error),
            // Any other slot is the stale content of a recycled file.
            Ok(Some(there)) if number(&there) == number(&slot.bytes) => return Put::Exists,
            Ok(_) => {}
        }
        match self.write_and_sync(slot) {
            Ok(()) => Put::Created,
            Err(error) => Put::Unknown(error),
        }
    }

    fn get(&mut self, place: &SlotPlace) -> Result<Option<Bytes>, DiskError> {
        let found = self.slot_at(place.file_no, place.pos)?;
        Ok(found.filter(|bytes| {
            SlotHeader::parse(bytes).is_ok_and(|header| {
                header.head.incarnation == place.incarnation && header.head.slot_no == place.slot_no
            })
        }))
    }
}

impl UnitSource for SimDisk {
    type Error = DiskError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        self.read(unit.into(), pos, len)
    }
}

impl UnitStore for SimDisk {
    type Writer = UnitDraft;

    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, DiskError> {
        let state = self.state.borrow();
        let mut units = Vec::new();
        for name in state.names() {
            if let FileName::Unit(unit_no) = name {
                units.push((unit_no, state.len_of(name)? as u64));
            }
        }
        units.reverse();
        Ok(units)
    }

    fn create(&mut self, unit: UnitNo) -> Result<UnitDraft, DiskError> {
        self.state.borrow_mut().create(FileName::UnitDraft(unit))?;
        Ok(UnitDraft { state: Rc::clone(&self.state), unit, len: 0, is_finished: false })
    }

    fn seal(&mut self, file_no: FileNo, pos: u64, footer: &[u8]) -> Result<(), DiskError> {
        let name = FileName::Wal(file_no);
        let mut state = self.state.borrow_mut();
        let pos = usize::try_from(pos).map_err(|_| DiskError::Full)?;
        state.write(name, pos, footer)?;
        if state.inode(name)?.len() > pos + footer.len() {
            state.set_len(name, pos + footer.len())?;
        }
        state.sync(name)
    }

    fn free(&mut self, unit: UnitId) -> Result<(), DiskError> {
        let name = FileName::from(unit);
        let mut state = self.state.borrow_mut();
        match (state.len_of(name), unit) {
            (Err(DiskError::Missing), _) => Ok(()),
            (Err(error), _) => Err(error),
            (Ok(_), UnitId::Wal(file_no)) => state.give_back_wal(file_no),
            (Ok(_), UnitId::Unit(_)) => {
                state.unlink(name)?;
                state.sync_folder(Folder::Units)
            }
        }
    }
}

impl CheckpointStore for SimDisk {
    type Error = DiskError;

    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, DiskError> {
        let state = self.state.borrow();
        let mut found = Vec::new();
        for name in state.names() {
            if let FileName::Checkpoint(id) = name {
                state.len_of(name)?;
                found.push(id);
            }
        }
        Ok(found)
    }

    fn get_checkpoint(&mut self, id: CheckpointId) -> Result<Bytes, DiskError> {
        self.read(FileName::Checkpoint(id), 0, usize::MAX)
    }

    fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), DiskError> {
        let mut state = self.state.borrow_mut();
        let draft = FileName::CheckpointDraft(id);
        state.create(draft)?;
        let written = write_checkpoint(&mut state, id, parts);
        written.inspect_err(|_| state.forget(draft))
    }

    fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), DiskError> {
        let name = FileName::Checkpoint(id);
        let mut state = self.state.borrow_mut();
        match state.len_of(name) {
            Err(DiskError::Missing) => Ok(()),
            Err(error) => Err(error),
            // Not synced: it may be there again after a crash.
            Ok(_) => state.unlink(name),
        }
    }
}

fn write_checkpoint(state: &mut State, id: CheckpointId, parts: &[Bytes]) -> Result<(), DiskError> {
    let draft = FileName::CheckpointDraft(id);
    let mut pos = 0;
    for part in parts {
        state.write(draft, pos, part)?;
        pos += part.len();
    }
    state.sync(draft)?;
    state.rename(draft, FileName::Checkpoint(id))?;
    state.sync_folder(Folder::Checkpoints)
}

/// A unit that is being written.
#[derive(Debug)]
pub struct UnitDraft {
    state: Rc<RefCell<State>>,
    unit: UnitNo,
    len: usize,
    is_finished: bool,
}

impl UnitWrite for UnitDraft {
    type Error = DiskError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.state.borrow_mut().write(FileName::UnitDraft(self.unit), self.len, bytes)?;
        self.len += bytes.len();
        Ok(())
    }

    fn finish(mut self) -> Result<(), DiskError> {
        let draft = FileName::UnitDraft(self.unit);
        let mut state = self.state.borrow_mut();
        state.sync(draft)?;
        state.rename(draft, FileName::Unit(self.unit))?;
        self.is_finished = true;
        state.sync_folder(Folder::Units)
    }
}

impl Drop for UnitDraft {
    fn drop(&mut self) {
        if !self.is_finished {
            self.state.borrow_mut().forget(FileName::UnitDraft(self.unit));
        }
    }
}
