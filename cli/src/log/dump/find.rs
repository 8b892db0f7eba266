//! Which files there are, and what they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::LogFile;

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A file.
    File(PathBuf),
    /// The files of a log.
    Folder(Files),
}

/// The files of a log, each kind sorted by name.
#[derive(Debug, Default)]
pub struct Files {
    /// The folder that names are relative to.
    pub root: PathBuf,
    /// Checkpoints.
    pub checkpoints: Vec<PathBuf>,
    /// WAL files.
    pub wal: Vec<PathBuf>,
    /// Units that were made of others.
    pub units: Vec<PathBuf>,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A checkpoint.
    Checkpoint,
    /// A unit that was made of others.
    Unit,
    /// A WAL file.
    Wal,
}

/// The bytes at the end of a unit that begin with its magic.
const UNIT_TRAILER_BYTES: u64 = 64;

/// How deep checkpoints lie below the folder they are named after: `ckpt/<incarnation>/<number>.ckpt`.
const DEPTH_MAX: usize = 2;

impl Kind {
    /// By the file's magic; by its name where that is damaged. `None`: it is not of a log.
    pub fn of(file: &LogFile, path: &Path) -> io::Result<Option<Self>> {
        let first = file.read(0, 4)?;
        let last = file.read(file.len().saturating_sub(UNIT_TRAILER_BYTES), 4)?;
        Ok(match (&first[..], &last[..]) {
            (b"CVW1", _) => Some(Self::Wal),
            (b"CVC1", _) => Some(Self::Checkpoint),
            (_, b"CVU1") => Some(Self::Unit),
            _ => Self::of_name(path),
        })
    }

    fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "ckpt" => Some(Self::Checkpoint),
            "unit" => Some(Self::Unit),
            "wal" => Some(Self::Wal),
            _ => None,
        }
    }
}

/// Looks for files: a file itself; a broker's data folder, or one that has it as `broker` (`culvert up`); else whatever files
/// of a log lie in a folder.
pub fn find(path: &Path) -> io::Result<Found> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(Found::File(path.to_owned()));
    }
    let within = path.join("broker");
    let root = if is_log(&within) && !is_log(path) { within } else { path.to_owned() };
    let mut files = Files { root: root.clone(), ..Files::default() };
    if is_log(&root) {
        for folder in ["wal", "unit", "ckpt"] {
            collect(&root.join(folder), DEPTH_MAX, &mut files)?;
        }
    } else {
        collect(&root, DEPTH_MAX, &mut files)?;
    }
    for paths in [&mut files.checkpoints, &mut files.wal, &mut files.units] {
        paths.sort();
    }
    if files.checkpoints.is_empty() && files.wal.is_empty() && files.units.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it holds no file of a log"));
    }
    Ok(Found::Folder(files))
}

fn is_log(folder: &Path) -> bool {
    folder.join("wal").is_dir()
}

fn collect(folder: &Path, depth: usize, files: &mut Files) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // A broker makes folders when it needs them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        match Kind::of_name(&path) {
            Some(Kind::Checkpoint) => files.checkpoints.push(path),
            Some(Kind::Unit) => files.units.push(path),
            Some(Kind::Wal) => files.wal.push(path),
            None if depth > 1 && path.is_dir() => collect(&path, depth - 1, files)?,
            None => {}
        }
    }
    Ok(())
}
