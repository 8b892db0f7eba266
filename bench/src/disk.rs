//! What goes to the disk itself, whoever has it written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What `/sys/.../stat` counts, whatever the device's blocks are.
const SECTOR_BYTES: u64 = 512;

/// The device that a folder is on. `/proc/<pid>/io` will not do: it counts whole folios of the page cache, a mebibyte each
/// time that 4 KiB of one are written again.
#[derive(Debug)]
pub struct Disk {
    stat: PathBuf,
}

impl Disk {
    /// The device of `folder`; `None` where it has none of its own, as in memory or on some file systems.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let device = fs::metadata(folder)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let stat = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        Ok(stat.exists().then_some(Self { stat }))
    }

    /// Bytes written to it so far, by anybody: nobody else should.
    pub fn written_bytes(&self) -> Result<u64> {
        let text = fs::read_to_string(&self.stat)?;
        // The kernel's Documentation/block/stat.rst: the seventh field counts sectors written.
        let sectors = text.split_whitespace().nth(6);
        let sectors: u64 = sectors.with_context(|| text.clone())?.parse()?;
        Ok(sectors * SECTOR_BYTES)
    }
}

/// Empties the page cache; `false` where that is not allowed.
pub fn drop_page_cache() -> bool {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "1").is_ok()
}
