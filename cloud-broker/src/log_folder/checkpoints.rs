//! Checkpoints: `ckpt/<incarnation>/<number>.ckpt`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use broker_log::store::{CheckpointId, CheckpointStore};
use bytes::Bytes;

use super::direct::PieceWriter;
use super::names::{checkpoint_n_of, incarnation_of, tmp_of};
use super::{LogFolder, StoreError, entries, remove_if_there, sync_folder};

impl CheckpointStore for LogFolder {
    type Error = StoreError;

    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, StoreError> {
        let mut found = Vec::new();
        for incarnation in entries(&self.folders().checkpoint, |path, _| incarnation_of(path))? {
            let numbered =
                |path: &_, _| Some(CheckpointId { incarnation, n: checkpoint_n_of(path)? });
            found.extend(entries(&self.folders().checkpoints_of(incarnation), numbered)?);
        }
        Ok(found)
    }

    fn get_checkpoint(&mut self, id: CheckpointId) -> Result<Bytes, StoreError> {
        let path = self.folders().checkpoint_file(id);
        let bytes = fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
        self.counters.add_read(bytes.len());
        Ok(bytes.into())
    }

    fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), StoreError> {
        let folder = self.folders().checkpoints_of(id.incarnation);
        if !folder.is_dir() {
            fs::create_dir(&folder).map_err(|e| StoreError::io("make", &folder, e))?;
        }
        // Also if it was there: the attempt that made it may have failed right behind that.
        sync_folder(&self.folders().checkpoint)?;
        let path = self.folders().checkpoint_file(id);
        let tmp = tmp_of(&path);
        let stored = (|| {
            let file = self.checkpoint_file_to_write(&tmp, parts.iter().map(Bytes::len).sum())?;
            let mut writer = PieceWriter::new(file, &tmp, 0);
            for part in parts {
                writer.append(part).map_err(|e| StoreError::io("write", &tmp, e))?;
                self.counters.add_written(part.len());
            }
            writer.flush().map_err(|e| StoreError::io("write", &tmp, e))?;
            writer.sync().map_err(|e| StoreError::io("sync", &tmp, e))?;
            fs::rename(&tmp, &path).map_err(|e| StoreError::io("rename", &tmp, e))
        })();
        if stored.is_err() {
            // Its space may be what is missing; what remains is removed at the next start.
            let _ = fs::remove_file(&tmp);
        }
        stored?;
        sync_folder(&folder)
    }

    fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), StoreError> {
        let path = self.folders().checkpoint_file(id);
        let folder = self.folders().checkpoints_of(id.incarnation);
        let spare = self.folders().spare_checkpoint();
        // A full disk may have no room for another name either.
        if spare.exists() || fs::rename(&path, &spare).is_err() {
            remove_if_there(&path)?;
        } else if let Err(error) = sync_folder(&folder) {
            // The old name must be gone for good before anything else is written there.
            let _ = fs::remove_file(&spare);
            return Err(error);
        }
        // Only the last one's folder is empty.
        let _ = fs::remove_dir(folder);
        Ok(())
    }
}

impl LogFolder {
    /// A file to write a checkpoint of `len` bytes to: out of one that nobody needs any more, if there is one. To give a file's
    /// blocks back, with the disk told of it, and to find others took a disk so long that commits of 0.4 ms waited 2.
    fn checkpoint_file_to_write(&self, tmp: &Path, len: usize) -> Result<File, StoreError> {
        match fs::rename(self.folders().spare_checkpoint(), tmp) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return File::create(tmp).map_err(|e| StoreError::io("make", tmp, e));
            }
            renamed => renamed.map_err(|e| StoreError::io("rename to", tmp, e))?,
        }
        let file = File::options().write(true).open(tmp);
        let file = file.map_err(|e| StoreError::io("open", tmp, e))?;
        let has = file.metadata().map_err(|e| StoreError::io("look at", tmp, e))?.len();
        if has > len as u64 {
            file.set_len(len as u64).map_err(|e| StoreError::io("cut", tmp, e))?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use wire::ids::Incarnation;

    use super::super::opening::remove_leftovers;
    use super::*;

    #[test]
    fn checkpoints_come_and_go_whole() {
        let root = TempDir::new().unwrap();
        let mut folder = LogFolder::for_tests(root.path());
        let id = |life, n| CheckpointId { incarnation: Incarnation([life; 16]), n };
        for id in [id(1, 7), id(1, 8), id(2, 9)] {
            let parts = [Bytes::from_static(b"check"), Bytes::from(id.n.to_string())];
            folder.put_checkpoint(id, &parts).unwrap();
        }
        let mut found = folder.checkpoints().unwrap();
        found.sort();
        assert_eq!(found, [id(1, 7), id(1, 8), id(2, 9)]);
        assert_eq!(folder.get_checkpoint(id(1, 8)).unwrap(), "check8");
        assert!(folder.get_checkpoint(id(2, 8)).is_err());
        folder.remove_checkpoint(id(1, 8)).unwrap();
        folder.remove_checkpoint(id(1, 8)).unwrap();
        folder.remove_checkpoint(id(1, 7)).unwrap();
        assert_eq!(folder.checkpoints().unwrap(), [id(2, 9)]);
        assert!(!folder.folders().checkpoints_of(Incarnation([1; 16])).exists());
    }

    #[test]
    fn a_checkpoint_is_written_over_one_that_nobody_needs() {
        let root = TempDir::new().unwrap();
        let mut folder = LogFolder::for_tests(root.path());
        let id = |n| CheckpointId { incarnation: Incarnation([1; 16]), n };
        let of = |n: u64, len: usize| Bytes::from(vec![n as u8; len]);
        let spare = folder.folders().spare_checkpoint();
        for (n, len) in [(1, 9_000), (2, 3), (3, 300_000), (4, 8_192), (5, 0), (6, 70_001)] {
            folder.put_checkpoint(id(n), &[of(n, len)]).unwrap();
            assert!(!spare.exists(), "it has become the new one");
            assert_eq!(folder.get_checkpoint(id(n)).unwrap(), of(n, len));
            if n > 1 {
                folder.remove_checkpoint(id(n - 1)).unwrap();
                assert!(spare.exists());
            }
            assert_eq!(folder.checkpoints().unwrap(), [id(n)]);
        }
        // One is enough.
        folder.put_checkpoint(id(7), &[of(7, 5)]).unwrap();
        for n in [6, 7] {
            folder.remove_checkpoint(id(n)).unwrap();
        }
        assert_eq!(fs::read(&spare).unwrap(), of(6, 70_001));
        remove_leftovers(&folder).unwrap();
        assert_eq!(fs::read_dir(&folder.folders().checkpoint).unwrap().count(), 0);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_stored_leaves_the_others() {
        let root = TempDir::new().unwrap();
        let mut folder = LogFolder::for_tests(root.path());
        let id = |n| CheckpointId { incarnation: Incarnation([1; 16]), n };
        folder.put_checkpoint(id(1), &[Bytes::from_static(b"one")]).unwrap();
        // Its name is taken by something that no file can replace.
        fs::create_dir(folder.folders().checkpoint_file(id(2))).unwrap();
        assert!(folder.put_checkpoint(id(2), &[Bytes::from_static(b"two")]).is_err());
        assert_eq!(folder.get_checkpoint(id(1)).unwrap(), "one");
        let left = fs::read_dir(folder.folders().checkpoints_of(id(1).incarnation)).unwrap();
        assert_eq!(left.count(), 2, "the first one and what stood in the way");
    }
}
