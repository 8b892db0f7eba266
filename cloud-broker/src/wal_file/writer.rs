//! The one thread that writes the WAL.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use broker_log::{FileNo, NewFile, SlotNo, SlotToWrite};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::spare::Spare;
use super::{TMP_EXTENSION, WalError, file_path, sync_folder};

/// What the writer reports.
#[derive(Debug)]
pub enum WalEvent {
    /// This slot is on disk: give it to the engine's `slot_durable`.
    Durable(SlotNo),
    /// A write or a sync failed. It is the last event. Acknowledge nothing more, and end the process with an error:
    /// only a new one can find out what is on disk.
    Failed(WalError),
}

/// The writer has reported [`WalEvent::Failed`] and takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the WAL's writer has stopped")]
pub struct WriterStopped;

/// Hands slots to the writer's thread. Dropped, it waits until the slot in hand is written, then lets go of the folder.
#[derive(Debug)]
pub struct WalWriter {
    /// `None` once this is dropped. Bounded by one, because the engine has one slot in flight.
    slots: Option<SyncSender<SlotToWrite>>,
    thread: Option<JoinHandle<()>>,
}

impl WalWriter {
    pub(super) fn spawn(
        mut files: FileWriter,
        lock: File,
        mut on_event: impl FnMut(WalEvent) + Send + 'static,
    ) -> Result<Self, WalError> {
        let folder = files.folder.clone();
        let (slots, requests) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || {
                write_all(&mut files, &requests, &mut on_event);
                drop(lock);
            })
            .map_err(|e| WalError::io("start a thread for", &folder, e))?;
        Ok(Self { slots: Some(slots), thread: Some(thread) })
    }

    /// Has `slot` written and synced. Does not block while the engine keeps to one slot in flight.
    ///
    /// # Errors
    /// [`WriterStopped`].
    pub fn write(&self, slot: SlotToWrite) -> Result<(), WriterStopped> {
        let slots = self.slots.as_ref().ok_or(WriterStopped)?;
        slots.send(slot).map_err(|_| WriterStopped)
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.slots = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

fn write_all(
    files: &mut FileWriter,
    slots: &Receiver<SlotToWrite>,
    on_event: &mut impl FnMut(WalEvent),
) {
    for slot in slots {
        match files.write(&slot) {
            Ok(()) => on_event(WalEvent::Durable(slot.slot_no)),
            Err(error) => {
                on_event(WalEvent::Failed(error));
                return;
            }
        }
    }
}

/// Writes slots into their files.
#[derive(Debug)]
pub(super) struct FileWriter {
    folder: PathBuf,
    open: Option<OpenFile>,
    spare: Spare,
}

#[derive(Debug)]
struct OpenFile {
    file_no: FileNo,
    path: PathBuf,
    size: u32,
    file: File,
}

impl FileWriter {
    pub(super) fn new(folder: &Path) -> Result<Self, WalError> {
        Ok(Self { folder: folder.to_owned(), open: None, spare: Spare::new(folder)? })
    }

    /// Returns once the slot is on disk.
    pub(super) fn write(&mut self, slot: &SlotToWrite) -> Result<(), WalError> {
        if let Some(new) = &slot.new_file {
            self.open = Some(self.make(new)?);
        }
        let open = self.open.as_ref().filter(|o| o.file_no == slot.file_no);
        let open = open.expect("the engine makes a file before it writes there");
        let written = open.file.write_all_at(&slot.bytes, u64::from(slot.pos));
        written.map_err(|e| WalError::io("write", &open.path, e))?;
        let synced = open.file.sync_data();
        synced.map_err(|e| WalError::io("sync", &open.path, e))?;
        // An idle broker writes nothing: a spare is made only once the file at hand is half full.
        if slot.pos > open.size / 2 {
            self.spare.want(open.size);
        }
        Ok(())
    }

    /// Makes a file with its header, durably, out of the spare if there is one.
    fn make(&self, new: &NewFile) -> Result<OpenFile, WalError> {
        let path = file_path(&self.folder, new.file_no);
        let (made_as, file) = match self.spare.take(new.size) {
            Some(spare) => {
                let file = File::options().read(true).write(true).open(&spare);
                let file = file.map_err(|e| WalError::io("open", &spare, e))?;
                (spare, file)
            }
            None => {
                let tmp = path.with_extension(TMP_EXTENSION);
                let file = File::create(&tmp).map_err(|e| WalError::io("make", &tmp, e))?;
                reserve(&file, &tmp, new.size)?;
                (tmp, file)
            }
        };
        let written = file.write_all_at(&new.header, 0);
        written.map_err(|e| WalError::io("write", &made_as, e))?;
        file.sync_all().map_err(|e| WalError::io("sync", &made_as, e))?;
        fs::rename(&made_as, &path).map_err(|e| WalError::io("rename", &made_as, e))?;
        sync_folder(&self.folder)?;
        Ok(OpenFile { file_no: new.file_no, path, size: new.size, file })
    }
}

/// Takes the file's space from the disk now: once a file exists, a commit into it cannot fail for want of space.
fn reserve(file: &File, path: &Path, size: u32) -> Result<(), WalError> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, u64::from(size)) {
        Ok(()) => Ok(()),
        // Some file systems cannot reserve; there the space is taken as it is written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.set_len(u64::from(size)).map_err(|e| WalError::io("extend", path, e))
        }
        Err(error) => Err(WalError::io("reserve space for", path, error.into())),
    }
}
