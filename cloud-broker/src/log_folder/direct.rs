//! Writing past the page cache.
//!
//! What is synced at once gains nothing from the page cache: the bytes are copied there, written from there, and push out
//! what somebody may read. Whoever reads the end of the log is served from the engine's memory (docs/decisions/0016).
//!
//! Neither does what is written beside commits: a sync of a few MiB keeps the disk from them for as long as it takes. Pieces
//! that go to the disk one at a time let commits in between.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use broker_log::SLOT_ALIGN;
use bytes::Bytes;
use rustix::fs::OFlags;

/// A file that is written past the page cache, where the file system can.
#[derive(Debug)]
pub(super) struct DirectFile(Option<File>);

impl DirectFile {
    /// Opens the file at `path` once more.
    pub(super) fn open(path: &Path) -> Self {
        let flags = OFlags::DIRECT.bits().cast_signed();
        // Some file systems refuse; there the page cache has to do.
        Self(File::options().write(true).custom_flags(flags).open(path).ok())
    }

    /// Writes `bytes` to `pos`, as whoever opened `buffered` would, but past the page cache if it can.
    ///
    /// # Errors
    /// As [`FileExt::write_all_at`].
    pub(super) fn write(&mut self, buffered: &File, bytes: &[u8], pos: u64) -> io::Result<()> {
        if let Some(direct) = self.0.as_ref().filter(|_| is_aligned(bytes, pos)) {
            match direct.write_all_at(bytes, pos) {
                // Its blocks are larger than ours, or it says only now that it cannot: what was written of it is written again.
                Err(e) if is_refused(&e) => self.0 = None,
                written => return written,
            }
        }
        buffered.write_all_at(bytes, pos)
    }
}

/// Bytes that go to the disk in one piece.
const PIECE_BYTES: usize = 128 << 10;

/// Where the page cache has to do, so many are written without a sync at most: after 256 MiB in one go the 99th percentile of
/// commits was seven times what it is with syncs in between.
const UNSYNCED_BYTES_MAX: usize = 4 << 20;

/// Writes a file from some position on, in pieces past the page cache, where the file system can.
#[derive(Debug)]
pub(super) struct PieceWriter {
    file: File,
    direct: DirectFile,
    /// Where the piece in hand goes.
    pos: u64,
    /// The piece in hand, from `start` on, which lies at a multiple of [`SLOT_ALIGN`] in memory.
    buffer: Vec<u8>,
    start: usize,
    unsynced: usize,
}

impl PieceWriter {
    /// Writes `file`, which is the one at `path`, from `pos` on.
    pub(super) fn new(file: File, path: &Path, pos: u64) -> Self {
        let mut buffer: Vec<u8> = Vec::with_capacity(PIECE_BYTES + SLOT_ALIGN);
        let start = buffer.as_ptr().align_offset(SLOT_ALIGN).min(SLOT_ALIGN);
        buffer.resize(start, 0);
        Self { file, direct: DirectFile::open(path), pos, buffer, start, unsynced: 0 }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As [`FileExt::write_all_at`].
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // What leads to the first block goes by itself, so that the rest is whole blocks.
            let into_block = usize::try_from(self.pos % SLOT_ALIGN as u64).unwrap_or(0);
            let piece = if into_block == 0 { PIECE_BYTES } else { SLOT_ALIGN - into_block };
            let room = piece - (self.buffer.len() - self.start);
            let (fitting, rest) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(fitting);
            if fitting.len() == room {
                self.write(self.buffer.len())?;
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// As [`FileExt::write_all_at`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let blocks = (self.buffer.len() - self.start) / SLOT_ALIGN * SLOT_ALIGN;
        self.write(self.start + blocks)?;
        self.write(self.buffer.len())
    }

    /// Makes what was written durable, with the file's length.
    ///
    /// # Errors
    /// As [`File::sync_data`].
    pub(super) fn sync(&self) -> io::Result<()> {
        // Where a file has its length and its blocks already, its time alone is not worth an entry in the file system's journal.
        self.file.sync_data()
    }

    /// Writes the piece in hand, up to `end` in the buffer.
    fn write(&mut self, end: usize) -> io::Result<()> {
        let piece = &self.buffer[self.start..end];
        if piece.is_empty() {
            return Ok(());
        }
        self.direct.write(&self.file, piece, self.pos)?;
        self.pos += piece.len() as u64;
        self.unsynced += piece.len();
        if self.direct.0.is_none() && self.unsynced >= UNSYNCED_BYTES_MAX {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        self.buffer.drain(self.start..end);
        Ok(())
    }
}

/// Zeros that a disk with blocks of 4 KiB, or less, can fetch from where they are.
pub(super) fn aligned_zeros(len: usize) -> Bytes {
    let zeros = vec![0; len + SLOT_ALIGN];
    let start = zeros.as_ptr().align_offset(SLOT_ALIGN).min(SLOT_ALIGN);
    Bytes::from(zeros).slice(start..start + len)
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// Whether a disk with blocks of 4 KiB, or less, can fetch `bytes` from where they are.
fn is_aligned(bytes: &[u8], pos: u64) -> bool {
    bytes.len().is_multiple_of(SLOT_ALIGN)
        && pos.is_multiple_of(SLOT_ALIGN as u64)
        && bytes.as_ptr().align_offset(SLOT_ALIGN) == 0
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn pieces_lie_behind_each_other_wherever_the_first_begins() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> =
            (0..UNSYNCED_BYTES_MAX + PIECE_BYTES + 12_345).map(|n| (n / 7) as u8).collect();
        for refused in [false, true] {
            for (pos, len) in [0, 1, SLOT_ALIGN, 3 * SLOT_ALIGN + 17].into_iter().flat_map(|pos| {
                let lens = [0, 1, SLOT_ALIGN, PIECE_BYTES, PIECE_BYTES + 1, bytes.len()];
                lens.map(|len| (pos, len))
            }) {
                std::fs::write(&path, vec![b'-'; pos]).unwrap();
                let file = File::options().write(true).open(&path).unwrap();
                let mut writer = PieceWriter::new(file, &path, pos as u64);
                if refused {
                    writer.direct.0 = None;
                }
                for part in bytes[..len].chunks(100_000) {
                    writer.append(part).unwrap();
                }
                writer.flush().unwrap();
                writer.sync().unwrap();
                let written = std::fs::read(&path).unwrap();
                assert_eq!(written.len(), pos + len);
                assert!(written[..pos].iter().all(|byte| *byte == b'-'));
                assert!(written[pos..] == bytes[..len], "{pos} {len} {refused}");
            }
        }
    }

    #[test]
    fn a_piece_that_does_not_fit_the_disk_is_an_error() {
        let full = Path::new("/dev/full");
        let file = File::options().write(true).open(full).unwrap();
        let mut writer = PieceWriter::new(file, full, 0);
        let failed = writer.append(&vec![1; PIECE_BYTES]).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn what_is_written_is_there_however_it_lies_in_memory() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        let buffered = File::options().create(true).write(true).truncate(true).open(&path).unwrap();
        let mut direct = DirectFile::open(&path);
        let bytes: Vec<u8> = (0..4 * SLOT_ALIGN).map(|n| (n / 7) as u8).collect();
        let start = bytes.as_ptr().align_offset(SLOT_ALIGN);
        assert!(is_aligned(&aligned_zeros(SLOT_ALIGN), 0));
        let mut expected = Vec::new();
        let mut check = |part: &[u8], pos: usize| {
            direct.write(&buffered, part, pos as u64).unwrap();
            expected.resize(expected.len().max(pos + part.len()), 0);
            expected[pos..pos + part.len()].copy_from_slice(part);
            assert_eq!(std::fs::read(&path).unwrap(), expected);
        };
        check(&bytes[start..start + 2 * SLOT_ALIGN], 0);
        check(&bytes[start..start + SLOT_ALIGN], 2 * SLOT_ALIGN);
        check(&bytes[start + 1..start + 1 + SLOT_ALIGN], SLOT_ALIGN);
        check(&bytes[start..start + SLOT_ALIGN], 100);
        check(&bytes[start..start + 5], SLOT_ALIGN);
    }
}
