//! The thread that prepares files and looks at the disk.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::direct::{DirectFile, aligned_zeros};
use super::disk::Floor;
use super::{DiskSpace, ReadyFile, SharedSpace, SpaceReport, State, StoreError, WRITTEN_EXTENSION};
use crate::metrics;

/// Others fill the disk too.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Zeros are written in pieces of this, with a pause between: 30 MB/s, which leaves the disk to the commits. A MiB in one
/// piece kept it from them for 0.6 ms.
const PIECE_BYTES: usize = 128 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(4);

/// So much is synced at once: the last sync does not carry it all past a commit's, and the file system does not note down every
/// piece by itself.
const SYNC_BYTES: u64 = 1 << 20;

/// More files than this are not told apart: it is enough.
const FILES_MAX: u64 = 64;

/// Keeps files ready for as long as it lives. Dropped, it waits for its thread, which ends at once unless the disk hangs.
#[derive(Debug)]
pub struct SpaceKeeper {
    space: SharedSpace,
    thread: Option<JoinHandle<()>>,
}

impl SpaceKeeper {
    /// `on_report` is called on the keeper's thread, first with what there is now, then with whatever changes.
    pub(in super::super) fn spawn(
        space: SharedSpace,
        on_report: impl FnMut(SpaceReport) + Send + 'static,
    ) -> Result<Self, StoreError> {
        Self::spawn_on(space, DiskSpace::of, on_report)
    }

    /// The same on a disk that `disk_of` looks at.
    pub(super) fn spawn_on(
        space: SharedSpace,
        disk_of: impl FnMut(&Path) -> Result<DiskSpace, StoreError> + Send + 'static,
        on_report: impl FnMut(SpaceReport) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let mut keeping = Keeping {
            floor: Floor::new(space.settings.floor, space.settings.file_bytes),
            space: Arc::clone(&space),
            disk: DiskSpace::default(),
            disk_of,
            looked: None,
            reported: None,
            on_report,
        };
        keeping.look();
        let thread = thread::Builder::new()
            .name("wal-space".to_owned())
            .spawn(move || keeping.run())
            .map_err(|e| StoreError::io("start a thread for", &space.folder, e))?;
        Ok(Self { space, thread: Some(thread) })
    }
}

impl Drop for SpaceKeeper {
    fn drop(&mut self) {
        self.space.lock().stop = true;
        self.space.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only ends early by a panic, which has been reported.
            let _ = thread.join();
        }
    }
}

struct Keeping<D, R> {
    space: SharedSpace,
    floor: Floor,
    disk: DiskSpace,
    disk_of: D,
    looked: Option<Instant>,
    reported: Option<SpaceReport>,
    on_report: R,
}

impl<D, R> Keeping<D, R>
where
    D: FnMut(&Path) -> Result<DiskSpace, StoreError>,
    R: FnMut(SpaceReport),
{
    fn run(&mut self) {
        let space = Arc::clone(&self.space);
        loop {
            self.look_if_due();
            let mut state = space.lock();
            if state.stop {
                return;
            }
            let lacks = state.is_wanted && state.lacks(space.settings.ready_files);
            // Not out of the floor: checkpoints and rewriting need it to give space back.
            let may_prepare = !state.cannot_prepare && !state.below_floor && self.fits() > 0;
            if lacks && may_prepare {
                drop(state);
                self.prepare();
                continue;
            }
            let may_zero = state.is_wanted && !state.hand_over;
            let unwritten = if may_zero { state.take_unwritten() } else { None };
            if let Some(file) = unwritten {
                state.is_zeroing = true;
                space.changed.notify_all();
                drop(state);
                self.zero(file);
                continue;
            }
            self.wait(state, LOOK_INTERVAL);
        }
    }

    /// Waits for a change, or until the disk is to be looked at.
    fn wait(&self, state: MutexGuard<'_, State>, at_most: Duration) {
        if !state.look {
            let waited = self.space.changed.wait_timeout(state, at_most);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn look_if_due(&mut self) {
        let asked = std::mem::take(&mut self.space.lock().look);
        if asked || self.looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL) {
            self.look();
        }
    }

    fn look(&mut self) {
        self.looked = Some(Instant::now());
        match (self.disk_of)(&self.space.folder) {
            Ok(disk) => {
                metrics::disk(&disk);
                self.disk = disk;
                let is_below = self.floor.is_below(disk.free);
                let mut state = self.space.lock();
                let was_below = std::mem::replace(&mut state.below_floor, is_below);
                // Worth another try. Until that has come off there may be as little room as before, whatever the disk says:
                // it knows nothing of quotas.
                state.cannot_prepare = false;
                drop(state);
                self.tell(was_below, is_below);
            }
            Err(error) => tracing::warn!("what is left of the disk is not known: {error}"),
        }
        self.report();
    }

    fn tell(&self, was_below: bool, is_below: bool) {
        let (free, floor) = (self.disk.free, self.space.settings.floor);
        if is_below && !was_below {
            tracing::error!(free, floor, "too little of the disk is free: nothing is taken in");
        } else if was_below && !is_below {
            tracing::info!(free, "enough of the disk is free again");
        }
    }

    fn report(&mut self) {
        let state = self.space.lock();
        let spare = if state.no_space { 0 } else { self.floor.above(self.disk.free) };
        let fits = if state.no_space { 0 } else { self.fits() };
        let report = SpaceReport {
            made: state.made,
            spare,
            files: (fits + state.prepared() as u64).min(FILES_MAX),
            below_floor: state.below_floor,
            disk: self.disk,
        };
        drop(state);
        if self.reported != Some(report) {
            metrics::room(&report);
            self.tell_files(&report);
            (self.on_report)(report);
            self.reported = Some(report);
        }
    }

    /// Clients of producers that are turned away try again in silence: without a line the broker would seem to hang.
    fn tell_files(&self, report: &SpaceReport) {
        let (free, floor) = (report.disk.free, self.space.settings.floor);
        let had_files = self.reported.is_none_or(|reported| reported.files > 0);
        if report.files == 0 && had_files && !report.below_floor {
            tracing::error!(
                free,
                floor,
                "no room for WAL files: nothing is taken in once the last is full"
            );
        } else if report.files > 0 && !had_files {
            tracing::info!(free, "there is room for WAL files again");
        }
    }

    /// Files that fit what is free above the floor.
    fn fits(&self) -> u64 {
        self.floor.above(self.disk.free) / u64::from(self.space.settings.file_bytes)
    }

    fn prepare(&mut self) {
        match self.space.reserve_one() {
            Ok(()) => {
                self.space.lock().no_space = false;
                // It was taken from the disk: what is ready must not be counted once more as free.
                self.look();
            }
            Err(error) => {
                self.not_prepared(&error);
                self.report();
            }
        }
    }

    fn not_prepared(&self, error: &StoreError) {
        let no_space = matches!(error, StoreError::NoSpace { .. });
        if !no_space {
            tracing::warn!("no WAL file can be prepared: {error}");
        }
        let mut state = self.space.lock();
        state.cannot_prepare = true;
        state.no_space = no_space;
    }

    fn zero(&mut self, mut file: ReadyFile) {
        match self.fill(&file) {
            Ok(true) => {
                let written = file.path.with_extension(WRITTEN_EXTENSION);
                if fs::rename(&file.path, &written).is_ok() {
                    file = ReadyFile { path: written, is_written: true };
                }
            }
            Ok(false) => {}
            Err(error) => {
                // It is not to be relied on.
                let _ = fs::remove_file(&file.path);
                self.not_prepared(&error);
                self.space.lock().is_zeroing = false;
                self.space.changed.notify_all();
                self.report();
                return;
            }
        }
        let mut state = self.space.lock();
        state.is_zeroing = false;
        state.ready.push(file);
        self.space.changed.notify_all();
    }

    /// `false` if it was interrupted.
    fn fill(&mut self, file: &ReadyFile) -> Result<bool, StoreError> {
        let path = &file.path;
        let file = File::options().write(true).open(path);
        let file = file.map_err(|e| StoreError::io("open", path, e))?;
        let mut direct = DirectFile::open(path);
        let zeros = aligned_zeros(PIECE_BYTES);
        let size = u64::from(self.space.settings.file_bytes);
        let mut pos = 0;
        while pos < size {
            let len = zeros.len().min(usize::try_from(size - pos).unwrap_or(usize::MAX));
            let written = direct.write(&file, &zeros[..len], pos);
            written.map_err(|e| StoreError::io("write", path, e))?;
            pos += len as u64;
            if pos.is_multiple_of(SYNC_BYTES) || pos == size {
                file.sync_data().map_err(|e| StoreError::io("sync", path, e))?;
            }
            if pos < size && self.is_interrupted() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pauses between pieces; whether somebody needs the file at once.
    fn is_interrupted(&mut self) -> bool {
        let until = Instant::now() + PIECE_PAUSE;
        loop {
            self.look_if_due();
            let state = self.space.lock();
            if state.stop || state.hand_over {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.wait(state, left);
        }
    }
}
