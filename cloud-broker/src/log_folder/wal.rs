//! The WAL's files as they are written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use broker_log::store::{Put, SlotPlace, SlotStore};
use broker_log::{FileNo, NewFile, SLOT_HEADER_BYTES, SlotHeader, SlotToWrite, UnitId};
use bytes::Bytes;

use super::direct::DirectFile;
use super::names::tmp_of;
use super::space::reserve;
use super::{LogFolder, StoreError, sync_folder};

/// Writes slots into their files. There is one of these for a folder.
#[derive(Debug)]
pub(crate) struct WalFiles {
    folder: LogFolder,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file_no: FileNo,
    path: PathBuf,
    size: u32,
    /// Behind the last slot.
    end: u32,
    file: File,
    direct: DirectFile,
}

impl WalFiles {
    pub(super) fn new(folder: LogFolder) -> Self {
        Self { folder, open: None }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.folders().wal
    }

    /// Returns once the slot is on disk.
    fn write(&mut self, slot: &SlotToWrite) -> Result<(), StoreError> {
        if let Some(new) = &slot.new_file {
            self.open = Some(self.make(new)?);
            self.folder.space().made();
        }
        let open = self.open.as_mut().filter(|open| open.file_no == slot.file_no);
        let open = open.ok_or_else(|| {
            let path = self.folder.folders().wal_file(slot.file_no);
            StoreError::io("write", &path, io::ErrorKind::NotFound.into())
        })?;
        let written = open.direct.write(&open.file, &slot.bytes, u64::from(slot.pos));
        written.map_err(|e| StoreError::io("write", &open.path, e))?;
        let synced = open.file.sync_data();
        synced.map_err(|e| StoreError::io("sync", &open.path, e))?;
        let len = u32::try_from(slot.bytes.len()).unwrap_or(u32::MAX);
        open.end = slot.pos.saturating_add(len);
        if open.end > open.size / 2 {
            self.folder.space().want();
        }
        Ok(())
    }

    /// Whether something was written where `slot` would go. Files before the open one get no more slots.
    fn is_taken(&self, slot: &SlotToWrite) -> bool {
        self.open.as_ref().is_some_and(|open| {
            slot.file_no < open.file_no || (slot.file_no == open.file_no && slot.pos < open.end)
        })
    }

    /// Makes a file with its header, durably, out of one that is ready if there is one.
    fn make(&self, new: &NewFile) -> Result<OpenFile, StoreError> {
        let path = self.folder.folders().wal_file(new.file_no);
        let (made_as, file) = match self.folder.space().take(new.size) {
            Some(ready) => {
                let file = File::options().read(true).write(true).open(&ready);
                let file = file.map_err(|e| StoreError::io("open", &ready, e))?;
                (ready, file)
            }
            None => {
                let tmp = tmp_of(&path);
                let file = File::create(&tmp).map_err(|e| StoreError::io("make", &tmp, e))?;
                reserve(&file, &tmp, new.size)?;
                (tmp, file)
            }
        };
        let written = file.write_all_at(&new.header, 0);
        written.map_err(|e| StoreError::io("write", &made_as, e))?;
        // With its length and blocks, where it is new.
        file.sync_data().map_err(|e| StoreError::io("sync", &made_as, e))?;
        // A dead file may have this number, and readers have it open.
        self.folder.handles().forget(UnitId::Wal(new.file_no));
        fs::rename(&made_as, &path).map_err(|e| StoreError::io("rename", &made_as, e))?;
        sync_folder(self.folder())?;
        let header = u32::try_from(new.header.len()).unwrap_or(u32::MAX);
        let direct = DirectFile::open(&path);
        Ok(OpenFile { file_no: new.file_no, path, size: new.size, end: header, file, direct })
    }
}

impl SlotStore for WalFiles {
    type Error = StoreError;

    fn put_new(&mut self, slot: &SlotToWrite) -> Put<StoreError> {
        if self.is_taken(slot) {
            return Put::Exists;
        }
        match self.write(slot) {
            Ok(()) => Put::Created,
            Err(error) => Put::Unknown(error),
        }
    }

    fn get(&mut self, place: &SlotPlace) -> Result<Option<Bytes>, StoreError> {
        let unit = UnitId::Wal(place.file_no);
        if !self.folder.folders().wal_file(place.file_no).exists() {
            return Ok(None);
        }
        let pos = u64::from(place.pos);
        let head = self.folder.read_unit(unit, pos, SLOT_HEADER_BYTES)?;
        let Ok(header) = SlotHeader::parse(&head) else {
            return Ok(None);
        };
        let slot = self.folder.read_unit(unit, pos, header.padded_len())?;
        let is_it = (header.head.incarnation, header.head.slot_no)
            == (place.incarnation, place.slot_no)
            && slot.len() == header.padded_len()
            && header.check_crc(&slot).is_ok();
        Ok(is_it.then_some(slot))
    }
}
