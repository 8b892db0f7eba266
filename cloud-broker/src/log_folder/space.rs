//! Room for the WAL: files that are kept ready, and what is left of the disk.
//!
//! Files are ready before they are needed, off the path of the commits. Recycled ones are best, next those that were filled
//! with zeros: a commit into blocks that were written before costs one sync, into blocks that are only reserved also a
//! journal entry of the file system. Nobody ever waits for zeros.
//!
//! An idle broker writes nothing: files are only prepared once the one at hand is half full.
//!
//! Deliberately missing: what happens when there is no room. The engine turns appends away as long as [`SpaceReport`] says
//! so.

mod disk;
mod keeper;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use broker_log::SLOT_ALIGN;
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, retry_on_intr};

use super::names::{Folders, RESERVED_EXTENSION, WRITTEN_EXTENSION, number_of, numbered, tmp_of};
use super::{StoreError, entries, remove, sync_folder};

pub use disk::DiskSpace;
pub use keeper::SpaceKeeper;

/// Files that are kept beyond those that are wanted, when they come back: what is freed at once is soon needed again.
const RECYCLED_MAX: usize = 2;

/// What `st_blocks` counts, whatever the file system's blocks are.
const BLOCK_BYTES: u64 = 512;

/// The one spare file of zeros that earlier releases kept.
const SPARE: &str = "spare";

/// How much room is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceSettings {
    /// Bytes of a WAL file; rounded down to 4 KiB, as the engine does.
    pub file_bytes: u32,
    /// Files to keep ready.
    pub ready_files: usize,
    /// Free bytes below which nothing may be appended.
    pub floor: u64,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceReport {
    /// Files that were made since the start: which of the engine's files this report knows of.
    pub made: u64,
    /// Files that surely can still be made: those that are ready and those that fit what is free above the floor.
    pub files: u64,
    /// Bytes that are free above the floor.
    pub spare: u64,
    /// Whether less is free than must be. It stays so until clearly more is free.
    pub below_floor: bool,
    /// The disk.
    pub disk: DiskSpace,
}

/// The files that are ready. Held by the log's folder: the WAL's thread takes files, housekeeping brings some back, and the
/// keeper's thread prepares them.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    settings: SpaceSettings,
    /// A lock, because a file must be in one hand: whoever takes it out of the state may write to it. Files are renamed
    /// while it is held, never written or synced: whoever holds it may be a job, which runs at a lower priority than commits.
    state: Mutex<State>,
    /// Something of the state has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<ReadyFile>,
    next_name: u64,
    made: u64,
    /// The file at hand is half full.
    is_wanted: bool,
    /// The last file that was to be prepared could not be, so that it is tried again only after the next look at the disk.
    cannot_prepare: bool,
    /// For want of space, and none could be prepared since. Any other reason the WAL's thread will meet too, and then it is a
    /// failure.
    no_space: bool,
    below_floor: bool,
    /// A file is being filled with zeros.
    is_zeroing: bool,
    /// Somebody waits for the file that is being filled with zeros: it is to be given back as it is.
    hand_over: bool,
    /// The disk should be looked at.
    look: bool,
    stop: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct ReadyFile {
    path: PathBuf,
    /// Whether all its blocks were written before.
    is_written: bool,
}

impl Space {
    pub(super) fn new(folders: &Folders, settings: SpaceSettings) -> Self {
        // Files of another size than the engine's would be kept ready and never taken.
        let align = SLOT_ALIGN as u32;
        let file_bytes = (settings.file_bytes - settings.file_bytes % align).max(align);
        Self {
            folder: folders.wal.clone(),
            settings: SpaceSettings { file_bytes, ..settings },
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Takes over what the last process had ready. To be called once, by who has the lock of the folder.
    pub(super) fn adopt(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        for path in entries(&self.folder, |path, _| Some(path.to_owned()))? {
            let written = number_of(&path, WRITTEN_EXTENSION);
            let number = written.or_else(|| number_of(&path, RESERVED_EXTENSION));
            let is_spare = path.file_name().is_some_and(|name| name == SPARE);
            if number.is_none() && !is_spare {
                continue;
            }
            state.next_name = state.next_name.max(number.map_or(0, |number| number + 1));
            let is_full = state.ready.len() >= self.settings.ready_files + RECYCLED_MAX;
            if is_full || !self.is_whole(&path) {
                remove(&path)?;
                continue;
            }
            let is_written = written.is_some() || is_spare;
            state.ready.push(ReadyFile { path, is_written });
        }
        Ok(())
    }

    /// A file of `size` bytes that holds whatever it holds, to be renamed; `None` if none is ready.
    pub(super) fn take(&self, size: u32) -> Option<PathBuf> {
        if size != self.settings.file_bytes {
            return None;
        }
        let mut state = self.lock();
        loop {
            let best = state.take_best();
            if best.is_some() || !state.is_zeroing {
                state.hand_over = false;
                return best.map(|file| file.path);
            }
            // It comes after the piece that is being written: sooner than a new file could be made.
            state.hand_over = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A file was made; room has changed.
    pub(super) fn made(&self) {
        let mut state = self.lock();
        state.made += 1;
        state.look = true;
        self.changed.notify_all();
    }

    /// Space was given back: producers that were turned away may wait for it.
    pub(super) fn freed(&self) {
        self.lock().look = true;
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub(super) fn is_looked_at_soon(&self) -> bool {
        self.lock().look
    }

    /// The file at hand is half full: have the next ones prepared.
    pub(super) fn want(&self) {
        let mut state = self.lock();
        if !state.is_wanted {
            state.is_wanted = true;
            self.changed.notify_all();
        }
    }

    /// Keeps the WAL file at `path`, which nobody needs, if there is use for it.
    pub(super) fn recycle(&self, path: &Path) -> Result<bool, StoreError> {
        if !self.is_whole(path) {
            return Ok(false);
        }
        {
            let mut state = self.lock();
            let beyond = if state.below_floor { 0 } else { RECYCLED_MAX };
            if state.ready.len() >= self.settings.ready_files + beyond {
                return Ok(false);
            }
            let name = state.new_name(&self.folder, WRITTEN_EXTENSION);
            fs::rename(path, &name).map_err(|e| StoreError::io("rename", path, e))?;
            state.ready.push(ReadyFile { path: name, is_written: true });
            state.look = true;
            self.changed.notify_all();
        }
        // Before the file gets its next name, the log must be rid of its old one; that name is synced when it is given.
        sync_folder(&self.folder)?;
        Ok(true)
    }

    /// Whether a file has a WAL file's size and no hole: a commit into that could fail for want of space. One that was cut and
    /// sealed has a hole, and one that was copied by a program which leaves zeros out.
    fn is_whole(&self, path: &Path) -> bool {
        let bytes = u64::from(self.settings.file_bytes);
        let is_whole = |found: fs::Metadata| {
            found.len() == bytes && found.blocks().saturating_mul(BLOCK_BYTES) >= bytes
        };
        fs::metadata(path).is_ok_and(is_whole)
    }

    /// Makes a file whose blocks are reserved.
    fn reserve_one(&self) -> Result<(), StoreError> {
        let path = self.lock().new_name(&self.folder, RESERVED_EXTENSION);
        let tmp = tmp_of(&path);
        let made =
            File::create(&tmp).map_err(|e| StoreError::io("make", &tmp, e)).and_then(|file| {
                reserve(&file, &tmp, self.settings.file_bytes)?;
                file.sync_all().map_err(|e| StoreError::io("sync", &tmp, e))?;
                fs::rename(&tmp, &path).map_err(|e| StoreError::io("rename", &tmp, e))
            });
        if made.is_err() {
            // Most likely the disk is full: what was got of it is needed more elsewhere.
            let _ = fs::remove_file(&tmp);
        }
        made?;
        self.lock().ready.push(ReadyFile { path, is_written: false });
        self.changed.notify_all();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one step: it is whole whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_best(&mut self) -> Option<ReadyFile> {
        let written = self.ready.iter().position(|file| file.is_written);
        let best = written.or_else(|| self.ready.len().checked_sub(1))?;
        Some(self.ready.swap_remove(best))
    }

    /// A file to fill with zeros.
    fn take_unwritten(&mut self) -> Option<ReadyFile> {
        let unwritten = self.ready.iter().position(|file| !file.is_written)?;
        Some(self.ready.swap_remove(unwritten))
    }

    /// Whether there should be more than are ready. Without space somebody has to try whether there is some again.
    fn lacks(&self, ready_files: usize) -> bool {
        self.prepared() < ready_files.max(usize::from(self.no_space))
    }

    /// Files that are ready, or will be as soon as somebody asks.
    fn prepared(&self) -> usize {
        self.ready.len() + usize::from(self.is_zeroing)
    }

    fn new_name(&mut self, folder: &Path, extension: &str) -> PathBuf {
        let number = self.next_name;
        self.next_name += 1;
        folder.join(numbered(number, extension))
    }
}

/// Takes a file's space from the disk now: once a file exists, a commit into it cannot fail for want of space.
pub(super) fn reserve(file: &File, path: &Path, size: u32) -> Result<(), StoreError> {
    // A signal to the process must not look like a disk that fails.
    let reserved =
        retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, u64::from(size)));
    match reserved {
        Ok(()) => Ok(()),
        // Some file systems cannot reserve; there the space is taken as it is written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            file.set_len(u64::from(size)).map_err(|e| StoreError::io("extend", path, e))
        }
        Err(error) => Err(StoreError::io("reserve space for", path, error.into())),
    }
}

/// Shared by the folder and the keeper.
pub(super) type SharedSpace = Arc<Space>;

#[cfg(test)]
mod tests;
