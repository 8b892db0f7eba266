//! A disk with a page cache, and a process that can die between any two of its calls.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use broker_log::{
    FileNo, FirstBatch, Log, LogSettings, NewFile, PartitionKey, Piece, Recovered, RecoveryError,
    SlotToWrite, WalFileLen, WalSource, recover,
};
use wire::ids::Incarnation;
use wire::offset::Offset;
use wire::time::UnixMs;

use crate::batches::{Rng, split};

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

#[derive(Debug, Clone)]
pub struct Disk {
    inodes: Vec<Inode>,
    dir: BTreeMap<FileNo, usize>,
    durable_dir: BTreeMap<FileNo, usize>,
    /// Calls until the process dies; `None`: it lives.
    pub calls_left: Option<(usize, Death)>,
    pub calls: usize,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            inodes: Vec::new(),
            dir: BTreeMap::new(),
            durable_dir: BTreeMap::new(),
            calls_left: None,
            calls: 0,
        }
    }

    /// Everything that was not synced is lost, sector by sector, or not.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        for inode in &mut self.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if rng.below(2) == 0 {
                    inode.sector_to_platter(sector);
                }
            }
            inode.cache.clone_from(&inode.platter);
        }
        let names: BTreeSet<FileNo> =
            self.dir.keys().chain(self.durable_dir.keys()).copied().collect();
        for name in names {
            let entry =
                if rng.below(2) == 0 { self.dir.get(&name) } else { self.durable_dir.get(&name) };
            match entry.copied() {
                Some(inode) => self.durable_dir.insert(name, inode),
                None => self.durable_dir.remove(&name),
            };
        }
        self.dir.clone_from(&self.durable_dir);
    }

    pub fn bytes_mut(&mut self, file_no: FileNo) -> &mut Vec<u8> {
        &mut self.inodes[self.dir[&file_no]].cache
    }

    pub fn file_nos(&self) -> Vec<FileNo> {
        self.dir.keys().copied().collect()
    }

    /// Makes a file with these bytes as if it had always been there.
    pub fn put_file(&mut self, file_no: FileNo, bytes: Vec<u8>) {
        self.inodes.push(Inode { platter: bytes.clone(), cache: bytes, dirty: BTreeSet::new() });
        self.dir.insert(file_no, self.inodes.len() - 1);
        self.durable_dir.insert(file_no, self.inodes.len() - 1);
    }

    pub fn unlink(&mut self, file_no: FileNo) {
        self.dir.remove(&file_no);
    }

    fn call(&mut self, synced: Option<FileNo>) -> Result<(), Died> {
        self.calls += 1;
        match &mut self.calls_left {
            Some((0, death)) => {
                if let (Death::FailedSync, Some(file_no)) = (*death, synced) {
                    self.inodes[self.dir[&file_no]].dirty.clear();
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

    fn sync(&mut self, file_no: FileNo) -> Result<(), Died> {
        self.call(Some(file_no))?;
        let inode = &mut self.inodes[self.dir[&file_no]];
        for sector in std::mem::take(&mut inode.dirty) {
            inode.sector_to_platter(sector);
        }
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

impl WalSource for Disk {
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

/// Small enough that a short workload fills several files and leaves the tail behind.
pub fn small() -> LogSettings {
    LogSettings {
        wal_file_bytes: 64 << 10,
        slot_bytes_target: 16 << 10,
        tail_bytes: 24 << 10,
        pending_bytes_max: 1 << 20,
    }
}

/// Starts a broker process on `disk`: what `wal_file.rs` does on a real one.
pub fn start(
    disk: &mut Disk,
    life: u8,
    settings: &LogSettings,
) -> Result<Log, RecoveryError<Died>> {
    let recovered = recover(disk)?;
    let log = carry_out(disk, life, settings, recovered);
    log.map_err(RecoveryError::Source)
}

fn carry_out(
    disk: &mut Disk,
    life: u8,
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
    let mut log = Log::open(settings, Incarnation([life; 16]), recovered, UnixMs(1));
    let open = log.take_slot().unwrap();
    write(disk, &open)?;
    log.slot_durable(open.slot_no);
    Ok(log)
}

/// Writes and syncs a slot.
pub fn write(disk: &mut Disk, slot: &SlotToWrite) -> Result<(), Died> {
    if let Some(file) = &slot.new_file {
        disk.create(file)?;
        disk.sync_dir()?;
    }
    disk.write(slot.file_no, slot.pos as usize, &slot.bytes)?;
    disk.sync(slot.file_no)
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

pub fn read_piece(disk: &mut Disk, piece: &Piece) -> Bytes {
    match piece {
        Piece::Memory(bytes) => bytes.clone(),
        Piece::File(piece) => {
            let run = disk.read_at(piece.file_no, u64::from(piece.pos), piece.len as usize);
            piece.cut(&run.unwrap()).unwrap()
        }
    }
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
