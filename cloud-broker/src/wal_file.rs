//! The WAL on a local disk: a folder of files, one thread that writes and syncs them, readers beside it.
//!
//! Promise 2 rests on this file: [`WalEvent::Durable`] is sent only after the `fdatasync` of the slot has returned, and
//! after a failed write or sync nothing is sent but [`WalEvent::Failed`]. What failed may read back from the page cache
//! and still not be on disk, so the process has to end; the next one rewrites what it finds (docs/formats/wal.md,
//! "Recovery").
//!
//! The folder holds `lock` (one process at a time), `<number in 16 hex digits>.wal`, at most one `spare` file of zeros,
//! and `.tmp` files of what was being made. A file gets its `.wal` name only with its header synced.
//!
//! Deliberately missing: what a slot contains and where it goes (`broker-log` decides), and any buffering: the engine
//! groups commits while a slot is in flight.

mod reader;
mod source;
mod spare;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use broker_log::{
    Corruption, DamagedCheckpoint, FileNo, Log, LogSettings, Recovered, RecoveryError,
    RecoveryReport, SLOT_ALIGN, recover,
};
use wire::ids::Incarnation;
use wire::time::UnixMs;

pub use reader::WalReader;
pub use writer::{WalEvent, WalWriter};

use source::FolderSource;
use writer::FileWriter;

/// Why the WAL cannot be opened or written. Opening can be tried again after what the message asks for; a writer that
/// failed must not be used on, and its process must end.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Durable data is damaged or missing: an operator must decide.
    #[error(
        "the log in {} is damaged: {corruption}. Restore that file, or move the folder away to begin an empty log",
        .folder.display()
    )]
    Corrupt {
        /// The WAL's folder.
        folder: PathBuf,
        /// Where.
        corruption: Corruption,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Another process has this folder.
    #[error("{} is in use by another process", .folder.display())]
    Locked {
        /// The WAL's folder.
        folder: PathBuf,
    },
    /// No checkpoint of the log can be relied on.
    #[error("{}: {damaged}, and no other one is good", .folder.display())]
    NoCheckpoint {
        /// The WAL's folder.
        folder: PathBuf,
        /// The newest.
        damaged: DamagedCheckpoint,
    },
    /// The disk or a quota is full.
    #[error("no space left to {doing} {}: free some, then start again", .path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
    /// Another version of the program wrote this log.
    #[error("{}: WAL file {file_no} is of version {version}, which this program does not read", .folder.display())]
    Version {
        /// The WAL's folder.
        folder: PathBuf,
        /// The file.
        file_no: FileNo,
        /// Its version.
        version: u16,
    },
}

impl WalError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { doing, path }
            }
            _ => Self::Io { doing, path, source },
        }
    }

    fn recovery(folder: &Path, error: RecoveryError<Self>) -> Self {
        let folder = folder.to_owned();
        match error {
            RecoveryError::Corrupt(corruption) => Self::Corrupt { folder, corruption },
            RecoveryError::NoCheckpoint(damaged) => Self::NoCheckpoint { folder, damaged },
            RecoveryError::Source(error) => error,
            RecoveryError::Version { file_no, version } => {
                Self::Version { folder, file_no, version }
            }
        }
    }
}

/// A log that is open for business: its OPEN slot is durable.
#[derive(Debug)]
pub struct OpenedWal {
    /// The engine.
    pub log: Log,
    /// Takes the engine's slots to disk.
    pub writer: WalWriter,
    /// Reads what the engine no longer has in memory.
    pub reader: WalReader,
    /// What recovery found.
    pub report: RecoveryReport,
}

/// Opens the WAL in `folder`, which is made if it does not exist, as `incarnation`: random bits that were never used
/// before. `on_event` is called on the writer's thread and must not block for long: no slot is written meanwhile.
///
/// Blocks until everything is replayed.
///
/// # Errors
/// [`WalError`].
pub fn open(
    folder: &Path,
    settings: &LogSettings,
    incarnation: Incarnation,
    now: UnixMs,
    on_event: impl FnMut(WalEvent) + Send + 'static,
) -> Result<OpenedWal, WalError> {
    make_folder(folder)?;
    // Also when the folder was there: the process that made it may have died before it synced the entry.
    for made in folder.ancestors().skip(1).take(2) {
        sync_folder(if made.as_os_str().is_empty() { Path::new(".") } else { made })?;
    }
    let lock = lock(folder)?;
    let recovered = recover(&mut FolderSource::new(folder))
        .map_err(|error| WalError::recovery(folder, error))?;
    settle(folder, &recovered)?;
    let report = recovered.report;
    let mut log = Log::open(settings, incarnation, recovered, now);
    let mut files = FileWriter::new(folder)?;
    while let Some(slot) = log.take_slot() {
        files.write(&slot)?;
        log.slot_durable(slot.slot_no);
    }
    Ok(OpenedWal {
        log,
        writer: WalWriter::spawn(files, lock, on_event)?,
        reader: WalReader::new(folder),
        report,
    })
}

fn make_folder(folder: &Path) -> Result<(), WalError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    make_folder(parent)?;
    fs::create_dir(folder).map_err(|e| WalError::io("make", folder, e))?;
    // A new folder's own entry must survive, or all files in it vanish together.
    sync_folder(parent)
}

/// Held for as long as the file is open; the kernel lets go of it when the process ends, however it ends.
fn lock(folder: &Path) -> Result<File, WalError> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| WalError::io("make", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(WalError::io("lock", &path, error)),
    }
}

/// Does what recovery asks for before anything may be served.
fn settle(folder: &Path, recovered: &Recovered) -> Result<(), WalError> {
    if let Some(rewrite) = &recovered.rewrite {
        let path = file_path(folder, rewrite.file_no);
        let file = File::options().write(true).open(&path);
        let file = file.map_err(|e| WalError::io("open", &path, e))?;
        for (pos, bytes) in &rewrite.pieces {
            let written = file.write_all_at(bytes, *pos);
            written.map_err(|e| WalError::io("write", &path, e))?;
        }
        // Nothing is ever written behind the last slot of a life that is over: without this, each start would keep the
        // whole reserve of the file before.
        let ends = rewrite.pieces.iter().map(|(pos, bytes)| pos + bytes.len() as u64);
        let end = ends.max().unwrap_or(0).next_multiple_of(SLOT_ALIGN as u64);
        let len = file.metadata().map_err(|e| WalError::io("look at", &path, e))?.len();
        file.set_len(len.min(end)).map_err(|e| WalError::io("cut", &path, e))?;
        file.sync_all().map_err(|e| WalError::io("sync", &path, e))?;
    }
    for file_no in &recovered.dead_files {
        remove(&file_path(folder, *file_no))?;
    }
    for path in leftovers(folder)? {
        remove(&path)?;
    }
    sync_folder(folder)
}

/// Files that were being made when the last process ended.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>, WalError> {
    let failed = |e| WalError::io("list", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|e| e == TMP_EXTENSION) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn remove(path: &Path) -> Result<(), WalError> {
    fs::remove_file(path).map_err(|e| WalError::io("remove", path, e))
}

const FILE_EXTENSION: &str = "wal";
const TMP_EXTENSION: &str = "tmp";
const NUMBER_DIGITS: usize = 16;

fn file_path(folder: &Path, file_no: FileNo) -> PathBuf {
    folder.join(format!("{:0NUMBER_DIGITS$x}.{FILE_EXTENSION}", file_no.0))
}

/// The number of a WAL file; `None` for any other file.
fn file_no_of(path: &Path) -> Option<FileNo> {
    let stem = path.file_stem()?.to_str()?;
    let file_no = FileNo(u64::from_str_radix(stem, 16).ok()?);
    let same = path.file_name() == file_path(Path::new(""), file_no).file_name();
    same.then_some(file_no)
}

/// Makes names that were given, changed or removed in `folder` durable.
fn sync_folder(folder: &Path) -> Result<(), WalError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| WalError::io("sync", folder, e))
}

#[cfg(test)]
mod tests;
