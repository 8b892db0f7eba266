//! The next WAL file, prepared in the background: a commit into a file of written zeros costs one sync, into one whose
//! blocks are only reserved also a journal entry of the file system. Nobody ever waits for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use std::os::unix::fs::FileExt;

use super::{TMP_EXTENSION, WalError, remove, sync_folder};

const NAME: &str = "spare";

/// Zeros are written in pieces of this, with a pause between: 30 MB/s, which leaves the disk to the commits.
const PIECE_BYTES: usize = 1 << 20;
const PIECE_PAUSE: Duration = Duration::from_millis(33);

/// Asks for spare files and takes them.
#[derive(Debug)]
pub(super) struct Spare {
    folder: PathBuf,
    /// `None` once this is dropped.
    wanted: Option<SyncSender<u32>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Spare {
    pub(super) fn new(folder: &Path) -> Result<Self, WalError> {
        let (wanted, requests) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let (in_folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("wal-spare".to_owned())
            .spawn(move || prepare_on_request(&in_folder, &requests, &stopped))
            .map_err(|e| WalError::io("start a thread for", folder, e))?;
        Ok(Self { folder: folder.to_owned(), wanted: Some(wanted), stop, thread: Some(thread) })
    }

    /// Has a file of `size` bytes prepared, unless there is one or one is being made.
    pub(super) fn want(&self, size: u32) {
        if let Some(wanted) = &self.wanted {
            // A full channel means that the thread is busy with the same wish.
            let _ = wanted.try_send(size);
        }
    }

    /// The prepared file, if it is ready and has `size` bytes.
    pub(super) fn take(&self, size: u32) -> Option<PathBuf> {
        let path = self.folder.join(NAME);
        let len = fs::metadata(&path).ok()?.len();
        (len == u64::from(size)).then_some(path)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

fn prepare_on_request(folder: &Path, requests: &Receiver<u32>, stop: &AtomicBool) {
    for size in requests {
        if let Err(error) = prepare(folder, size, stop) {
            tracing::debug!(%error, "no spare WAL file");
        }
    }
}

/// Makes the spare file, unless it is there or `stop` is set. It has its name only when its zeros are on disk.
pub(super) fn prepare(folder: &Path, size: u32, stop: &AtomicBool) -> Result<(), WalError> {
    let path = folder.join(NAME);
    if fs::metadata(&path).is_ok_and(|m| m.len() == u64::from(size)) {
        return Ok(());
    }
    let tmp = path.with_extension(TMP_EXTENSION);
    match fill(&tmp, size, stop) {
        Ok(true) => {
            fs::rename(&tmp, &path).map_err(|e| WalError::io("rename", &tmp, e))?;
            sync_folder(folder)
        }
        Ok(false) => remove(&tmp),
        Err(error) => {
            // Most likely the disk is full: what was written of it is needed more elsewhere.
            let _ = fs::remove_file(&tmp);
            Err(error)
        }
    }
}

/// `false` if it was stopped.
fn fill(tmp: &Path, size: u32, stop: &AtomicBool) -> Result<bool, WalError> {
    let file = File::create(tmp).map_err(|e| WalError::io("make", tmp, e))?;
    let zeros = vec![0; PIECE_BYTES];
    let size = u64::from(size);
    let mut pos = 0;
    while pos < size {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let len = zeros.len().min(usize::try_from(size - pos).unwrap_or(usize::MAX));
        let written = file.write_all_at(&zeros[..len], pos);
        written.map_err(|e| WalError::io("write", tmp, e))?;
        // Synced piece by piece, so that the last sync does not carry it all past a commit's.
        file.sync_data().map_err(|e| WalError::io("sync", tmp, e))?;
        pos += len as u64;
        if pos < size {
            thread::sleep(PIECE_PAUSE);
        }
    }
    file.sync_all().map_err(|e| WalError::io("sync", tmp, e))?;
    Ok(true)
}
