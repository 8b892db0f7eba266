//! Which name means what.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use broker_log::store::CheckpointId;
use broker_log::{FileNo, UnitNo};
use wire::ids::Incarnation;

/// What is being made, or will be written over. Removed at start.
const TMP_EXTENSION: &str = "tmp";

/// A WAL file to come whose blocks were all written before: a commit into it costs one sync.
pub(super) const WRITTEN_EXTENSION: &str = "ready";

/// A WAL file to come whose blocks are only reserved: a commit into it costs also a journal entry of the file system.
pub(super) const RESERVED_EXTENSION: &str = "reserved";

const WAL_EXTENSION: &str = "wal";
const UNIT_EXTENSION: &str = "unit";
const CHECKPOINT_EXTENSION: &str = "ckpt";
const NUMBER_DIGITS: usize = 16;

/// The folders of a log.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) root: PathBuf,
    pub(super) wal: PathBuf,
    pub(super) unit: PathBuf,
    pub(super) checkpoint: PathBuf,
}

impl Folders {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            wal: root.join("wal"),
            unit: root.join("unit"),
            checkpoint: root.join("ckpt"),
        }
    }

    pub(super) fn wal_file(&self, file_no: FileNo) -> PathBuf {
        self.wal.join(numbered(file_no.0, WAL_EXTENSION))
    }

    pub(super) fn unit_file(&self, unit_no: UnitNo) -> PathBuf {
        self.unit.join(numbered(unit_no.0, UNIT_EXTENSION))
    }

    pub(super) fn checkpoints_of(&self, incarnation: Incarnation) -> PathBuf {
        self.checkpoint.join(format!("{:032x}", u128::from_be_bytes(incarnation.0)))
    }

    pub(super) fn checkpoint_file(&self, id: CheckpointId) -> PathBuf {
        self.checkpoints_of(id.incarnation).join(numbered(id.n, CHECKPOINT_EXTENSION))
    }

    /// A checkpoint that nobody needs any more, if there is one.
    pub(super) fn spare_checkpoint(&self) -> PathBuf {
        tmp_of(&self.checkpoint.join("spare"))
    }
}

/// The number of a WAL file; `None` for any other file.
pub(super) fn file_no_of(path: &Path) -> Option<FileNo> {
    number_of(path, WAL_EXTENSION).map(FileNo)
}

/// The number of a unit; `None` for any other file.
pub(super) fn unit_no_of(path: &Path) -> Option<UnitNo> {
    number_of(path, UNIT_EXTENSION).map(UnitNo)
}

/// The number of a checkpoint; `None` for any other file.
pub(super) fn checkpoint_n_of(path: &Path) -> Option<u64> {
    number_of(path, CHECKPOINT_EXTENSION)
}

/// The incarnation that a folder of checkpoints belongs to; `None` for any other folder.
pub(super) fn incarnation_of(path: &Path) -> Option<Incarnation> {
    let name = path.file_name()?.to_str()?;
    let number = u128::from_str_radix(name, 16).ok()?;
    (name == format!("{number:032x}")).then_some(Incarnation(number.to_be_bytes()))
}

/// The name of what is being made, until it gets `path`.
pub(super) fn tmp_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TMP_EXTENSION);
    name.into()
}

/// Whether it is a name of [`tmp_of`].
pub(super) fn is_tmp(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == TMP_EXTENSION)
}

/// The name of a WAL file to come.
pub(super) fn numbered(number: u64, extension: &str) -> String {
    format!("{number:0NUMBER_DIGITS$x}.{extension}")
}

/// The number in such a name.
pub(super) fn number_of(path: &Path, extension: &str) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let number = u64::from_str_radix(stem, 16).ok()?;
    let same = path.file_name() == Some(OsStr::new(&numbered(number, extension)));
    same.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_numbers() {
        for (name, expected) in [
            ("000000000000001f.wal", Some(31)),
            ("000000000000001f.tmp", None),
            ("000000000000001f.unit", None),
            ("1f.wal", None),
            ("+00000000000001f.wal", None),
            ("000000000000001F.wal", None),
            ("spare", None),
            ("lock", None),
        ] {
            assert_eq!(number_of(Path::new(name), WAL_EXTENSION), expected, "{name}");
        }
    }

    #[test]
    fn names_and_what_they_name_go_both_ways() {
        let folders = Folders::new(Path::new("/data"));
        let path = folders.wal_file(FileNo(u64::MAX));
        assert_eq!(file_no_of(&path), Some(FileNo(u64::MAX)));
        let path = folders.unit_file(UnitNo(7));
        assert_eq!(unit_no_of(&path), Some(UnitNo(7)));
        let id = CheckpointId { incarnation: Incarnation([0x0a; 16]), n: 12 };
        let path = folders.checkpoint_file(id);
        let expected = "/data/ckpt/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/000000000000000c.ckpt";
        assert_eq!(path, Path::new(expected));
        assert_eq!(checkpoint_n_of(&path), Some(12));
        assert_eq!(path.parent().and_then(incarnation_of), Some(id.incarnation));
        assert_eq!(incarnation_of(Path::new("0a")), None);
    }
}
