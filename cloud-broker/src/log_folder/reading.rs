//! Cold reads: what the engine plans from files.

use broker_log::{DamagedRun, FileNo, Piece, UnitId};
use bytes::Bytes;

use super::{LogFolder, StoreError};

/// Why a cold read fails. The request that needs it fails; the log goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailed {
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
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogFolder {
    /// The batches of `piece`.
    ///
    /// # Errors
    /// [`ReadFailed`].
    pub(crate) fn read(&self, piece: &Piece) -> Result<Bytes, ReadFailed> {
        let piece = match piece {
            Piece::File(piece) => piece,
            Piece::Memory(bytes) => return Ok(bytes.clone()),
        };
        let (file_no, pos) = (piece.file_no, piece.pos);
        let run = self.read_unit(UnitId::Wal(file_no), u64::from(pos), piece.len as usize)?;
        piece.cut(&run).map_err(|source| ReadFailed::Damaged { file_no, pos, source })
    }
}
