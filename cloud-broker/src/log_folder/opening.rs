//! From a folder to a log that is open for business.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use broker_log::store::{Put, SlotStore, UnitStore};
use broker_log::{
    Log, LogSettings, Recovered, RecoveryReport, SLOT_ALIGN, SlotToWrite, UnitId, recover,
};
use wire::ids::Incarnation;
use wire::time::UnixMs;

use super::names::is_tmp;
use super::wal::WalFiles;
use super::{
    DiskSpace, LogFolder, SpaceKeeper, SpaceReport, SpaceSettings, StoreError, WalError,
    WalListener, WalWriter, entries, remove, sync_folder,
};

/// A log that is open for business: its OPEN slot is durable.
#[derive(Debug)]
pub struct OpenedLog {
    /// The engine.
    pub log: Log,
    /// Reads what the engine no longer has in memory; does its jobs.
    pub folder: LogFolder,
    /// Keeps room for the engine's slots.
    pub keeper: SpaceKeeper,
    /// Takes them to disk. Dropped behind the keeper, because its thread has the lock of the folder.
    pub writer: WalWriter,
    /// What recovery found.
    pub report: RecoveryReport,
}

/// Opens the log in `root`, which is made if it does not exist, as `incarnation`: random bits that were never used
/// before.
///
/// Blocks until everything is replayed.
///
/// # Errors
/// [`WalError`].
pub fn open(
    root: &Path,
    settings: &LogSettings,
    space: SpaceSettings,
    incarnation: Incarnation,
    now: UnixMs,
    wal: impl WalListener,
    on_space: impl FnMut(SpaceReport) + Send + 'static,
) -> Result<OpenedLog, WalError> {
    let mut folder = LogFolder::new(root, space);
    make_folders(&folder)?;
    let lock = lock(&folder)?;
    remove_leftovers(&folder)?;
    folder.space().adopt()?;
    let recovered = recover(&mut folder).map_err(|error| WalError::recovery(root, error))?;
    for damaged in &recovered.damaged {
        tracing::error!("{damaged}; another one is good");
    }
    settle(&mut folder, &recovered)?;
    let report = recovered.report;
    let mut log = Log::open(settings, incarnation, recovered, now);
    let mut files = WalFiles::new(folder.clone());
    while let Some(slot) = log.take_slot() {
        put(&mut files, &slot)?;
        log.slot_durable(slot.slot_no);
    }
    let keeper = folder.keep_space(on_space)?;
    let writer = WalWriter::spawn(files, lock, wal)?;
    Ok(OpenedLog { log, folder, keeper, writer, report })
}

/// The disk that `root` is on, which is made if it does not exist.
///
/// # Errors
/// [`WalError`].
pub(crate) fn disk_of(root: &Path) -> Result<DiskSpace, WalError> {
    make_folder(root)?;
    Ok(DiskSpace::of(root)?)
}

fn put(files: &mut WalFiles, slot: &SlotToWrite) -> Result<(), WalError> {
    match files.put_new(slot) {
        Put::Created => Ok(()),
        Put::Exists => Err(WalError::PlaceTaken { file_no: slot.file_no, pos: slot.pos }),
        Put::Unknown(error) => Err(error.into()),
    }
}

pub(super) fn make_folders(folder: &LogFolder) -> Result<(), StoreError> {
    let folders = folder.folders();
    for made in [&folders.wal, &folders.unit, &folders.checkpoint] {
        make_folder(made)?;
    }
    // Also when they were there: the process that made them may have died before it synced their entries.
    let above = folders.root.parent().filter(|above| !above.as_os_str().is_empty());
    sync_folder(above.unwrap_or(Path::new(".")))?;
    sync_folder(&folders.root)
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    make_folder(parent)?;
    fs::create_dir(folder).map_err(|e| StoreError::io("make", folder, e))?;
    // A new folder's own entry must survive, or all files in it vanish together.
    sync_folder(parent)
}

/// Held for as long as the file is open; the kernel lets go of it when the process ends, however it ends.
fn lock(folder: &LogFolder) -> Result<File, WalError> {
    let path = folder.folders().wal.join("lock");
    let file = File::create(&path).map_err(|e| StoreError::io("make", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(WalError::Locked { folder: folder.folders().root.clone() })
        }
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path, error).into()),
    }
}

/// Removes what was being made when the last process ended, and the checkpoint that it would have written over.
pub(super) fn remove_leftovers(folder: &LogFolder) -> Result<(), StoreError> {
    let folders = folder.folders();
    let leftover = |path: &Path, _| is_tmp(path).then(|| path.to_owned());
    let below: Vec<PathBuf> =
        entries(&folders.checkpoint, |path, _| path.is_dir().then(|| path.to_owned()))?;
    for place in [&folders.wal, &folders.unit, &folders.checkpoint].into_iter().chain(&below) {
        for path in entries(place, leftover)? {
            remove(&path)?;
        }
        // A name that reads back may not be on disk, if the process that gave it was killed before it synced the folder. What a
        // checkpoint no longer names is given back soon: by then it must be there to stay.
        sync_folder(place)?;
    }
    Ok(())
}

/// Does what recovery asks for before anything may be served.
fn settle(folder: &mut LogFolder, recovered: &Recovered) -> Result<(), StoreError> {
    if let Some(rewrite) = &recovered.rewrite {
        let path = folder.folders().wal_file(rewrite.file_no);
        let file = File::options().write(true).open(&path);
        let file = file.map_err(|e| StoreError::io("open", &path, e))?;
        for (pos, bytes) in &rewrite.pieces {
            let written = file.write_all_at(bytes, *pos);
            written.map_err(|e| StoreError::io("write", &path, e))?;
        }
        // Nothing is ever written behind the last slot of a life that is over: without this, each start would keep the
        // whole reserve of the file before.
        let ends = rewrite.pieces.iter().map(|(pos, bytes)| pos + bytes.len() as u64);
        let end = ends.max().unwrap_or(0).next_multiple_of(SLOT_ALIGN as u64);
        let len = file.metadata().map_err(|e| StoreError::io("look at", &path, e))?.len();
        file.set_len(len.min(end)).map_err(|e| StoreError::io("cut", &path, e))?;
        file.sync_all().map_err(|e| StoreError::io("sync", &path, e))?;
    }
    for file_no in &recovered.dead_files {
        folder.free(UnitId::Wal(*file_no))?;
    }
    for unit in &recovered.orphans {
        folder.free(*unit)?;
    }
    sync_folder(&folder.folders().wal)
}
