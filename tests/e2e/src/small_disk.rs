//! A disk so small that a test fills it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::stage::Stage;
use crate::tools::run_tool;
use crate::wait::PATIENCE;

/// A file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts `bytes` at the stage's `name`. `None` if this machine does not let us mount: the caller says that it skips.
    ///
    /// # Errors
    /// If there is no `mount`, or the folder cannot be made.
    pub fn mount(stage: &Stage, name: &str, bytes: u64) -> Result<Option<Self>> {
        let folder = stage.path(name);
        std::fs::create_dir(&folder)?;
        let (size, path) = (format!("size={bytes}"), folder.to_string_lossy());
        let arguments = ["-t", "tmpfs", "-o", &size, "culvert-test", &path];
        let output = run_tool("mount", &arguments, PATIENCE)?;
        if !output.status.success() {
            eprintln!("skipped: mount says {}", String::from_utf8_lossy(&output.stderr).trim());
            return Ok(None);
        }
        Ok(Some(Self { folder }))
    }

    /// Fills what is free, up to its last byte.
    ///
    /// # Errors
    /// If that is not what stops the writing.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler())?;
        let block = vec![1; 4096];
        loop {
            if let Err(error) = file.write_all(&block) {
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                ensure!(full, "the filler: {error}");
                return Ok(());
            }
        }
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Errors
    /// If it was not there.
    pub fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    /// Bytes of all files.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn used(&self) -> Result<u64> {
        used(&self.folder)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is about to be killed may still have files open there.
        let path = self.folder.to_string_lossy();
        if let Err(error) = run_tool("umount", &["-l", &path], PATIENCE) {
            eprintln!("{path} stays mounted: {error}");
        }
    }
}

/// Bytes that the files in a folder take up on the disk.
///
/// # Errors
/// If they cannot be listed.
pub fn used(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may be removed or renamed while it is looked at.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { used(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
