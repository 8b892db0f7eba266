//! Where the metadata lives: `ctl/cluster` as a file that is replaced as a whole, with compare-and-swap on its version.
//!
//! | offset | field |
//! |---|---|
//! | 0 | magic `CVC0` |
//! | 4 | version u64, little-endian, from 1 |
//! | 12 | content |
//!
//! The content carries its own CRC. One process writes: the WAL's lock file keeps others out of the data folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Largest content, in bytes: ten thousand topics take about 3 MiB.
pub(crate) const CONTENT_BYTES_MAX: u64 = 16 << 20;

const _: () = assert!(broker_core::IMAGE_BYTES_MAX as u64 <= CONTENT_BYTES_MAX);

const MAGIC: &[u8; 4] = b"CVC0";
const HEAD: usize = 12;
const FILE: &str = "cluster";
const TEMPORARY: &str = "cluster.new";

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    pub(crate) content: Vec<u8>,
}

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    /// Another version is stored: somebody else writes here.
    #[error("version {found} is stored where {expected} was expected")]
    Conflict { expected: u64, found: u64 },
    /// The file is not one of these. Do not overwrite it.
    #[error("{}: not a control file", .0.display())]
    Damaged(PathBuf),
    /// Nothing was changed: the write may be made again.
    #[error("{}: {source}", path.display())]
    Unchanged { path: PathBuf, source: io::Error },
    /// Nobody knows whether the write survives a power cut: the process must not go on.
    #[error("{}: cannot make the change durable: {source}", path.display())]
    Unknown { path: PathBuf, source: io::Error },
}

/// The folder `ctl`.
#[derive(Debug)]
pub(crate) struct ControlStore {
    folder: PathBuf,
}

impl ControlStore {
    /// Opens the folder, making it if it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, ControlError> {
        let unchanged = |source| ControlError::Unchanged { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(unchanged)?;
        if let Some(parent) = folder.parent() {
            sync_folder(parent).map_err(unchanged)?;
        }
        // What is read may have been renamed by a process that died before it synced the folder: nothing may be built on
        // it that a power cut could take back.
        sync_folder(folder).map_err(unchanged)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What is stored, if anything is.
    pub(crate) fn get(&self) -> Result<Option<Stored>, ControlError> {
        let path = self.folder.join(FILE);
        let unchanged = |source| ControlError::Unchanged { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unchanged(error)),
        };
        let mut bytes = Vec::new();
        let limit = CONTENT_BYTES_MAX + HEAD as u64;
        let mut bounded = file.take(limit + 1);
        bounded.read_to_end(&mut bytes).map_err(unchanged)?;
        match bytes.split_first_chunk::<HEAD>() {
            Some((head, content)) if head.starts_with(MAGIC) && bytes.len() as u64 <= limit => {
                let mut version = [0; 8];
                version.copy_from_slice(&head[4..]);
                Ok(Some(Stored {
                    version: u64::from_le_bytes(version),
                    content: content.to_owned(),
                }))
            }
            Some(_) | None => Err(ControlError::Damaged(path)),
        }
    }

    /// Replaces what is stored under `expected` (0: nothing is stored) and returns the new version.
    pub(crate) fn cas(&self, expected: u64, content: &[u8]) -> Result<u64, ControlError> {
        let found = self.get()?.map_or(0, |stored| stored.version);
        if found != expected {
            return Err(ControlError::Conflict { expected, found });
        }
        let version = expected + 1;
        let temporary = self.folder.join(TEMPORARY);
        let path = self.folder.join(FILE);
        let replace = || {
            let mut file = File::create(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&version.to_le_bytes())?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        replace().map_err(|source| ControlError::Unchanged { path: path.clone(), source })?;
        sync_folder(&self.folder)
            .map_err(|source| ControlError::Unknown { path: path.clone(), source })?;
        Ok(version)
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // A relative path of one part has the empty path as its parent, which is the current folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_swapped_in_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl");
        let store = ControlStore::open(&path).unwrap();
        assert_eq!(store.get().unwrap(), None);
        assert_eq!(store.cas(0, b"one").unwrap(), 1);
        assert_eq!(store.cas(1, b"two").unwrap(), 2);
        // A crash while writing leaves a temporary file behind, which is nothing to anybody.
        fs::write(path.join(TEMPORARY), b"half").unwrap();
        let stored = ControlStore::open(&path).unwrap().get().unwrap().unwrap();
        assert_eq!((stored.version, &stored.content[..]), (2, &b"two"[..]));
        assert_eq!(store.cas(2, b"three").unwrap(), 3);
    }

    #[test]
    fn a_stale_version_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = ControlStore::open(folder.path()).unwrap();
        store.cas(0, b"one").unwrap();
        for stale in [0, 2] {
            let refused = store.cas(stale, b"other");
            assert!(matches!(refused, Err(ControlError::Conflict { found: 1, .. })));
        }
        assert_eq!(store.get().unwrap().unwrap().content, b"one");
    }

    #[test]
    fn a_foreign_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let store = ControlStore::open(folder.path()).unwrap();
        fs::write(folder.path().join(FILE), b"something else entirely").unwrap();
        assert!(matches!(store.get(), Err(ControlError::Damaged(_))));
        assert!(matches!(store.cas(0, b"mine"), Err(ControlError::Damaged(_))));
    }
}
