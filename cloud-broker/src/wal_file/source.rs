//! The WAL's folder as recovery reads it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use broker_log::store::{CheckpointId, CheckpointStore, UnitSource, UnitStore, UnitWrite};
use broker_log::{FileNo, UnitId, UnitNo, WalFileLen, WalSource};
use bytes::{Bytes, BytesMut};

use super::{WalError, file_no_of, file_path};

/// Reads one file after the other, so one open handle is enough.
pub(super) struct FolderSource {
    folder: PathBuf,
    open: Option<(FileNo, File)>,
}

impl FolderSource {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: None }
    }

    fn file(&mut self, file_no: FileNo) -> io::Result<&File> {
        let file = match self.open.take() {
            Some((open, file)) if open == file_no => file,
            Some(_) | None => File::open(file_path(&self.folder, file_no))?,
        };
        Ok(&self.open.insert((file_no, file)).1)
    }
}

impl WalSource for FolderSource {
    type Error = WalError;

    fn files(&mut self) -> Result<Vec<WalFileLen>, WalError> {
        let failed = |e| WalError::io("list", &self.folder, e);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(file_no) = file_no_of(&entry.path()) {
                let len = entry.metadata().map_err(failed)?.len();
                files.push(WalFileLen { file_no, len });
            }
        }
        Ok(files)
    }

    fn read_at(&mut self, file_no: FileNo, pos: u64, len: usize) -> Result<Bytes, WalError> {
        let path = file_path(&self.folder, file_no);
        let failed = |e| WalError::io("read", &path, e);
        let file = self.file(file_no).map_err(failed)?;
        let mut bytes = BytesMut::zeroed(len);
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut bytes[filled..], pos + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.freeze())
    }
}

impl UnitSource for FolderSource {
    type Error = WalError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, WalError> {
        match unit {
            UnitId::Wal(file_no) => WalSource::read_at(self, file_no, pos, len),
            UnitId::Unit(_) => Ok(Bytes::new()),
        }
    }
}

impl UnitStore for FolderSource {
    type Writer = NoUnit;

    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, WalError> {
        Ok(Vec::new())
    }

    fn create(&mut self, _: UnitNo) -> Result<NoUnit, WalError> {
        let error = io::ErrorKind::Unsupported.into();
        Err(WalError::io("make a unit in", &self.folder, error))
    }

    fn seal(&mut self, _: FileNo, _: u64, _: &[u8]) -> Result<(), WalError> {
        Ok(())
    }

    fn free(&mut self, _: UnitId) -> Result<(), WalError> {
        Ok(())
    }
}

/// No unit is ever made.
pub(crate) enum NoUnit {}

impl UnitWrite for NoUnit {
    type Error = WalError;

    fn append(&mut self, _: &[u8]) -> Result<(), WalError> {
        match *self {}
    }

    fn finish(self) -> Result<(), WalError> {
        match self {}
    }
}

impl CheckpointStore for FolderSource {
    type Error = WalError;

    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, WalError> {
        Ok(Vec::new())
    }

    fn get_checkpoint(&mut self, _: CheckpointId) -> Result<Bytes, WalError> {
        Ok(Bytes::new())
    }

    fn put_checkpoint(&mut self, _: CheckpointId, _: &[Bytes]) -> Result<(), WalError> {
        Ok(())
    }

    fn remove_checkpoint(&mut self, _: CheckpointId) -> Result<(), WalError> {
        Ok(())
    }
}
