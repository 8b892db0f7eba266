//! What a reader is told to fetch, from where.

use bytes::Bytes;
use wire::offset::Offset;

use crate::batch_cut::{DamagedRun, FirstBatch, cut};
use crate::ids::FileNo;
use crate::partition::{PartitionLog, PartitionOffsets, Run};
use crate::settings::READ_PIECES_MAX;
use crate::tail::Tail;

/// Why nothing can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log's start or above the high watermark: go on from one of these.
    #[error("offset outside the log")]
    OutOfRange(PartitionOffsets),
    /// No such partition: refresh the metadata.
    #[error("no such partition")]
    UnknownPartition,
}

/// Where the answer to a read lies. The pieces belong together in this order; there may be none.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    /// Whole batches each.
    pub pieces: Vec<Piece>,
    /// The partition's offsets when the plan was made.
    pub offsets: PartitionOffsets,
}

/// Consecutive batches of one partition.
#[derive(Debug, Clone)]
pub enum Piece {
    /// To be read from a WAL file.
    File(FilePiece),
    /// At hand.
    Memory(Bytes),
}

/// A run to be read from a file: all `len` bytes of it, then [`FilePiece::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePiece {
    /// The file.
    pub file_no: FileNo,
    /// First byte in the file.
    pub pos: u32,
    /// Bytes.
    pub len: u32,
    base: Offset,
    from: Offset,
    max_bytes: usize,
    first: FirstBatch,
}

impl FilePiece {
    /// The part of `run`, the bytes that were read, that belongs to the answer.
    ///
    /// # Errors
    /// [`DamagedRun`] if the bytes are not this run.
    pub fn cut(&self, run: &Bytes) -> Result<Bytes, DamagedRun> {
        if run.len() != self.len as usize {
            return Err(DamagedRun { at: run.len() });
        }
        let range = cut(run, self.base, self.from, self.max_bytes, self.first)?;
        Ok(run.slice(range))
    }

    fn new(run: &Run, from: Offset, max_bytes: usize, first: FirstBatch) -> Self {
        Self {
            file_no: run.file_no,
            pos: run.pos,
            len: run.len,
            base: run.base,
            from,
            max_bytes,
            first,
        }
    }
}

/// A run that may hold the record that a lookup by time is after. Which record it is, only decoding tells; if none is,
/// ask again from `next`.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The run's batches.
    pub piece: Piece,
    /// The offset behind the run.
    pub next: Offset,
}

/// Plans a read of at most `max_bytes` from the batch that holds `offset`.
pub(crate) fn plan(
    partition: &PartitionLog,
    tail: &Tail,
    offset: Offset,
    max_bytes: usize,
    first: FirstBatch,
) -> Result<ReadPlan, ReadError> {
    let offsets = partition.offsets();
    if offset < offsets.log_start || offset > offsets.high_watermark {
        return Err(ReadError::OutOfRange(offsets));
    }
    let mut pieces = Vec::new();
    let mut left = max_bytes;
    for run in partition.runs_from(offset) {
        let first = if pieces.is_empty() { first } else { FirstBatch::IfItFits };
        // Nothing fits into nothing: a file would be read in vain.
        let is_next = left > 0 || first == FirstBatch::Always;
        let len = run.len as usize;
        if !is_next || pieces.len() >= READ_PIECES_MAX {
            break;
        }
        // A run that is cut short ends the plan: what lies behind it would leave a hole.
        let (taken, whole) = match tail.find(run) {
            Some(bytes) => {
                let Ok(range) = cut(&bytes, run.base, offset, left, first) else {
                    break;
                };
                let ends = range.end == bytes.len();
                let piece = bytes.slice(range);
                let taken = piece.len();
                if taken > 0 {
                    pieces.push(Piece::Memory(piece));
                }
                (taken, ends)
            }
            None if pieces.is_empty() || len <= left => {
                pieces.push(Piece::File(FilePiece::new(run, offset, left, first)));
                (len, len <= left)
            }
            None => break,
        };
        left = left.saturating_sub(taken);
        if !whole {
            break;
        }
    }
    Ok(ReadPlan { pieces, offsets })
}

/// The whole of `run`, from the batch that holds `from`.
pub(crate) fn candidate(run: &Run, tail: &Tail, from: Offset) -> Candidate {
    let all = usize::MAX;
    let in_memory = tail.find(run).and_then(|bytes| {
        let range = cut(&bytes, run.base, from, all, FirstBatch::Always).ok()?;
        Some(Piece::Memory(bytes.slice(range)))
    });
    Candidate {
        piece: in_memory
            .unwrap_or_else(|| Piece::File(FilePiece::new(run, from, all, FirstBatch::Always))),
        next: run.last.plus(1),
    }
}
