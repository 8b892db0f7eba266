//! What can go wrong with files.

use std::io;
use std::path::{Path, PathBuf};

use broker_log::{Corruption, DamagedCheckpoint, FileNo, RecoveryError};

/// Why a file or folder cannot be read or written. A job that met it can be tried again; after a failed write or sync of
/// the WAL the process must end.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// The disk or a quota is full.
    #[error("no space left to {doing} {}", .path.display())]
    NoSpace {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { doing, path }
            }
            _ => Self::Io { doing, path, source },
        }
    }
}

/// Why the log cannot be opened or written. Opening can be tried again after what the message asks for; a writer that
/// failed must not be used on, and its process must end.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Durable data is damaged or missing: an operator must decide.
    #[error(
        "the log in {} is damaged: {corruption}. Restore that file, or move the folder away to begin an empty log",
        .folder.display()
    )]
    Corrupt {
        /// The log's folder.
        folder: PathBuf,
        /// Where.
        corruption: Corruption,
    },
    /// Another version of the program wrote the newest checkpoint.
    #[error("the log in {}: {checkpoint}. Start the version that wrote it", .folder.display())]
    CheckpointVersion {
        /// The log's folder.
        folder: PathBuf,
        /// Which checkpoint, and which version.
        checkpoint: DamagedCheckpoint,
    },
    /// Another process has this folder.
    #[error("{} is in use by another process", .folder.display())]
    Locked {
        /// The log's folder.
        folder: PathBuf,
    },
    /// No checkpoint can be relied on, and without one most of the log cannot be found.
    #[error(
        "the log in {} is damaged: {damaged}, and no other checkpoint is good. Restore it from a copy, or move the folder \
         away to begin an empty log",
        .folder.display()
    )]
    NoCheckpoint {
        /// The log's folder.
        folder: PathBuf,
        /// The newest one, and what is wrong with it.
        damaged: DamagedCheckpoint,
    },
    /// The disk or a quota is full.
    #[error("{0}: free some, then start again")]
    NoSpace(StoreError),
    /// Something is where a slot was to go: the engine and its files do not agree.
    #[error("WAL file {file_no} is already written at byte {pos}")]
    PlaceTaken {
        /// The file.
        file_no: FileNo,
        /// Where in it.
        pos: u32,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Store(StoreError),
    /// Another version of the program wrote this log.
    #[error("{}: WAL file {file_no} is of version {version}, which this program does not read", .folder.display())]
    Version {
        /// The log's folder.
        folder: PathBuf,
        /// The file.
        file_no: FileNo,
        /// Its version.
        version: u16,
    },
}

impl WalError {
    pub(super) fn recovery(folder: &Path, error: RecoveryError<StoreError>) -> Self {
        let folder = folder.to_owned();
        match error {
            RecoveryError::CheckpointVersion(checkpoint) => {
                Self::CheckpointVersion { folder, checkpoint }
            }
            RecoveryError::Corrupt(corruption) => Self::Corrupt { folder, corruption },
            RecoveryError::NoCheckpoint(damaged) => Self::NoCheckpoint { folder, damaged },
            RecoveryError::Source(error) => error.into(),
            RecoveryError::Version { file_no, version } => {
                Self::Version { folder, file_no, version }
            }
        }
    }
}

impl From<StoreError> for WalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace { .. } => Self::NoSpace(error),
            StoreError::Io { .. } => Self::Store(error),
        }
    }
}
