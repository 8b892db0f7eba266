//! What a reader is told to fetch, from where.

use std::ops::Range;

use bytes::Bytes;
use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;

use crate::batch_cut::{DamagedRun, FirstBatch, cut};
use crate::catalog::Catalog;
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, UnitId};
use crate::job::Damage;
use crate::lease::Lease;
use crate::partition::{PartitionLog, PartitionOffsets, Run};
use crate::settings::READ_PIECES_MAX;
use crate::slot::SLOT_BYTES_MAX;
use crate::store::UnitSource;
use crate::tail::Tail;
use crate::unit::{ExtentRead, ExtentSearch, ReadFailed, SearchFor};

/// With less than this left of its limit, a read does not begin with one more extent that it cannot finish.
const EXTENT_READ_MIN: usize = 64 << 10;

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
    /// To be read from a unit.
    Extent(ExtentRead, Lease),
    /// To be read from a WAL file.
    File(FilePiece),
    /// In a unit that the log does not know: the program was wrong, or its memory is. Reading it says so.
    Lost(Damage),
    /// At hand.
    Memory(Bytes),
    /// To be searched for in a unit: only in a [`Candidate`].
    Search(ExtentSearch, Lease),
}

/// What was read of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceRead {
    /// Whole batches, in order.
    pub batches: Vec<Bytes>,
    /// Whether it is all that the plan wanted. If not, the answer ends here: what the next piece holds would leave a hole.
    pub is_whole: bool,
    /// The offset behind these batches, if it is not the one behind the run or extent: for a candidate, go on from there.
    pub next: Option<Offset>,
}

impl From<Bytes> for PieceRead {
    fn from(batches: Bytes) -> Self {
        Self { batches: vec![batches], is_whole: true, next: None }
    }
}

impl Piece {
    /// The piece's batches, if they need not be read.
    #[must_use]
    pub fn at_hand(&self) -> Option<&Bytes> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::Extent(..) | Self::File(_) | Self::Lost(_) | Self::Search(..) => None,
        }
    }

    /// Bytes of memory that reading it takes; for an extent, unless its runs differ much.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        match self {
            // Runs are read whole, also if the limit is smaller.
            Self::Extent(read, _) => {
                let in_memory = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
                let run = read.extent.bytes / u64::from(read.extent.count.max(1));
                let longest = in_memory(run.saturating_mul(2));
                in_memory(read.extent.bytes).min(read.max_bytes.max(longest))
            }
            Self::File(piece) => piece.len as usize,
            // Something: nobody is to wait until there is more.
            Self::Lost(_) => 1,
            Self::Memory(bytes) => bytes.len(),
            Self::Search(..) => SLOT_BYTES_MAX,
        }
    }

    /// Reads the piece; blocks if it is not at hand. Each batch is checked by its CRC.
    ///
    /// # Errors
    /// [`ReadFailed`].
    pub fn read<S: UnitSource>(&self, source: &mut S) -> Result<PieceRead, ReadFailed<S::Error>> {
        match self {
            Self::Extent(read, _) => {
                let part = read.run(source)?;
                let is_whole = part.next > read.extent.last;
                Ok(PieceRead { batches: part.batches, is_whole, next: None })
            }
            Self::File(piece) => piece.read(source),
            Self::Lost(damage) => Err(ReadFailed::Damaged(*damage)),
            Self::Memory(bytes) => Ok(bytes.clone().into()),
            Self::Search(search, _) => {
                let found = search.run(source)?;
                Ok(PieceRead {
                    batches: vec![found.batches],
                    is_whole: true,
                    next: Some(found.next),
                })
            }
        }
    }
}

/// A run to be read from a file.
#[derive(Debug, Clone)]
pub struct FilePiece {
    /// The file.
    pub file_no: FileNo,
    /// First byte in the file.
    pub pos: u32,
    /// Bytes.
    pub len: u32,
    key: PartitionKey,
    base: Offset,
    last: Offset,
    from: Offset,
    max_bytes: usize,
    first: FirstBatch,
    /// The file is not given back while this is held.
    _lease: Lease,
}

impl FilePiece {
    /// Reads the run and checks what belongs to the answer, which ends in front of a damaged batch: the reader asks again, and
    /// is told then.
    fn read<S: UnitSource>(&self, source: &mut S) -> Result<PieceRead, ReadFailed<S::Error>> {
        let (unit, pos) = (UnitId::Wal(self.file_no), u64::from(self.pos));
        let run = source.read_at(unit, pos, self.len as usize).map_err(ReadFailed::Source)?;
        let (range, damaged) = self.intact(&run);
        match damaged {
            Some((at, base)) if range.is_empty() => {
                let (at, base) = first_damaged(&run).unwrap_or((at, base));
                Err(ReadFailed::Damaged(Damage {
                    unit,
                    from: pos + at as u64,
                    to: pos + u64::from(self.len),
                    key: self.key,
                    base,
                    last: self.last,
                }))
            }
            damaged => Ok(PieceRead {
                batches: vec![run.slice(range)],
                is_whole: damaged.is_none(),
                next: damaged.map(|(_, base)| base),
            }),
        }
    }

    /// The batches of `run` that belong to the answer, as far as they are what was written; then where that ends, if it
    /// does, and the first offset that cannot be read.
    fn intact(&self, run: &[u8]) -> (Range<usize>, Option<(usize, Offset)>) {
        let cut_of = |run| cut(run, self.base, self.from, self.max_bytes, self.first);
        let (mut range, mut damaged) = match cut_of(run) {
            Ok(range) if run.len() == self.len as usize => (range, None),
            Ok(_) => (0..0, Some(run.len())),
            Err(DamagedRun { at }) => (cut_of(&run[..at]).unwrap_or(0..0), Some(at)),
        };
        let (mut at, mut base) = (range.start, self.from);
        while at < range.end {
            let batch = &run[at..range.end];
            let header = RecordBatchHeader::parse(batch).ok();
            let Some(header) = header.filter(|header| header.check_crc(batch).is_ok()) else {
                damaged = Some(at);
                range.end = at;
                break;
            };
            at += header.total_len;
            base = header.base_offset.plus(header.last_offset_delta + 1);
        }
        (range, damaged.map(|at| (at, base)))
    }
}

/// The first batch of `run` whose CRC does not match, and its first offset: a length that is damaged shows only where the
/// next batch should begin.
fn first_damaged(run: &[u8]) -> Option<(usize, Offset)> {
    let mut at = 0;
    while let Ok(header) = RecordBatchHeader::parse(run.get(at..)?) {
        if header.check_crc(&run[at..]).is_err() {
            return Some((at, header.base_offset));
        }
        at += header.total_len;
    }
    None
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

/// What plans are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub(crate) key: PartitionKey,
    pub(crate) partition: &'a PartitionLog,
    pub(crate) catalog: &'a Catalog,
    pub(crate) tail: &'a Tail,
}

/// What a reader wants of a run.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    from: Offset,
    max_bytes: usize,
    first: FirstBatch,
}

impl Planner<'_> {
    /// Plans a read of at most `max_bytes` from the batch that holds `offset`.
    pub(crate) fn plan(
        &self,
        offset: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<ReadPlan, ReadError> {
        let offsets = self.partition.offsets();
        if offset < offsets.log_start || offset > offsets.high_watermark {
            return Err(ReadError::OutOfRange(offsets));
        }
        let mut pieces = Vec::new();
        let mut left = max_bytes;
        for extent in self.partition.extents_from(offset) {
            let first = if pieces.is_empty() { first } else { FirstBatch::IfItFits };
            let is_next = left > 0 || first == FirstBatch::Always;
            let all = usize::try_from(extent.bytes).unwrap_or(usize::MAX);
            let is_worth_it = pieces.is_empty() || all <= left || left >= EXTENT_READ_MIN;
            if !is_next || !is_worth_it || pieces.len() >= READ_PIECES_MAX {
                return Ok(ReadPlan { pieces, offsets });
            }
            let wanted = Wanted { from: offset, max_bytes: left, first };
            let piece = self.extent_piece(extent, wanted);
            let is_lost = matches!(piece, Piece::Lost(_));
            pieces.push(piece);
            if all > left || is_lost {
                return Ok(ReadPlan { pieces, offsets });
            }
            left -= all;
        }
        for run in self.partition.runs_from(offset) {
            let first = if pieces.is_empty() { first } else { FirstBatch::IfItFits };
            // Nothing fits into nothing: a file would be read in vain.
            let is_next = left > 0 || first == FirstBatch::Always;
            let len = run.len as usize;
            if !is_next || pieces.len() >= READ_PIECES_MAX {
                break;
            }
            // A run that is cut short ends the plan: what lies behind it would leave a hole.
            let (taken, whole) = match self.tail.find(run) {
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
                    let wanted = Wanted { from: offset, max_bytes: left, first };
                    pieces.push(self.file_piece(run, wanted));
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
    pub(crate) fn candidate(&self, run: &Run, from: Offset) -> Candidate {
        let all = Wanted { from, max_bytes: usize::MAX, first: FirstBatch::Always };
        let in_memory = self.tail.find(run).and_then(|bytes| {
            let range = cut(&bytes, run.base, from, all.max_bytes, all.first).ok()?;
            Some(Piece::Memory(bytes.slice(range)))
        });
        Candidate {
            piece: in_memory.unwrap_or_else(|| self.file_piece(run, all)),
            next: run.last.plus(1),
        }
    }

    fn extent_piece(&self, extent: &Extent, wanted: Wanted) -> Piece {
        let Some(unit) = self.catalog.unit(extent.unit) else {
            return self.lost(extent, wanted.from);
        };
        let read = ExtentRead {
            key: self.key,
            unit: unit.meta,
            extent: *extent,
            from: wanted.from,
            max_bytes: wanted.max_bytes,
            first: wanted.first,
        };
        Piece::Extent(read, unit.lease.clone())
    }

    /// The catalog has a unit as long as a partition has something in it. If it should not be so, nobody may go on as if there
    /// was nothing.
    fn lost(&self, extent: &Extent, from: Offset) -> Piece {
        Piece::Lost(Damage {
            unit: extent.unit,
            from: 0,
            to: 0,
            key: self.key,
            base: extent.base.max(from),
            last: extent.last,
        })
    }

    /// What is searched for in an extent, from `from` on.
    pub(crate) fn search(&self, extent: &Extent, from: Offset, what: SearchFor) -> Candidate {
        let next = extent.last.plus(1);
        let Some(unit) = self.catalog.unit(extent.unit) else {
            return Candidate { piece: self.lost(extent, from), next };
        };
        let search = ExtentSearch { key: self.key, unit: unit.meta, extent: *extent, from, what };
        Candidate { piece: Piece::Search(search, unit.lease.clone()), next }
    }

    fn file_piece(&self, run: &Run, wanted: Wanted) -> Piece {
        let lease = self.catalog.file(run.file_no).map(|file| file.lease.clone());
        Piece::File(FilePiece {
            file_no: run.file_no,
            pos: run.pos,
            len: run.len,
            key: self.key,
            base: run.base,
            last: run.last,
            from: wanted.from,
            max_bytes: wanted.max_bytes,
            first: wanted.first,
            _lease: lease.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::Partition;
    use wire::time::UnixMs;

    use super::*;
    use crate::checkpoint::PartitionState;
    use crate::ids::{SlotNo, TopicNo, UnitNo};
    use crate::unit::{UnitKind, UnitMeta};

    const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };

    /// Holds nothing.
    struct Empty;

    impl UnitSource for Empty {
        type Error = ();

        fn read_at(&mut self, _: UnitId, _: u64, _: usize) -> Result<Bytes, ()> {
            Err(())
        }
    }

    fn meta(unit: u64) -> UnitMeta {
        UnitMeta {
            id: UnitId::Unit(UnitNo(unit)),
            kind: UnitKind::Evacuated,
            len: 1_000,
            entries_off: 500,
            dir_off: 600,
            entry_count: 1,
            dir_count: 1,
            first_slot: SlotNo(0),
            end_slot: SlotNo(1),
            max_append_ms: UnixMs(0),
            setsum: 0,
            crc: 0,
        }
    }

    /// Ten offsets in each of the units 0, 1 and 2.
    fn partition() -> PartitionLog {
        let extent = |unit: i64| Extent {
            unit: meta(unit.unsigned_abs()).id,
            base: Offset(unit * 10),
            last: Offset(unit * 10 + 9),
            max_timestamp: UnixMs(unit),
            max_append_ms: UnixMs(0),
            bytes: 100,
            first: 0,
            count: 1,
        };
        PartitionLog::restore(&PartitionState {
            next: Offset(30),
            extents: (0..3).map(extent).collect(),
            ..PartitionState::empty(KEY)
        })
    }

    #[test]
    fn a_unit_that_is_not_known_ends_a_plan_and_is_told_of() {
        let (partition, mut catalog, tail) = (partition(), Catalog::default(), Tail::new(0));
        for known in [0, 2] {
            catalog.restore(meta(known), 0);
        }
        let planner = Planner { key: KEY, partition: &partition, catalog: &catalog, tail: &tail };
        let lost = |base| Damage {
            unit: meta(1).id,
            from: 0,
            to: 0,
            key: KEY,
            base: Offset(base),
            last: Offset(19),
        };
        for (from, expected) in [(5, vec![None, Some(lost(10))]), (12, vec![Some(lost(12))])] {
            let plan = planner.plan(Offset(from), 1 << 20, FirstBatch::Always).unwrap();
            let found: Vec<Option<Damage>> = plan
                .pieces
                .iter()
                .map(|piece| match piece.read(&mut Empty) {
                    Err(ReadFailed::Damaged(damage)) => Some(damage),
                    Ok(_) | Err(ReadFailed::Source(())) => None,
                })
                .collect();
            assert_eq!(found, expected, "from {from}: what lies behind would leave a hole");
            assert!(plan.pieces.iter().all(|piece| piece.bytes_max() > 0), "somebody waits");
        }
        let extent = &partition.extents()[1];
        let searched = planner.search(extent, Offset(11), SearchFor::Greatest);
        let found = searched.piece.read(&mut Empty);
        assert_eq!(found, Err(ReadFailed::Damaged(lost(11))));
        let plan = planner.plan(Offset(20), 1 << 20, FirstBatch::Always).unwrap();
        assert!(matches!(plan.pieces[..], [Piece::Extent(..)]));
    }
}
