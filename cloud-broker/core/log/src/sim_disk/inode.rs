//! One file: what the process sees of it, and what would be left of it.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::SECTOR;

/// A file's bytes. Clones share them until one is written to: tests keep thousands of disks that differ in a sector.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    cache: Rc<Vec<u8>>,
    platter: Rc<Vec<u8>>,
    dirty: BTreeSet<usize>,
    len_is_dirty: bool,
}

impl Inode {
    /// A file that is on disk as it is.
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let bytes = Rc::new(bytes);
        Self {
            cache: Rc::clone(&bytes),
            platter: bytes,
            dirty: BTreeSet::new(),
            len_is_dirty: false,
        }
    }

    pub(super) fn cache(&self) -> &[u8] {
        &self.cache
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn write(&mut self, pos: usize, bytes: &[u8]) {
        let end = pos + bytes.len();
        if end > self.cache.len() {
            self.set_len(end);
        }
        Rc::make_mut(&mut self.cache)[pos..end].copy_from_slice(bytes);
        self.dirty.extend(pos / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len == self.cache.len() {
            return;
        }
        Rc::make_mut(&mut self.cache).resize(len, 0);
        self.dirty.retain(|sector| sector * SECTOR < len);
        self.len_is_dirty = true;
    }

    pub(super) fn sync(&mut self) {
        // A length that an earlier sync failed to store goes with any later one: it belongs to the inode, not to a page.
        if self.platter.len() != self.cache.len() {
            Rc::make_mut(&mut self.platter).resize(self.cache.len(), 0);
        }
        self.len_is_dirty = false;
        for sector in std::mem::take(&mut self.dirty) {
            self.sector_to_platter(sector);
        }
    }

    /// The pages are clean now, and not on disk.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
        self.len_is_dirty = false;
    }

    pub(super) fn lose_power(&mut self, survives: &mut dyn FnMut() -> bool) {
        if std::mem::take(&mut self.len_is_dirty) && survives() {
            Rc::make_mut(&mut self.platter).resize(self.cache.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if survives() {
                self.sector_to_platter(sector);
            }
        }
        self.cache = Rc::clone(&self.platter);
    }

    /// The bytes, the same in the cache and on disk from now on: what they were, with what was never synced.
    pub(super) fn damage(&mut self) -> &mut Vec<u8> {
        // Whoever damages a file goes on with a process that reads the cache; the platter follows with the next sync.
        let sectors = self.cache.len().div_ceil(SECTOR);
        self.dirty.extend(0..sectors);
        self.len_is_dirty = true;
        Rc::make_mut(&mut self.cache)
    }

    /// Bits of one byte rot, wherever it is kept.
    pub(super) fn flip(&mut self, at: usize, bits: u8) {
        for copy in [&mut self.cache, &mut self.platter] {
            if let Some(byte) = Rc::make_mut(copy).get_mut(at) {
                *byte ^= bits;
            }
        }
    }

    /// Sectors behind the platter's end are lost with the change of length that would have kept them.
    fn sector_to_platter(&mut self, sector: usize) {
        let end = self.cache.len().min(self.platter.len()).min((sector + 1) * SECTOR);
        let start = sector * SECTOR;
        if start < end {
            Rc::make_mut(&mut self.platter)[start..end].copy_from_slice(&self.cache[start..end]);
        }
    }
}
