//! Units: files of their own, and WAL files that are sealed.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_log::store::{UnitSource, UnitStore, UnitWrite};
use broker_log::{FileNo, UnitId, UnitNo};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::Advice;
use rustix::io::{Errno, pread};

use super::direct::PieceWriter;
use super::names::{tmp_of, unit_no_of};
use super::{Counters, LogFolder, StoreError, entries, remove_if_there, sync_folder};

impl LogFolder {
    /// The `len` bytes of a unit or WAL file from `pos` on, fewer only at its end.
    pub(super) fn read_unit(
        &self,
        unit: UnitId,
        pos: u64,
        len: usize,
    ) -> Result<Bytes, StoreError> {
        let path = self.path_of(unit);
        let failed = |e| StoreError::io("read", &path, e);
        let file = self.handles().file(unit, &path).map_err(failed)?;
        // Into memory that nobody has filled with zeros before.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = pos + bytes.len() as u64;
            match pread(file.as_ref(), spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
        // There may be room for more than was asked for.
        bytes.truncate(len);
        self.counters.add_read(bytes.len());
        Ok(bytes.into())
    }

    fn path_of(&self, unit: UnitId) -> PathBuf {
        match unit {
            UnitId::Wal(file_no) => self.folders().wal_file(file_no),
            UnitId::Unit(unit_no) => self.folders().unit_file(unit_no),
        }
    }
}

impl UnitSource for LogFolder {
    type Error = StoreError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, StoreError> {
        self.read_unit(unit, pos, len)
    }

    fn will_need(&mut self, unit: UnitId, range: Range<u64>) {
        if let Ok(file) = self.handles().file(unit, &self.path_of(unit))
            && let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start))
        {
            // Only a hint.
            let _ = rustix::fs::fadvise(file.as_ref(), range.start, Some(len), Advice::WillNeed);
        }
    }
}

impl UnitStore for LogFolder {
    type Writer = UnitFile;

    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, StoreError> {
        entries(&self.folders().unit, |path, len| Some((unit_no_of(path)?, len)))
    }

    fn create(&mut self, unit: UnitNo) -> Result<UnitFile, StoreError> {
        UnitFile::create(self.folders().unit_file(unit), Arc::clone(&self.counters))
    }

    fn seal(&mut self, file_no: FileNo, pos: u64, footer: &[u8]) -> Result<(), StoreError> {
        let path = self.folders().wal_file(file_no);
        let file = File::options().write(true).open(&path);
        let file = file.map_err(|e| StoreError::io("open", &path, e))?;
        // Replay goes no further than the slots.
        let end = pos + footer.len() as u64;
        file.set_len(end).map_err(|e| StoreError::io("cut", &path, e))?;
        let mut writer = PieceWriter::new(file, &path, pos);
        let written = writer.append(footer).and_then(|()| writer.flush());
        written.map_err(|e| StoreError::io("write", &path, e))?;
        self.counters.add_written(footer.len());
        writer.sync().map_err(|e| StoreError::io("sync", &path, e))
    }

    fn free(&mut self, unit: UnitId) -> Result<(), StoreError> {
        self.handles().forget(unit);
        let path = self.path_of(unit);
        match unit {
            UnitId::Wal(_) if self.space().recycle(&path)? => return Ok(()),
            UnitId::Wal(_) | UnitId::Unit(_) => remove_if_there(&path)?,
        }
        self.space().freed();
        Ok(())
    }
}

/// A unit that is being written, under a temporary name.
#[derive(Debug)]
pub struct UnitFile {
    path: PathBuf,
    tmp: PathBuf,
    writer: PieceWriter,
    counters: Arc<Counters>,
    is_finished: bool,
}

impl UnitFile {
    fn create(path: PathBuf, counters: Arc<Counters>) -> Result<Self, StoreError> {
        let tmp = tmp_of(&path);
        let file = File::create(&tmp).map_err(|e| StoreError::io("make", &tmp, e))?;
        let writer = PieceWriter::new(file, &tmp, 0);
        Ok(Self { path, tmp, writer, counters, is_finished: false })
    }
}

impl UnitWrite for UnitFile {
    type Error = StoreError;

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.writer.append(bytes).map_err(|e| StoreError::io("write", &self.tmp, e))?;
        self.counters.add_written(bytes.len());
        Ok(())
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.writer.flush().map_err(|e| StoreError::io("write", &self.tmp, e))?;
        self.writer.sync().map_err(|e| StoreError::io("sync", &self.tmp, e))?;
        fs::rename(&self.tmp, &self.path).map_err(|e| StoreError::io("rename", &self.tmp, e))?;
        self.is_finished = true;
        let synced = sync_folder(self.path.parent().unwrap_or(Path::new(".")));
        if synced.is_err() {
            // Nobody will ask for it. Left there, each attempt would take as much again.
            let _ = fs::remove_file(&self.path);
        }
        synced
    }
}

impl Drop for UnitFile {
    fn drop(&mut self) {
        if !self.is_finished {
            // What remains is removed at the next start.
            let _ = fs::remove_file(&self.tmp);
        }
    }
}

#[cfg(test)]
mod tests;
