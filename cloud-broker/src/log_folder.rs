//! The log on a local disk: a folder of files, and the threads that write them.
//!
//! Promise 2 rests on this: [`WalEvent::Durable`] is sent only after the `fdatasync` of the slot has returned, and
//! after a failed write or sync nothing is sent but [`WalEvent::Failed`]. What failed may read back from the page cache
//! and still not be on disk, so the process has to end; the next one rewrites what it finds (docs/formats/wal.md,
//! "Recovery"). Units and checkpoints are different: nothing relies on one until it has its name, and it gets that only
//! once it is durable; so a failure there fails only the job.
//!
//! | name | what |
//! |---|---|
//! | `wal/lock` | one process at a time |
//! | `wal/<number>.wal` | WAL files, sealed or not |
//! | `wal/<number>.ready`, `wal/<number>.reserved` | WAL files to come (`space`) |
//! | `unit/<number>.unit` | units |
//! | `ckpt/<incarnation>/<number>.ckpt` | checkpoints |
//! | `ckpt/spare.tmp` | a checkpoint that nobody needs: the next one is written over it |
//! | `*.tmp` | what was being made; removed at start |
//!
//! Numbers have 16 hexadecimal digits. A file gets its name when its content is durable: temporary name, sync, rename, sync
//! of the folder.
//!
//! Deliberately missing: what these files contain and which are needed (`broker-log` decides), and any buffering: the
//! engine groups commits while a slot is in flight.

mod checkpoints;
mod direct;
mod error;
mod handles;
mod names;
mod opening;
mod space;
mod units;
mod wal;
mod wal_source;
mod wal_writer;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::{StoreError, WalError};
pub(crate) use opening::disk_of;
pub use opening::{OpenedLog, open};
pub use space::{DiskSpace, SpaceKeeper, SpaceReport, SpaceSettings};
pub use wal_writer::{WalEvent, WalListener, WalWriter, WriterStopped};

use handles::Handles;
use names::Folders;
use space::{SharedSpace, Space};

/// The folder, as threads hold it. All calls block. Clones share files that are open, and the room for new ones.
#[derive(Debug, Clone)]
pub struct LogFolder {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

/// Bytes of units, footers and checkpoints, and what was read of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    pub(crate) read: u64,
    pub(crate) written: u64,
}

#[derive(Debug, Default)]
struct Counters {
    read: AtomicU64,
    written: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    folders: Folders,
    handles: Handles,
    space: SharedSpace,
}

impl LogFolder {
    fn new(root: &Path, space: SpaceSettings) -> Self {
        let folders = Folders::new(root);
        let space = Arc::new(Space::new(&folders, space));
        let shared = Shared { folders, handles: Handles::default(), space };
        Self { shared: Arc::new(shared), counters: Arc::default() }
    }

    /// The same folder, for somebody whose traffic is counted apart.
    pub(crate) fn with_own_traffic(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), counters: Arc::default() }
    }

    /// What went through this and its clones.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            read: self.counters.read.load(Ordering::Relaxed),
            written: self.counters.written.load(Ordering::Relaxed),
        }
    }

    /// An empty folder in `root`, with nobody who keeps space.
    #[cfg(test)]
    pub(crate) fn for_tests(root: &Path) -> Self {
        let space = SpaceSettings { file_bytes: 8 << 10, ready_files: 1, floor: 0 };
        let folder = Self::new(root, space);
        opening::make_folders(&folder).expect("a temporary folder can be written");
        folder
    }

    fn folders(&self) -> &Folders {
        &self.shared.folders
    }

    fn handles(&self) -> &Handles {
        &self.shared.handles
    }

    fn space(&self) -> &Space {
        &self.shared.space
    }

    fn keep_space(
        &self,
        on_report: impl FnMut(SpaceReport) + Send + 'static,
    ) -> Result<SpaceKeeper, StoreError> {
        SpaceKeeper::spawn(Arc::clone(&self.shared.space), on_report)
    }
}

impl Counters {
    fn add_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What `choose` makes of a folder's entries and their lengths, in any order. An entry that vanishes meanwhile is left out.
fn entries<T>(
    folder: &Path,
    mut choose: impl FnMut(&Path, u64) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let failed = |e| StoreError::io("list", folder, e);
    let mut chosen = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(found) => chosen.extend(choose(&entry.path(), found.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(chosen)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path).map_err(|e| StoreError::io("remove", path, e))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| StoreError::io("remove", path, e)),
    }
}

/// Makes names that were given, changed or removed in `folder` durable.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| StoreError::io("sync", folder, e))
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
