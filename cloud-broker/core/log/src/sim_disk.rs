//! A disk with a page cache, and a process that can die between any two of its calls. For tests and for the simulator:
//! both must crash the same way, or one of them proves nothing.
//!
//! What is asked of a file that does not exist panics: the caller is a test whose script is wrong.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::time::UnixMs;

use crate::ids::FileNo;
use crate::log::{Log, NewFile, SlotToWrite};
use crate::read::Piece;
use crate::recovery::{Recovered, RecoveryError, WalFileLen, WalSource, recover};
use crate::settings::LogSettings;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;

/// The process ended in the middle of what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has died")]
pub struct Died;

#[derive(Debug, Clone)]
struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// What the next call that would exceed the budget does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The process is killed before it.
    Killed,
    /// If it is a sync, it fails: the kernel marks the pages clean although they are not on disk. The process ends.
    FailedSync,
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    inodes: Vec<Inode>,
    dir: BTreeMap<FileNo, usize>,
    durable_dir: BTreeMap<FileNo, usize>,
    /// Calls until the process dies; `None`: it lives.
    pub calls_left: Option<(usize, Death)>,
    /// Calls made so far.
    pub calls: usize,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was not synced is lost, sector by sector, or not, as `survives` says.
    pub fn lose_power(&mut self, survives: &mut dyn FnMut() -> bool) {
        for inode in &mut self.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if survives() {
                    inode.sector_to_platter(sector);
                }
            }
            inode.cache.clone_from(&inode.platter);
        }
        let names: BTreeSet<FileNo> =
            self.dir.keys().chain(self.durable_dir.keys()).copied().collect();
        for name in names {
            let entry = if survives() { self.dir.get(&name) } else { self.durable_dir.get(&name) };
            match entry.copied() {
                Some(inode) => self.durable_dir.insert(name, inode),
                None => self.durable_dir.remove(&name),
            };
        }
        self.dir.clone_from(&self.durable_dir);
    }

    /// A file's bytes, to damage them.
    pub fn bytes_mut(&mut self, file_no: FileNo) -> &mut Vec<u8> {
        &mut self.inodes[self.dir[&file_no]].cache
    }

    /// The files that exist.
    #[must_use]
    pub fn file_nos(&self) -> Vec<FileNo> {
        self.dir.keys().copied().collect()
    }

    /// Makes a file with these bytes as if it had always been there.
    pub fn put_file(&mut self, file_no: FileNo, bytes: Vec<u8>) {
        self.inodes.push(Inode { platter: bytes.clone(), cache: bytes, dirty: BTreeSet::new() });
        self.dir.insert(file_no, self.inodes.len() - 1);
        self.durable_dir.insert(file_no, self.inodes.len() - 1);
    }

    /// Loses a file.
    pub fn unlink(&mut self, file_no: FileNo) {
        self.dir.remove(&file_no);
    }

    /// Makes the slot's file if it begins one, and writes the slot; nothing of it is durable yet.
    ///
    /// # Errors
    /// [`Died`].
    pub fn write_slot(&mut self, slot: &SlotToWrite) -> Result<(), Died> {
        if let Some(file) = &slot.new_file {
            self.create(file)?;
            self.sync_dir()?;
        }
        self.write(slot.file_no, slot.pos as usize, &slot.bytes)
    }

    /// Makes durable what was written to a file.
    ///
    /// # Errors
    /// [`Died`].
    pub fn sync(&mut self, file_no: FileNo) -> Result<(), Died> {
        self.call(Some(file_no))?;
        let inode = &mut self.inodes[self.dir[&file_no]];
        for sector in std::mem::take(&mut inode.dirty) {
            inode.sector_to_platter(sector);
        }
        Ok(())
    }

    /// A sync fails: the kernel marks the pages clean although they are not on disk. The process must end.
    pub fn fail_sync(&mut self, file_no: FileNo) {
        self.inodes[self.dir[&file_no]].dirty.clear();
    }

    fn call(&mut self, synced: Option<FileNo>) -> Result<(), Died> {
        self.calls += 1;
        match &mut self.calls_left {
            Some((0, death)) => {
                if let (Death::FailedSync, Some(file_no)) = (*death, synced) {
                    self.fail_sync(file_no);
                }
                Err(Died)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, file_no: FileNo, pos: usize, bytes: &[u8]) -> Result<(), Died> {
        self.call(None)?;
        let inode = &mut self.inodes[self.dir[&file_no]];
        inode.cache[pos..pos + bytes.len()].copy_from_slice(bytes);
        inode.dirty.extend(pos / SECTOR..(pos + bytes.len()).div_ceil(SECTOR));
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), Died> {
        self.call(None)?;
        self.durable_dir.clone_from(&self.dir);
        Ok(())
    }

    fn remove(&mut self, file_no: FileNo) -> Result<(), Died> {
        self.call(None)?;
        self.dir.remove(&file_no);
        Ok(())
    }

    /// Written and synced under another name, then renamed: the file appears whole or not at all.
    fn create(&mut self, file: &NewFile) -> Result<(), Died> {
        self.call(None)?;
        let mut bytes = file.header.to_vec();
        bytes.resize(file.size as usize, 0);
        self.inodes.push(Inode { platter: bytes.clone(), cache: bytes, dirty: BTreeSet::new() });
        self.dir.insert(file.file_no, self.inodes.len() - 1);
        Ok(())
    }
}

impl Inode {
    fn sector_to_platter(&mut self, sector: usize) {
        let end = self.cache.len().min((sector + 1) * SECTOR);
        let range = sector * SECTOR..end;
        self.platter[range.clone()].copy_from_slice(&self.cache[range]);
    }
}

impl WalSource for SimDisk {
    type Error = Died;

    fn files(&mut self) -> Result<Vec<WalFileLen>, Died> {
        let len = |inode: usize| self.inodes[inode].cache.len() as u64;
        let files = self
            .dir
            .iter()
            .map(|(file_no, inode)| WalFileLen { file_no: *file_no, len: len(*inode) });
        // The order of a folder's entries is anyone's guess.
        Ok(files.rev().collect())
    }

    fn read_at(&mut self, file_no: FileNo, pos: u64, len: usize) -> Result<Bytes, Died> {
        let bytes = &self.inodes[self.dir[&file_no]].cache;
        let start = bytes.len().min(pos as usize);
        let end = bytes.len().min(start + len);
        Ok(Bytes::copy_from_slice(&bytes[start..end]))
    }
}

/// Starts a broker's log on `disk` as `incarnation`: what `wal_file.rs` does on a real one. Its OPEN is durable.
///
/// # Errors
/// [`RecoveryError`].
pub fn start(
    disk: &mut SimDisk,
    incarnation: Incarnation,
    settings: &LogSettings,
) -> Result<Log, RecoveryError<Died>> {
    let recovered = recover(disk)?;
    let log = carry_out(disk, incarnation, settings, recovered);
    log.map_err(RecoveryError::Source)
}

fn carry_out(
    disk: &mut SimDisk,
    incarnation: Incarnation,
    settings: &LogSettings,
    recovered: Recovered,
) -> Result<Log, Died> {
    if let Some(rewrite) = &recovered.rewrite {
        for (pos, bytes) in &rewrite.pieces {
            disk.write(rewrite.file_no, *pos as usize, bytes)?;
        }
        disk.sync(rewrite.file_no)?;
        disk.sync_dir()?;
    }
    for file_no in &recovered.dead_files {
        disk.remove(*file_no)?;
    }
    disk.sync_dir()?;
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
/// [`Died`].
pub fn write(disk: &mut SimDisk, slot: &SlotToWrite) -> Result<(), Died> {
    disk.write_slot(slot)?;
    disk.sync(slot.file_no)
}

/// The bytes of a part of a read; `None` if the file does not hold them.
#[must_use]
pub fn read_piece(disk: &mut SimDisk, piece: &Piece) -> Option<Bytes> {
    match piece {
        Piece::Memory(bytes) => Some(bytes.clone()),
        Piece::File(piece) => {
            let run = disk.read_at(piece.file_no, u64::from(piece.pos), piece.len as usize);
            piece.cut(&run.ok()?).ok()
        }
    }
}
