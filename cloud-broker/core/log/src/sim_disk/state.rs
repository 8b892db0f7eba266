//! Names, files, and the calls that change them.

use std::collections::{BTreeMap, BTreeSet};

use super::inode::Inode;
use super::{DiskError, SPARES_MAX};
use crate::ids::{FileNo, UnitNo};
use crate::log::NewFile;
use crate::store::CheckpointId;

/// What a file is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A checkpoint.
    Checkpoint(CheckpointId),
    /// A checkpoint that is being written.
    CheckpointDraft(CheckpointId),
    /// A WAL file that waits to be used, again or for the first time.
    Spare(u64),
    /// A unit.
    Unit(UnitNo),
    /// A unit that is being written.
    UnitDraft(UnitNo),
    /// A WAL file.
    Wal(FileNo),
}

impl FileName {
    pub(super) fn folder(self) -> Folder {
        match self {
            Self::Checkpoint(_) | Self::CheckpointDraft(_) => Folder::Checkpoints,
            Self::Spare(_) | Self::Wal(_) => Folder::Wal,
            Self::Unit(_) | Self::UnitDraft(_) => Folder::Units,
        }
    }
}

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    Checkpoints,
    Units,
    Wal,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It is killed before the call.
    Killed,
    /// If the call is a sync, it fails: the kernel marks the pages clean although they are not on disk. The process ends.
    FailedSync,
}

/// How a call fails that a process survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// With [`DiskError::Full`].
    Full,
    /// With [`DiskError::Io`]; a sync marks the pages clean although they are not on disk.
    Io,
}

/// A change of a folder: a file appears under a name, loses one, or both at once.
#[derive(Debug, Clone, Copy)]
struct NameChange {
    folder: Folder,
    removed: Option<FileName>,
    inserted: Option<(FileName, usize)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    inodes: BTreeMap<usize, Inode>,
    next_inode: usize,
    names: BTreeMap<FileName, usize>,
    durable_names: BTreeMap<FileName, usize>,
    pending: Vec<NameChange>,
    next_spare: u64,
    /// Bytes of a WAL file, as far as anybody asked for one.
    wal_bytes: usize,
    pub(super) space_max: Option<u64>,
    pub(super) calls: usize,
    pub(super) dies: Option<(usize, Death)>,
    pub(super) fails: Option<(usize, Trouble)>,
    pub(super) dead: bool,
    /// A file whose sectors cannot be read.
    pub(super) unreadable: Option<FileName>,
}

impl State {
    pub(super) fn names(&self) -> impl Iterator<Item = FileName> {
        self.names.keys().copied()
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].len() as u64).sum()
    }

    pub(super) fn inode(&self, name: FileName) -> Result<&Inode, DiskError> {
        let inode = self.names.get(&name).ok_or(DiskError::Missing)?;
        Ok(&self.inodes[inode])
    }

    /// What a folder says of a file: its sectors need not be readable for that.
    pub(super) fn len_of(&self, name: FileName) -> Result<usize, DiskError> {
        if self.dead {
            return Err(DiskError::Died);
        }
        Ok(self.inode(name)?.len())
    }

    /// A process that is dead reads nothing either, and some sectors are unreadable.
    pub(super) fn read(&self, name: FileName) -> Result<&Inode, DiskError> {
        if self.dead {
            return Err(DiskError::Died);
        }
        if self.unreadable == Some(name) {
            return Err(DiskError::Io);
        }
        self.inode(name)
    }

    pub(super) fn damage(&mut self, name: FileName) -> &mut Vec<u8> {
        self.inode_mut(name).expect("a test damages what exists").damage()
    }

    pub(super) fn flip(&mut self, name: FileName, at: usize, bits: u8) {
        self.inode_mut(name).expect("a test damages what exists").flip(at, bits);
    }

    pub(super) fn put(&mut self, name: FileName, bytes: Vec<u8>) {
        let inode = self.add(Inode::durable(bytes));
        self.names.insert(name, inode);
        self.durable_names.insert(name, inode);
    }

    pub(super) fn lose(&mut self, name: FileName) {
        self.names.remove(&name);
        self.durable_names.remove(&name);
        self.pending.retain(|change| change.inserted.is_none_or(|(inserted, _)| inserted != name));
    }

    pub(super) fn lose_power(&mut self, survives: &mut dyn FnMut() -> bool) {
        for inode in self.inodes.values_mut() {
            inode.lose_power(survives);
        }
        for change in std::mem::take(&mut self.pending) {
            if survives() {
                self.make_durable(change);
            }
        }
        self.names.clone_from(&self.durable_names);
        self.forget_nameless();
    }

    pub(super) fn create(&mut self, name: FileName) -> Result<(), DiskError> {
        self.call(None)?;
        let inode = self.add(Inode::default());
        self.change(name.folder(), None, Some((name, inode)));
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        name: FileName,
        pos: usize,
        bytes: &[u8],
    ) -> Result<(), DiskError> {
        self.call(None)?;
        self.reserve(name, pos + bytes.len())?;
        self.inode_mut(name)?.write(pos, bytes);
        Ok(())
    }

    pub(super) fn set_len(&mut self, name: FileName, len: usize) -> Result<(), DiskError> {
        self.call(None)?;
        self.reserve(name, len)?;
        self.inode_mut(name)?.set_len(len);
        Ok(())
    }

    pub(super) fn sync(&mut self, name: FileName) -> Result<(), DiskError> {
        self.call(Some(name))?;
        self.inode_mut(name)?.sync();
        Ok(())
    }

    pub(super) fn fail_sync(&mut self, name: FileName) {
        if let Ok(inode) = self.inode_mut(name) {
            inode.fail_sync();
        }
    }

    /// What had the new name is gone.
    pub(super) fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        self.call(None)?;
        let inode = *self.names.get(&from).ok_or(DiskError::Missing)?;
        self.change(to.folder(), Some(from), Some((to, inode)));
        Ok(())
    }

    pub(super) fn unlink(&mut self, name: FileName) -> Result<(), DiskError> {
        self.call(None)?;
        self.forget(name);
        Ok(())
    }

    /// An unlink that nobody waits for, such as when a unit is given up.
    pub(super) fn forget(&mut self, name: FileName) {
        if !self.dead && self.names.contains_key(&name) {
            self.change(name.folder(), Some(name), None);
        }
    }

    pub(super) fn sync_folder(&mut self, folder: Folder) -> Result<(), DiskError> {
        self.call(None)?;
        for change in std::mem::take(&mut self.pending) {
            if change.folder == folder {
                self.make_durable(change);
            } else {
                self.pending.push(change);
            }
        }
        self.forget_nameless();
        Ok(())
    }

    /// A WAL file of its size with its header appears under its name, whole and durable. It is made of a spare one if there
    /// is one, with what that one holds behind the header.
    pub(super) fn create_wal(&mut self, file: &NewFile) -> Result<(), DiskError> {
        let size = file.size as usize;
        self.wal_bytes = size;
        let spare = self.spares().find(|(_, len)| *len >= size);
        let spare = match spare {
            Some((spare, len)) => {
                if len > size {
                    self.set_len(spare, size)?;
                }
                spare
            }
            None => self.make_spare(size)?,
        };
        self.write(spare, 0, &file.header)?;
        self.sync(spare)?;
        self.rename(spare, FileName::Wal(file.file_no))?;
        self.sync_folder(Folder::Wal)
    }

    /// Keeps a WAL file for recycling, or removes it. One that was cut is not worth keeping.
    pub(super) fn give_back_wal(&mut self, file_no: FileNo) -> Result<(), DiskError> {
        let name = FileName::Wal(file_no);
        let is_whole = self.inode(name)?.len() >= self.wal_bytes;
        if is_whole && self.spares().count() < SPARES_MAX {
            let spare = self.spare_name();
            self.rename(name, spare)?;
        } else {
            self.unlink(name)?;
        }
        self.sync_folder(Folder::Wal)
    }

    pub(super) fn prepare(&mut self, wanted: usize, size: usize) -> Result<usize, DiskError> {
        loop {
            let ready = self.spares().filter(|(_, len)| *len >= size).count();
            if ready >= wanted {
                return Ok(ready);
            }
            match self.make_spare(size) {
                Ok(_) => {}
                Err(DiskError::Full) => return Ok(ready),
                Err(error) => return Err(error),
            }
        }
    }

    fn spares(&self) -> impl Iterator<Item = (FileName, usize)> {
        let spares = self.names.range(FileName::Spare(0)..=FileName::Spare(u64::MAX));
        spares.map(|(name, inode)| (*name, self.inodes[inode].len()))
    }

    fn spare_name(&mut self) -> FileName {
        self.next_spare += 1;
        FileName::Spare(self.next_spare)
    }

    /// One that cannot have its size is given up.
    fn make_spare(&mut self, size: usize) -> Result<FileName, DiskError> {
        let spare = self.spare_name();
        self.create(spare)?;
        let made = self.set_len(spare, size).and_then(|()| self.sync(spare));
        made.inspect_err(|_| self.forget(spare))?;
        Ok(spare)
    }

    /// A call of the process, perhaps its last: each may be a sync of a file.
    fn call(&mut self, synced: Option<FileName>) -> Result<(), DiskError> {
        if self.dead {
            return Err(DiskError::Died);
        }
        self.calls += 1;
        match &mut self.dies {
            Some((0, death)) => {
                let death = *death;
                self.dead = true;
                if let (Death::FailedSync, Some(name)) = (death, synced) {
                    self.fail_sync(name);
                }
                return Err(DiskError::Died);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        match &mut self.fails {
            Some((0, trouble)) => {
                let trouble = *trouble;
                self.fails = None;
                if let Some(name) = synced {
                    self.fail_sync(name);
                }
                Err(match trouble {
                    Trouble::Full => DiskError::Full,
                    Trouble::Io => DiskError::Io,
                })
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether there is space for a file to be so long.
    fn reserve(&self, name: FileName, len: usize) -> Result<(), DiskError> {
        let more = len.saturating_sub(self.inode(name)?.len()) as u64;
        match self.space_max {
            Some(max) if more > 0 && self.used() + more > max => Err(DiskError::Full),
            Some(_) | None => Ok(()),
        }
    }

    fn inode_mut(&mut self, name: FileName) -> Result<&mut Inode, DiskError> {
        let inode = self.names.get(&name).ok_or(DiskError::Missing)?;
        self.inodes.get_mut(inode).ok_or(DiskError::Missing)
    }

    fn add(&mut self, inode: Inode) -> usize {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, inode);
        self.next_inode
    }

    fn change(
        &mut self,
        folder: Folder,
        removed: Option<FileName>,
        inserted: Option<(FileName, usize)>,
    ) {
        let change = NameChange { folder, removed, inserted };
        apply(&mut self.names, change);
        self.pending.push(change);
    }

    fn make_durable(&mut self, change: NameChange) {
        apply(&mut self.durable_names, change);
    }

    fn forget_nameless(&mut self) {
        let pending = self.pending.iter().filter_map(|change| change.inserted);
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let kept: BTreeSet<usize> = named.chain(pending.map(|(_, inode)| inode)).collect();
        self.inodes.retain(|inode, _| kept.contains(inode));
    }
}

/// A file has one name: if a change before this one was lost, its older name goes with this one.
fn apply(names: &mut BTreeMap<FileName, usize>, change: NameChange) {
    if let Some(removed) = change.removed {
        names.remove(&removed);
    }
    if let Some((name, inode)) = change.inserted {
        names.retain(|_, other| *other != inode);
        names.insert(name, inode);
    }
}
