//! Cold reads: what the engine plans from files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use broker_log::{DamagedRun, FileNo, Piece};
use bytes::{Bytes, BytesMut};

use super::file_path;

/// WAL files that readers keep open; beyond that the oldest is closed.
const OPEN_FILES_MAX: usize = 128;

/// Why a cold read fails. The request that needs it fails; the log goes on.
#[derive(Debug, thiserror::Error)]
pub enum WalReadError {
    /// The file does not hold what was written there.
    #[error("WAL file {file_no} at byte {pos}: {source}")]
    Damaged {
        /// The file.
        file_no: FileNo,
        /// Where the run begins.
        pos: u32,
        /// What is wrong with it.
        source: DamagedRun,
    },
    /// The operating system's answer.
    #[error("cannot read WAL file {file_no}: {source}")]
    Io {
        /// The file.
        file_no: FileNo,
        /// Its answer.
        source: io::Error,
    },
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

    /// The batches of `piece`.
    ///
    /// # Errors
    /// [`WalReadError`].
    pub fn read(&self, piece: &Piece) -> Result<Bytes, WalReadError> {
        let piece = match piece {
            Piece::File(piece) => piece,
            Piece::Memory(bytes) => return Ok(bytes.clone()),
        };
        let file_no = piece.file_no;
        let failed = |source| WalReadError::Io { file_no, source };
        let file = self.file(file_no).map_err(failed)?;
        let mut run = BytesMut::zeroed(piece.len as usize);
        file.read_exact_at(&mut run, u64::from(piece.pos)).map_err(failed)?;
        let cut = piece.cut(&run.freeze());
        cut.map_err(|source| WalReadError::Damaged { file_no, pos: piece.pos, source })
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
