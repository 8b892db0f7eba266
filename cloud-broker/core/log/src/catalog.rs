//! What holds the log's durable batches: WAL files that are not sealed, units, and what waits to be given back.
//!
//! A unit lives while an extent of a partition lies in it. Then it is dead, and given back once no checkpoint that is kept
//! names it, no replay needs it and nobody reads it.

use std::collections::{BTreeMap, VecDeque};

use wire::time::{MonoMs, UnixMs};

use crate::checkpoint::UnsealedFile;
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, SlotNo, UnitId, UnitNo};
use crate::lease::Lease;
use crate::mutant::{self, Mutant};
use crate::settings::ADOPTED_RUN_BYTES;
use crate::unit::{COPY_BYTES_PER_ENTRY, UnitKind, UnitMeta};

/// A unit that could not be copied, most likely because it is damaged, is left alone this long at first.
const UNREADABLE_MS_MIN: u64 = 600_000;

/// And no longer than this: a day.
const UNREADABLE_MS_MAX: u64 = 86_400_000;

/// A WAL file without a footer.
#[derive(Debug)]
pub(crate) struct WalFile {
    pub(crate) file: UnsealedFile,
    pub(crate) lease: Lease,
    /// Partitions that have runs in it, or had, in no order. One can be there twice.
    pub(crate) keys: Vec<PartitionKey>,
    /// Runs that were written to it since the start, as a hint of how much there is to collect.
    pub(crate) runs: usize,
    /// Wall time of the commit of its first slot with batches.
    pub(crate) since: UnixMs,
    /// The last checkpoint that names it; 0 for none.
    pub(crate) named_by: u64,
}

/// A unit in which at least one extent lies.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) meta: UnitMeta,
    pub(crate) lease: Lease,
    pub(crate) live_extents: u64,
    pub(crate) live_entries: u64,
    pub(crate) live_bytes: u64,
    /// The last checkpoint that names it; 0 for none.
    pub(crate) named_by: u64,
    /// A job copies it.
    pub(crate) is_busy: bool,
    /// No job copies it before: one has found that it cannot be read. What can be read of it is served from where it is.
    rests_until: MonoMs,
    /// How often that was so.
    failures: u32,
}

impl Unit {
    /// Whether a job may copy it.
    pub(crate) fn may_be_copied(&self, now: MonoMs) -> bool {
        !self.is_busy && self.rests_until <= now
    }

    /// A sealed WAL file that is to be rewritten some time, because its runs are short.
    pub(crate) fn is_short(&self) -> bool {
        self.meta.kind == UnitKind::SealedWal
            && self.live_bytes < self.live_entries.saturating_mul(ADOPTED_RUN_BYTES)
    }

    /// Bytes that a copy of it takes up.
    pub(crate) fn copy_bytes(&self) -> u64 {
        self.live_bytes.saturating_add(self.live_entries.saturating_mul(COPY_BYTES_PER_ENTRY))
    }

    /// Less than half of what it takes up is alive.
    pub(crate) fn is_sparse(&self) -> bool {
        // The tables of a small unit may well be larger than its batches: copying it would not make it smaller.
        let taken = match self.meta.kind {
            UnitKind::SealedWal => self.meta.len,
            UnitKind::Compacted | UnitKind::Evacuated | UnitKind::OnePartition => {
                self.meta.entries_off
            }
        };
        self.live_bytes < taken / 2
    }
}

/// A unit or WAL file without a live extent.
#[derive(Debug)]
struct Dead {
    id: UnitId,
    len: u64,
    lease: Lease,
    named_by: u64,
    is_busy: bool,
}

impl Dead {
    /// Whether one of the checkpoints that are kept names it, or its replay reads it.
    fn is_needed(&self, kept: &[Kept; 2]) -> bool {
        if mutant::is(Mutant::FreedAlthoughNamed) {
            return false;
        }
        let kept = if mutant::is(Mutant::OlderCheckpointForgotten) { &[kept[1]; 2] } else { kept };
        self.named_by >= kept[0].n
            || match self.id {
                UnitId::Wal(file_no) => kept.iter().any(|kept| file_no >= kept.replay_file),
                UnitId::Unit(_) => false,
            }
    }
}

/// A checkpoint that is kept, as far as giving space back goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) n: u64,
    /// Its replay begins here.
    pub(crate) replay_file: FileNo,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// In order; slots go to the last, or to none of them.
    pub(crate) files: VecDeque<WalFile>,
    units: BTreeMap<UnitId, Unit>,
    dead: Vec<Dead>,
    pub(crate) next_unit: UnitNo,
}

impl Catalog {
    pub(crate) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.units.values()
    }

    pub(crate) fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.units.get(&id)
    }

    /// A checkpoint names all that lives.
    pub(crate) fn named_by(&mut self, n: u64) {
        self.units.values_mut().for_each(|unit| unit.named_by = n);
        self.files.iter_mut().for_each(|file| file.named_by = n);
    }

    /// Whether something dead could be given back if there were a newer checkpoint. Replay of one that is made now would begin
    /// in the file of the last slot, which is needed until there is a next one.
    pub(crate) fn waits_for_checkpoint(&self, kept: Option<[Kept; 2]>, last: FileNo) -> bool {
        self.dead.iter().any(|dead| {
            let can_go = match dead.id {
                UnitId::Wal(file_no) => file_no < last,
                UnitId::Unit(_) => true,
            };
            can_go && kept.is_none_or(|kept| dead.is_needed(&kept))
        })
    }

    /// A job could not copy this unit. That may pass, so another one tries later, and later each time.
    pub(crate) fn set_unreadable(&mut self, now: MonoMs, id: UnitId) {
        if let Some(unit) = self.units.get_mut(&id) {
            let rest = UNREADABLE_MS_MIN.saturating_mul(1 << unit.failures.min(16));
            unit.rests_until = now + rest.min(UNREADABLE_MS_MAX);
            unit.failures = unit.failures.saturating_add(1);
        }
    }

    /// A job has failed that may have used up so many numbers.
    pub(crate) fn skip_unit_numbers(&mut self, count: u64) {
        self.next_unit = UnitNo(self.next_unit.0.saturating_add(count));
    }

    /// Units that are dead, and their bytes.
    pub(crate) fn dead(&self) -> (usize, u64) {
        (self.dead.len(), self.dead.iter().map(|dead| dead.len).sum())
    }

    /// A WAL file that is not sealed.
    pub(crate) fn file(&self, file_no: FileNo) -> Option<&WalFile> {
        let at = self.files.binary_search_by_key(&file_no, |file| file.file.file_no);
        at.ok().and_then(|at| self.files.get(at))
    }

    /// A slot is durable: the file that it lies in, with its end moved behind it.
    pub(crate) fn slot_durable(
        &mut self,
        (file_no, size): (FileNo, u64),
        slot_no: SlotNo,
        slots_end: u64,
        now: UnixMs,
    ) -> &mut WalFile {
        if self.files.back().is_none_or(|file| file.file.file_no != file_no) {
            self.files.push_back(WalFile {
                file: UnsealedFile {
                    file_no,
                    first_slot: slot_no,
                    end_slot: slot_no,
                    slots_end,
                    size,
                },
                lease: Lease::default(),
                keys: Vec::new(),
                runs: 0,
                since: now,
                named_by: 0,
            });
        }
        let file = self.files.back_mut().expect("it was just pushed, if it was not there");
        if file.keys.is_empty() {
            file.since = now;
        }
        file.file.end_slot = slot_no.next();
        file.file.slots_end = slots_end;
        file
    }

    /// A WAL file has become a unit; extents are added to it next, then [`Catalog::end_seal`]. Until then both are there.
    pub(crate) fn begin_seal(&mut self, file_no: FileNo, meta: UnitMeta) {
        if let Some(file) = self.file(file_no) {
            let (lease, named_by) = (file.lease.clone(), file.named_by);
            self.insert(meta, lease, named_by);
            self.set_busy(&[meta.id], true);
        }
    }

    /// Nobody has anything in the file any more that is not in the unit. All of it may have been deleted meanwhile.
    pub(crate) fn end_seal(&mut self, file_no: FileNo, unit: UnitId) {
        let at = self.files.iter().position(|file| file.file.file_no == file_no);
        drop(at.and_then(|at| self.files.remove(at)));
        self.set_busy(&[unit], false);
    }

    /// A job has made a unit; extents are added to it next, then [`Catalog::settle`].
    pub(crate) fn add(&mut self, meta: UnitMeta) {
        self.insert(meta, Lease::default(), 0);
        if let UnitId::Unit(no) = meta.id {
            self.next_unit = self.next_unit.max(UnitNo(no.0.saturating_add(1)));
        }
    }

    /// A unit that a checkpoint names.
    pub(crate) fn restore(&mut self, meta: UnitMeta, named_by: u64) {
        self.insert(meta, Lease::default(), named_by);
    }

    /// A WAL file without a footer that a checkpoint names.
    pub(crate) fn restore_file(&mut self, file: UnsealedFile, named_by: u64) {
        self.files.push_back(WalFile {
            file,
            lease: Lease::default(),
            keys: Vec::new(),
            runs: 0,
            since: UnixMs(i64::MAX),
            named_by,
        });
    }

    /// A run in one of these files that a checkpoint names.
    pub(crate) fn run_restored(&mut self, file_no: FileNo, key: PartitionKey, append_ms: UnixMs) {
        let at = self.files.binary_search_by_key(&file_no, |file| file.file.file_no);
        if let Some(file) = at.ok().and_then(|at| self.files.get_mut(at)) {
            file.since = file.since.min(append_ms);
            if file.keys.last() != Some(&key) {
                file.keys.push(key);
            }
        }
    }

    /// Something that only an older checkpoint needs.
    pub(crate) fn restore_dead(&mut self, id: UnitId, len: u64, named_by: u64) {
        self.dead.push(Dead { id, len, lease: Lease::default(), named_by, is_busy: false });
    }

    fn insert(&mut self, meta: UnitMeta, lease: Lease, named_by: u64) {
        self.units.insert(
            meta.id,
            Unit {
                meta,
                lease,
                live_extents: 0,
                live_entries: 0,
                live_bytes: 0,
                named_by,
                is_busy: false,
                rests_until: MonoMs(0),
                failures: 0,
            },
        );
    }

    /// A file without a run that anybody can read: there is nothing to seal.
    pub(crate) fn drop_file(&mut self, file_no: FileNo) {
        let at = self.files.iter().position(|file| file.file.file_no == file_no);
        if let Some(file) = at.and_then(|at| self.files.remove(at)) {
            self.dead.push(Dead {
                id: UnitId::Wal(file_no),
                len: file.file.size,
                lease: file.lease,
                named_by: file.named_by,
                is_busy: false,
            });
        }
    }

    /// A partition has this extent now.
    pub(crate) fn extent_taken(&mut self, extent: &Extent) {
        if let Some(unit) = self.units.get_mut(&extent.unit) {
            unit.live_extents += 1;
            unit.live_entries += u64::from(extent.count);
            unit.live_bytes += extent.bytes;
        }
    }

    /// A partition has this extent no longer. The unit dies with its last one.
    pub(crate) fn extent_gone(&mut self, extent: &Extent) {
        let Some(unit) = self.units.get_mut(&extent.unit) else {
            return;
        };
        unit.live_extents -= 1;
        unit.live_entries -= u64::from(extent.count);
        unit.live_bytes -= extent.bytes;
        if unit.live_extents == 0 {
            self.settle(extent.unit);
        }
    }

    /// Marks units as copied by a job, or as let go by it.
    pub(crate) fn set_busy(&mut self, ids: &[UnitId], is_busy: bool) {
        for id in ids {
            if let Some(unit) = self.units.get_mut(id) {
                unit.is_busy = is_busy;
            }
            if !is_busy {
                self.settle(*id);
            }
        }
    }

    /// A unit without an extent is dead, unless a job still reads it.
    pub(crate) fn settle(&mut self, id: UnitId) {
        let is_dead = |unit: &Unit| unit.live_extents == 0 && !unit.is_busy;
        if self.units.get(&id).is_some_and(is_dead)
            && let Some(unit) = self.units.remove(&id)
        {
            self.dead.push(Dead {
                id,
                len: unit.meta.len,
                lease: unit.lease,
                named_by: unit.named_by,
                is_busy: false,
            });
        }
    }

    /// What can be given back now that these two checkpoints are kept, the older one first.
    pub(crate) fn take_freeable(&mut self, kept: &[Kept; 2], most: usize) -> Vec<UnitId> {
        let can_go =
            |dead: &&mut Dead| !dead.is_needed(kept) && !dead.is_busy && dead.lease.is_alone();
        let mut ids = Vec::new();
        for dead in self.dead.iter_mut().filter(can_go).take(most) {
            dead.is_busy = true;
            ids.push(dead.id);
        }
        ids
    }

    /// These were given back.
    pub(crate) fn freed(&mut self, ids: &[UnitId]) {
        self.dead.retain(|dead| !ids.contains(&dead.id));
    }

    /// Giving back did not work: later again.
    pub(crate) fn not_freed(&mut self) {
        for dead in &mut self.dead {
            dead.is_busy = false;
        }
    }
}
