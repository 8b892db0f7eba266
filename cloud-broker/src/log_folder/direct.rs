//! Writing past the page cache.
//!
//! What is synced at once gains nothing from the page cache: the bytes are copied there, written from there, and push out
//! what somebody may read. Whoever reads the end of the log is served from the engine's memory (docs/decisions/0016).

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
