//! A folder passes the suite of all stores.

use broker_log::store::{
    CheckpointId, CheckpointStore, Put, SlotPlace, SlotStore, UnitSource, UnitStore, conformance,
};
use broker_log::{FileNo, SlotToWrite, UnitId, UnitNo};
use bytes::Bytes;
use tempfile::TempDir;

use super::opening::{make_folders, remove_leftovers};
use super::units::UnitFile;
use super::wal::WalFiles;
use super::{LogFolder, SpaceSettings, StoreError};

/// A folder with its one writer, as one store.
struct Whole {
    root: TempDir,
    files: WalFiles,
    folder: LogFolder,
}

impl Whole {
    fn open(root: TempDir) -> Self {
        let space = SpaceSettings { file_bytes: 64 << 10, ready_files: 2, floor: 0 };
        let folder = LogFolder::new(root.path(), space);
        make_folders(&folder).unwrap();
        remove_leftovers(&folder).unwrap();
        folder.space().adopt().unwrap();
        Self { root, files: WalFiles::new(folder.clone()), folder }
    }
}

impl SlotStore for Whole {
    type Error = StoreError;

    fn put_new(&mut self, slot: &SlotToWrite) -> Put<StoreError> {
        self.files.put_new(slot)
    }

    fn get(&mut self, place: &SlotPlace) -> Result<Option<Bytes>, StoreError> {
        self.files.get(place)
    }
}

impl UnitSource for Whole {
    type Error = StoreError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, StoreError> {
        UnitSource::read_at(&mut self.folder, unit, pos, len)
    }
}

impl UnitStore for Whole {
    type Writer = UnitFile;

    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, StoreError> {
        self.folder.units()
    }

    fn create(&mut self, unit: UnitNo) -> Result<UnitFile, StoreError> {
        self.folder.create(unit)
    }

    fn seal(&mut self, file_no: FileNo, pos: u64, footer: &[u8]) -> Result<(), StoreError> {
        self.folder.seal(file_no, pos, footer)
    }

    fn free(&mut self, unit: UnitId) -> Result<(), StoreError> {
        self.folder.free(unit)
    }
}

impl CheckpointStore for Whole {
    type Error = StoreError;

    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, StoreError> {
        self.folder.checkpoints()
    }

    fn get_checkpoint(&mut self, id: CheckpointId) -> Result<Bytes, StoreError> {
        self.folder.get_checkpoint(id)
    }

    fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), StoreError> {
        self.folder.put_checkpoint(id, parts)
    }

    fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), StoreError> {
        self.folder.remove_checkpoint(id)
    }
}

#[test]
fn a_folder_is_a_store() {
    conformance::check(|| Whole::open(TempDir::new().unwrap()), |whole| Whole::open(whole.root));
}
