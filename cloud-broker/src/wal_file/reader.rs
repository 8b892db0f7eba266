//! Cold reads: what the engine plans from files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use broker_log::store::UnitSource;
use broker_log::{FileNo, UnitId};
use bytes::{Bytes, BytesMut};

use super::file_path;

/// WAL files that readers keep open; beyond that the oldest is closed.
const OPEN_FILES_MAX: usize = 128;

/// Why a cold read fails. The request that needs it fails; the log goes on.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {unit}: {source}")]
pub struct WalReadError {
    /// What was read.
    unit: UnitId,
    /// The operating system's answer.
    source: io::Error,
}

/// Reads pieces of read plans. Blocks: to be called from threads that may. Clones share their open files.
#[derive(Debug, Clone)]
pub struct WalReader {
    folder: PathBuf,
    /// A plain lock, because it only guards the map: files are opened and read outside it.
    open: Arc<Mutex<BTreeMap<FileNo, Arc<File>>>>,
}

impl WalReader {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: Arc::default() }
    }

    fn file(&self, file_no: FileNo) -> io::Result<Arc<File>> {
        // A map of handles is whole whoever panicked beside it.
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().get(&file_no) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(file_path(&self.folder, file_no))?);
        let mut open = lock();
        open.insert(file_no, Arc::clone(&file));
        if open.len() > OPEN_FILES_MAX {
            open.pop_first();
        }
        Ok(file)
    }
}

impl UnitSource for WalReader {
    type Error = WalReadError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, WalReadError> {
        let failed = |source| WalReadError { unit, source };
        let file = match unit {
            UnitId::Wal(file_no) => self.file(file_no).map_err(failed)?,
            UnitId::Unit(_) => return Err(failed(io::ErrorKind::NotFound.into())),
        };
        let mut bytes = BytesMut::zeroed(len);
        file.read_exact_at(&mut bytes, pos).map_err(failed)?;
        Ok(bytes.freeze())
    }
}
