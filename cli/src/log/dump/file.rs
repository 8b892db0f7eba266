//! One file of the log, opened for reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use broker_log::UnitId;
use broker_log::store::UnitSource;
use bytes::Bytes;

/// One file of the log.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    inode: u64,
    len: u64,
}

impl LogFile {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file, path: path.to_owned(), inode: metadata.ino(), len: metadata.len() })
    }

    /// Its bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The number that its name bears.
    pub fn number(&self) -> Option<u64> {
        let name = self.path.file_stem()?.to_str()?;
        u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16)
    }

    /// The `len` bytes from `pos` on, fewer only at its end.
    pub fn read(&self, pos: u64, len: usize) -> io::Result<Bytes> {
        let left = self.len.saturating_sub(pos);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.file.read_at(&mut bytes[filled..], pos + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }

    /// Whether the name still leads to this file.
    pub fn is_still_there(&self) -> bool {
        self.path.metadata().is_ok_and(|metadata| metadata.ino() == self.inode)
    }
}

impl UnitSource for &LogFile {
    type Error = io::Error;

    fn read_at(&mut self, _: UnitId, pos: u64, len: usize) -> io::Result<Bytes> {
        self.read(pos, len)
    }
}
