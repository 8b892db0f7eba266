//! Files that readers keep open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker_log::UnitId;

/// Files that readers keep open; beyond that the one is closed that was not read for longest.
const OPEN_FILES_MAX: usize = 128;

/// A plain lock, because it only guards the map: files are opened and read outside it.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<UnitId, Handle>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Handle {
    file: Arc<File>,
    used: u64,
}

impl Handles {
    /// The file of `unit`, which is at `path`.
    pub(super) fn file(&self, unit: UnitId, path: &Path) -> io::Result<Arc<File>> {
        if let Some(file) = self.lock().used(unit) {
            return Ok(file);
        }
        let file = Arc::new(File::open(path)?);
        self.lock().keep(unit, Arc::clone(&file));
        Ok(file)
    }

    /// The name is about to mean nothing, or something else.
    pub(super) fn forget(&self, unit: UnitId) {
        self.lock().files.remove(&unit);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A map of handles is whole whoever panicked beside it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn used(&mut self, unit: UnitId) -> Option<Arc<File>> {
        self.clock += 1;
        let handle = self.files.get_mut(&unit)?;
        handle.used = self.clock;
        Some(Arc::clone(&handle.file))
    }

    fn keep(&mut self, unit: UnitId, file: Arc<File>) {
        self.clock += 1;
        self.files.insert(unit, Handle { file, used: self.clock });
        if self.files.len() > OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, handle)| handle.used);
            if let Some(unit) = oldest.map(|(unit, _)| *unit) {
                self.files.remove(&unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_log::UnitNo;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_least_recently_used_is_closed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"unit").unwrap();
        let handles = Handles::default();
        let unit = |n: usize| UnitId::Unit(UnitNo(n as u64));
        for n in 0..OPEN_FILES_MAX {
            handles.file(unit(n), &path).unwrap();
        }
        handles.file(unit(0), &path).unwrap();
        handles.file(unit(OPEN_FILES_MAX), &path).unwrap();
        let open = handles.lock();
        assert_eq!(open.files.len(), OPEN_FILES_MAX);
        assert!(open.files.contains_key(&unit(0)) && !open.files.contains_key(&unit(1)));
    }

    #[test]
    fn a_forgotten_name_is_opened_again() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"old").unwrap();
        let handles = Handles::default();
        let unit = UnitId::Unit(UnitNo(1));
        let len = || handles.file(unit, &path).unwrap().metadata().unwrap().len();
        assert_eq!(len(), 3);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"newer").unwrap();
        assert_eq!(len(), 3);
        handles.forget(unit);
        assert_eq!(len(), 5);
    }
}
