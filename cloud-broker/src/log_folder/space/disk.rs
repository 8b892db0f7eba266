//! What is left of the disk, and when that is too little.

use std::path::Path;

use super::super::StoreError;

/// The size of a file system and what of it is free for this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSpace {
    /// Its size.
    pub total: u64,
    /// What is free.
    pub free: u64,
}

impl DiskSpace {
    /// Of the file system that holds `path`.
    pub(crate) fn of(path: &Path) -> Result<Self, StoreError> {
        let found = rustix::fs::statvfs(path);
        let found = found.map_err(|e| StoreError::io("look at the disk of", path, e.into()))?;
        Ok(Self {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }

    /// What has to stay free if the operator says nothing.
    pub(crate) fn default_floor(&self) -> u64 {
        (self.total / FLOOR_SHARE).max(FLOOR_BYTES_MIN)
    }
}

/// One twentieth: 5 %.
const FLOOR_SHARE: u64 = 20;
const FLOOR_BYTES_MIN: u64 = 1 << 30;

/// Says when too little is free, without wavering: what was too little is enough again only with a margin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    floor: u64,
    enough: u64,
    is_below: bool,
}

/// The margin is this share of the floor and one WAL file.
const MARGIN_SHARE: u64 = 16;

impl Floor {
    pub(super) fn new(floor: u64, file_bytes: u32) -> Self {
        let margin = floor / MARGIN_SHARE + u64::from(file_bytes);
        Self { floor, enough: floor.saturating_add(margin), is_below: false }
    }

    /// Whether it is too little now.
    pub(super) fn is_below(&mut self, free: u64) -> bool {
        let limit = if self.is_below { self.enough } else { self.floor };
        self.is_below = free < limit;
        self.is_below
    }

    /// Bytes that may still be used.
    pub(super) fn above(&self, free: u64) -> u64 {
        free.saturating_sub(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_full_until_clearly_more_is_free() {
        let mut floor = Floor::new(160, 5);
        for (free, expected) in [
            (200, false),
            (160, false),
            (159, true),
            (160, true),
            (174, true),
            (175, false),
            (160, false),
        ] {
            assert_eq!(floor.is_below(free), expected, "{free}");
        }
        assert_eq!((floor.above(170), floor.above(1)), (10, 0));
    }

    #[test]
    fn no_floor_is_never_undercut() {
        let mut floor = Floor::new(0, 5);
        assert!(!floor.is_below(0));
    }

    #[test]
    fn the_default_floor_is_a_share_of_large_disks() {
        let floor = |total| DiskSpace { total, free: 0 }.default_floor();
        assert_eq!(floor(10 << 30), 1 << 30);
        assert_eq!(floor(100 << 30), 5 << 30);
    }

    #[test]
    fn a_disk_has_a_size() {
        let disk = DiskSpace::of(Path::new("/")).unwrap();
        assert!(disk.total > 0 && disk.free <= disk.total);
        assert!(DiskSpace::of(Path::new("/no/such/folder")).is_err());
    }
}
