//! Which files there are, whose they are, and where each incarnation's chain ends.

use bytes::Bytes;
use wire::ids::Incarnation;

use super::{Corruption, CorruptionKind, RecoveryError, WalFileLen, WalSource};
use crate::checkpoint::ReplayFrom;
use crate::ids::{FileNo, SlotNo};
use crate::slot::{
    ALL_SHARDS, ControlBody, ExpectedSlot, Open, SLOT_ALIGN, Slot, SlotBody, SlotError, SlotHeader,
};
use crate::wal_file_header::{WAL_FILE_HEADER_BYTES, WalFileHeader, WalFileHeaderError};

/// Where the first slot of a file begins.
pub(super) const FIRST_SLOT_POS: u64 = WAL_FILE_HEADER_BYTES as u64;

/// Bytes that a scan reads at once.
const SCAN_BYTES: usize = 1 << 20;

const _: () = assert!(SCAN_BYTES.is_multiple_of(SLOT_ALIGN));
const _: () = assert!(WAL_FILE_HEADER_BYTES.is_multiple_of(SLOT_ALIGN));

/// The log's files in order.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) chains: Vec<Chain>,
    pub(super) dead_files: Vec<FileNo>,
    /// The number for the next file that is made.
    pub(super) next_file_no: FileNo,
}

/// The files of one incarnation.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) incarnation: Incarnation,
    pub(super) files: Vec<ChainFile>,
    pub(super) leader_epoch: u32,
    /// Where the next incarnation says that this chain ends; `None` for the last.
    pub(super) end: Option<SlotNo>,
}

#[derive(Debug, Clone)]
pub(super) struct ChainFile {
    pub(super) file_no: FileNo,
    pub(super) first_slot: SlotNo,
    /// Bytes that exist of it.
    pub(super) size: u64,
    pub(super) header: Bytes,
}

impl ChainFile {
    pub(super) fn corrupt(&self, from: u64, to: u64, kind: CorruptionKind) -> Corruption {
        Corruption { file_no: self.file_no, from, to, kind }
    }
}

impl Chains {
    /// Puts `files` in order, which begin where replay does.
    pub(super) fn find<S: WalSource>(
        source: &mut S,
        mut files: Vec<WalFileLen>,
        from: Option<&ReplayFrom>,
    ) -> Result<Self, RecoveryError<S::Error>> {
        files.sort_by_key(|file| file.file_no);
        check_no_gap(&files)?;
        let mut dead_files = Vec::new();
        let mut chains: Vec<Chain> = Vec::new();
        let last = files.last().map(|file| file.file_no);
        for file in &files {
            let Some((incarnation, file)) = read_header(source, file)? else {
                // Only the file that was being made in a crash can have no header, and it has no slot either.
                if Some(file.file_no) != last || holds_a_slot(source, file)? {
                    return Err(header_damaged(file).into());
                }
                dead_files.push(file.file_no);
                continue;
            };
            match chains.last_mut() {
                Some(chain) if chain.incarnation == incarnation => chain.files.push(file),
                Some(_) | None => chains.push(Chain {
                    incarnation,
                    files: vec![file],
                    leader_epoch: 0,
                    end: None,
                }),
            }
        }
        if let Some(from) = from {
            check_begins(&files, &chains, from)?;
        }
        link(source, &mut chains, &mut dead_files, from)?;
        let behind = files.last().map_or(FileNo::FIRST, |f| f.file_no.next());
        Ok(Self {
            chains,
            next_file_no: dead_files.iter().min().copied().unwrap_or(behind),
            dead_files,
        })
    }
}

/// Reads every chain's OPEN: it says where the chain before it ends. Chains at the end that have no slot are dead.
fn link<S: WalSource>(
    source: &mut S,
    chains: &mut Vec<Chain>,
    dead_files: &mut Vec<FileNo>,
    from: Option<&ReplayFrom>,
) -> Result<(), RecoveryError<S::Error>> {
    let mut at = chains.len();
    while at > 0 {
        at -= 1;
        // The checkpoint knows the chain in which replay begins.
        if let Some(from) = from.filter(|_| at == 0) {
            chains[at].leader_epoch = u32::try_from(from.leader_epoch.0).unwrap_or(0);
            break;
        }
        let open = read_open(source, &chains[at])?;
        let first = &chains[at].files[0];
        let Some(open) = open else {
            let is_last = at + 1 == chains.len();
            let behind = scan(source, first, FIRST_SLOT_POS, |header| {
                header.head.incarnation == chains[at].incarnation
            })?;
            if !is_last || chains[at].files.len() > 1 || behind.intact_at.is_some() {
                let to = behind.intact_at.unwrap_or(first.size);
                let kind = CorruptionKind::Slots { first: SlotNo(0) };
                return Err(first.corrupt(FIRST_SLOT_POS, to, kind).into());
            }
            dead_files.push(first.file_no);
            chains.pop();
            continue;
        };
        let before = at.checked_sub(1).map(|before| chains[before].incarnation);
        let named = open.predecessors.first().map(|p| p.incarnation);
        let [shard] = open.shards[..] else {
            return Err(inconsistent_open(first));
        };
        if open.predecessors.len() > 1 || shard.shard != ALL_SHARDS {
            return Err(inconsistent_open(first));
        }
        if named != before {
            return Err(predecessor_missing(first));
        }
        chains[at].leader_epoch = shard.epoch;
        if let Some(predecessor) = open.predecessors.first() {
            chains[at - 1].end = Some(predecessor.end);
        }
    }
    Ok(())
}

/// The first file must be the one in which replay begins, of the incarnation that the checkpoint says.
fn check_begins(
    files: &[WalFileLen],
    chains: &[Chain],
    from: &ReplayFrom,
) -> Result<(), Corruption> {
    let is_there = files.first().is_some_and(|file| file.file_no == from.file_no);
    let is_its = chains.first().is_some_and(|chain| {
        let first = &chain.files[0];
        chain.incarnation == from.incarnation && first.file_no == from.file_no
    });
    if is_there && is_its {
        return Ok(());
    }
    let kind = if is_there { CorruptionKind::Header } else { CorruptionKind::FileMissing };
    let to = if is_there { FIRST_SLOT_POS } else { 0 };
    Err(Corruption { file_no: from.file_no, from: 0, to, kind })
}

/// The OPEN of a chain; `None` if its first slot is no intact OPEN.
fn read_open<S: WalSource>(
    source: &mut S,
    chain: &Chain,
) -> Result<Option<Open>, RecoveryError<S::Error>> {
    let first = &chain.files[0];
    if first.first_slot != SlotNo(0) {
        return Err(predecessor_missing(first));
    }
    let expected = ExpectedSlot { incarnation: chain.incarnation, slot_no: SlotNo(0), prev_crc: 0 };
    match read_slot(source, first, FIRST_SLOT_POS, &expected)? {
        Ok((slot, _)) => match slot.body {
            SlotBody::Control(ControlBody::Open(open)) => Ok(Some(open)),
            SlotBody::Control(_) | SlotBody::Data { .. } => Err(inconsistent_open(first)),
        },
        Err(_) => Ok(None),
    }
}

fn inconsistent_open<E>(file: &ChainFile) -> RecoveryError<E> {
    let kind = CorruptionKind::Inconsistent { slot_no: SlotNo(0) };
    file.corrupt(FIRST_SLOT_POS, file.size, kind).into()
}

/// The log begins before `file`, in one that does not exist.
fn predecessor_missing<E>(file: &ChainFile) -> RecoveryError<E> {
    RecoveryError::Corrupt(Corruption {
        file_no: FileNo(file.file_no.0.saturating_sub(1)),
        from: 0,
        to: 0,
        kind: CorruptionKind::FileMissing,
    })
}

fn check_no_gap(files: &[WalFileLen]) -> Result<(), Corruption> {
    for pair in files.windows(2) {
        let expected = pair[0].file_no.next();
        if pair[1].file_no != expected {
            return Err(Corruption {
                file_no: expected,
                from: 0,
                to: 0,
                kind: CorruptionKind::FileMissing,
            });
        }
    }
    Ok(())
}

/// A file's header; `None` if it has none.
fn read_header<S: WalSource>(
    source: &mut S,
    file: &WalFileLen,
) -> Result<Option<(Incarnation, ChainFile)>, RecoveryError<S::Error>> {
    let bytes =
        source.read_at(file.file_no, 0, WAL_FILE_HEADER_BYTES).map_err(RecoveryError::Source)?;
    match WalFileHeader::decode(&bytes) {
        Ok(header) if header.file_no == file.file_no => {
            let found = ChainFile {
                file_no: file.file_no,
                first_slot: header.first_slot,
                // Positions in a file are 32 bits wide; what a longer file holds beyond them is not the log's.
                size: header.size.min(file.len).min(u64::from(u32::MAX)),
                header: bytes,
            };
            Ok(Some((header.incarnation, found)))
        }
        Ok(_) => Err(header_damaged(file).into()),
        Err(WalFileHeaderError::Invalid) => Ok(None),
        Err(WalFileHeaderError::Version(version)) => {
            Err(RecoveryError::Version { file_no: file.file_no, version })
        }
    }
}

fn header_damaged(file: &WalFileLen) -> Corruption {
    Corruption { file_no: file.file_no, from: 0, to: FIRST_SLOT_POS, kind: CorruptionKind::Header }
}

/// Whether a file whose header is unreadable holds a slot of anyone.
fn holds_a_slot<S: WalSource>(
    source: &mut S,
    file: &WalFileLen,
) -> Result<bool, RecoveryError<S::Error>> {
    let file = ChainFile {
        file_no: file.file_no,
        first_slot: SlotNo(0),
        size: file.len,
        header: Bytes::new(),
    };
    let found = scan(source, &file, 0, |_| true)?;
    Ok(found.intact_at.is_some())
}

/// Reads the slot at `pos`; the inner result says whether it is the expected one.
#[expect(clippy::type_complexity, reason = "a read that fails is not a bad slot")]
pub(super) fn read_slot<S: WalSource>(
    source: &mut S,
    file: &ChainFile,
    pos: u64,
    expected: &ExpectedSlot,
) -> Result<Result<(Slot, Bytes), SlotError>, RecoveryError<S::Error>> {
    if pos >= file.size {
        return Ok(Err(SlotError::Missing));
    }
    let mut read = |len| source.read_at(file.file_no, pos, len).map_err(RecoveryError::Source);
    let mut bytes = read(SLOT_ALIGN)?;
    let padded_len = match SlotHeader::parse(&bytes) {
        Ok(header) => header.padded_len(),
        Err(error) => return Ok(Err(error)),
    };
    if padded_len as u64 > file.size - pos {
        return Ok(Err(SlotError::Missing));
    }
    if padded_len > bytes.len() {
        bytes = read(padded_len)?;
    }
    match Slot::decode(&bytes, expected) {
        Ok(slot) => Ok(Ok((slot, bytes))),
        Err(SlotError::Version(version)) => {
            Err(RecoveryError::Version { file_no: file.file_no, version })
        }
        Err(error) => Ok(Err(error)),
    }
}

static ZEROS: [u8; SLOT_ALIGN] = [0; SLOT_ALIGN];

/// What lies behind a bad slot.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The first intact slot of the wanted kind.
    pub(super) intact_at: Option<u64>,
    /// Behind the last 4 KiB that are not all zero.
    pub(super) used_end: Option<u64>,
}

/// Looks at every place from `from` on where a slot may begin.
pub(super) fn scan<S: WalSource>(
    source: &mut S,
    file: &ChainFile,
    from: u64,
    is_wanted: impl Fn(&SlotHeader) -> bool,
) -> Result<Scanned, RecoveryError<S::Error>> {
    let mut scanned = Scanned::default();
    let mut pos = from;
    while pos < file.size {
        let window = read(source, file, pos, SCAN_BYTES)?;
        if window.is_empty() {
            break;
        }
        for block in window.chunks(SLOT_ALIGN) {
            // Compared as a whole: nearly all of a file that is scanned has never been written to.
            if block == &ZEROS[..block.len()] {
                pos += block.len() as u64;
                continue;
            }
            scanned.used_end = Some(pos + block.len() as u64);
            if let Ok(header) = SlotHeader::parse(block)
                && is_wanted(&header)
            {
                let slot = read(source, file, pos, header.total_len)?;
                if header.check_crc(&slot).is_ok() {
                    scanned.intact_at = Some(pos);
                    return Ok(scanned);
                }
            }
            pos += block.len() as u64;
        }
    }
    Ok(scanned)
}

fn read<S: WalSource>(
    source: &mut S,
    file: &ChainFile,
    pos: u64,
    len: usize,
) -> Result<Bytes, RecoveryError<S::Error>> {
    source.read_at(file.file_no, pos, len).map_err(RecoveryError::Source)
}
