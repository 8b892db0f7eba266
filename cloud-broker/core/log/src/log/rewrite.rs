//! Which units are rewritten, and how what was made of them takes their place.

use std::collections::{BTreeMap, BTreeSet};

use wire::offset::Offset;

use super::jobs::{Applied, Compacting};
use super::seal::PARTITION_ENTRIES;
use super::{Log, Now};
use crate::catalog::Unit;
use crate::extent::Extent;
use crate::ids::{PartitionKey, TopicNo, UnitId};
use crate::job::{Damage, LiveExtent, Made, RewriteJob};
use crate::partition::Replacing;
use crate::unit::{UnitKind, UnitMeta};

/// So many small units are copied into one. Without that a broker with little to write would have one more each day, and each
/// costs memory for every partition in it.
const SMALL_UNITS: usize = 16;

/// A unit is small if it takes up less than this part of a whole one.
const SMALL_PART: u64 = 8;

/// Units that one job copies.
const INPUTS_MAX: usize = 256;

/// What one rewriting copies.
#[derive(Debug, Default)]
struct Round {
    inputs: Vec<UnitMeta>,
    /// What the copies take up.
    bytes: u64,
}

impl Round {
    /// Takes a unit along if the copies take up no more than `bytes_max` then; whether it is among them.
    fn take(&mut self, unit: &Unit, bytes_max: u64) -> bool {
        if self.inputs.iter().any(|input| input.id == unit.meta.id) {
            return true;
        }
        let bytes = self.bytes.saturating_add(unit.copy_bytes());
        let fits = bytes <= bytes_max && self.inputs.len() < INPUTS_MAX;
        if fits {
            self.bytes = bytes;
            self.inputs.push(unit.meta);
        }
        fits
    }
}

/// Units that are about to be rewritten, while what lives in them is collected, some partitions at a time.
#[derive(Debug)]
pub(super) struct Planning {
    inputs: Vec<UnitMeta>,
    ids: BTreeSet<UnitId>,
    /// The next partition to look at; `None`: all were.
    next: Option<PartitionKey>,
    live: Vec<LiveExtent>,
    ranges: BTreeMap<PartitionKey, (Offset, Offset)>,
}

impl Planning {
    pub(super) fn is_whole(&self) -> bool {
        self.next.is_none()
    }
}

/// What a rewriting that runs has to be compared with when it is done.
#[derive(Debug)]
pub(super) struct Rewriting {
    pub(super) units: Vec<UnitId>,
    /// Numbers of units that it may use up.
    pub(super) numbers_max: u64,
    /// Of each partition, where what is copied begins and ends.
    ranges: BTreeMap<PartitionKey, (Offset, Offset)>,
}

impl Log {
    /// Looks for units to rewrite if there may be some.
    pub(super) fn plan_rewrite(&mut self, now: Now) -> Option<Planning> {
        if !self.jobs.may_rewrite {
            return None;
        }
        let inputs = self.rewrite_inputs(now);
        if inputs.is_empty() {
            self.jobs.may_rewrite = false;
            return None;
        }
        let ids: BTreeSet<UnitId> = inputs.iter().map(|unit| unit.id).collect();
        let units = ids.iter().filter_map(|id| self.catalog.unit(*id));
        let extents: u64 = units.map(|unit| unit.live_extents).sum();
        // None of them changes meanwhile, but for what is deleted.
        self.catalog.set_busy(&Vec::from_iter(ids.iter().copied()), true);
        Some(Planning {
            inputs,
            ids,
            next: Some(PartitionKey::all_of(TopicNo(0)).0),
            live: Vec::with_capacity(usize::try_from(extents).unwrap_or(0)),
            ranges: BTreeMap::new(),
        })
    }

    /// Collects what lives in some more partitions.
    pub(super) fn go_on_planning(&mut self) {
        let entries_max = self.step_entries();
        let Some(Compacting::Plan(planning)) = &mut self.jobs.compaction.running else {
            return;
        };
        let Some(from) = planning.next.take() else {
            return;
        };
        let mut entries = 0;
        for (key, partition) in self.partitions.range(from..) {
            if entries >= entries_max {
                planning.next = Some(*key);
                break;
            }
            let (all, log_start) = (partition.extents(), partition.offsets().log_start);
            for extent in all.iter().filter(|extent| planning.ids.contains(&extent.unit)) {
                planning.live.push(LiveExtent { key: *key, extent: *extent, log_start });
                let range = planning.ranges.entry(*key).or_insert((extent.base, extent.last));
                range.1 = extent.last;
            }
            entries += PARTITION_ENTRIES + all.len();
        }
    }

    /// The job, if everything was collected for it.
    pub(super) fn take_planned(&mut self) -> Option<RewriteJob> {
        let running = &mut self.jobs.compaction.running;
        let is_whole = |running: &mut Compacting| match running {
            Compacting::Plan(planning) => planning.is_whole(),
            Compacting::Compact(_) | Compacting::Rewrite(_) => false,
        };
        let Some(Compacting::Plan(planning)) = running.take_if(is_whole) else {
            return None;
        };
        let Planning { inputs, ids, live, ranges, .. } = planning;
        // One for each extent, for each attempt: an input that cannot be read is left out of the next.
        let numbers_max = (live.len() as u64 + 1) * (inputs.len() as u64 + 1);
        let units = ids.into_iter().collect();
        *running = Some(Compacting::Rewrite(Rewriting { units, numbers_max, ranges }));
        Some(RewriteJob {
            inputs,
            live,
            first_unit: self.catalog.next_unit,
            own_unit_bytes: self.settings.own_unit_bytes,
            unit_bytes: self.settings.unit_bytes,
        })
    }

    fn rewrite_inputs(&self, now: Now) -> Vec<UnitMeta> {
        let may = |unit: &&Unit| unit.may_be_copied(now.mono);
        let room = self.job_room();
        let mut round = Round::default();
        for unit in self.catalog.units().filter(may).filter(|unit| unit.is_sparse()) {
            if round.bytes >= self.settings.rewrite_bytes_min {
                break;
            }
            round.take(unit, room.gaining);
        }
        // Sealed WAL files come in the order of their numbers, so the oldest first.
        let short = || self.catalog.units().filter(may).filter(|unit| unit.is_short());
        let bytes: u64 = short().map(|unit| unit.meta.len).sum();
        let entries: u64 = short().map(|unit| unit.live_entries).sum();
        let too_old = |unit: &Unit| {
            let age = now.wall.0.saturating_sub(unit.meta.max_append_ms.0);
            u64::try_from(age).is_ok_and(|age| age >= self.settings.l0_age_ms_max)
        };
        let is_due = bytes > self.settings.l0_bytes_max
            || entries > self.settings.l0_entries_max
            || short().next().is_some_and(too_old);
        if is_due {
            let mut taken = 0;
            for unit in short() {
                // The oldest first, or none.
                if taken >= self.settings.rewrite_bytes_min || !round.take(unit, room.other) {
                    break;
                }
                taken += unit.meta.len;
            }
        }
        let is_small = |unit: &&Unit| {
            unit.meta.kind == UnitKind::Evacuated
                && unit.meta.entries_off < self.settings.unit_bytes / SMALL_PART
        };
        let small = || self.catalog.units().filter(may).filter(is_small);
        if round.inputs.is_empty() && small().count() >= SMALL_UNITS {
            for unit in small() {
                round.take(unit, room.other);
            }
        }
        round.inputs
    }

    pub(super) fn rewritten(
        &mut self,
        now: Now,
        rewriting: &Rewriting,
        inputs: &[UnitId],
        made: &Made,
        damaged: Vec<Damage>,
    ) -> Applied {
        self.note_made(made);
        for meta in &made.units {
            self.catalog.add(*meta);
        }
        let inputs: BTreeSet<UnitId> = inputs.iter().copied().collect();
        let mut extents = made.extents.clone();
        extents.sort_by_key(|(key, extent)| (*key, extent.base));
        let mut extents: BTreeMap<_, _> =
            extents.chunk_by(|one, next| one.0 == next.0).map(|made| (made[0].0, made)).collect();
        let mut rejected = Vec::new();
        for (key, range) in &rewriting.ranges {
            self.keep_for_checkpoint(*key);
            let Some(partition) = self.partitions.get_mut(key) else {
                continue;
            };
            let made = extents.remove(key).unwrap_or_default();
            let is_input = |extent: &Extent| inputs.contains(&extent.unit);
            match partition.replace(*range, is_input, made, Replacing::Copied) {
                Ok(replaced) => {
                    for extent in &replaced.taken {
                        self.catalog.extent_taken(extent);
                    }
                    for extent in &replaced.gone {
                        self.catalog.extent_gone(extent);
                    }
                }
                Err(_) => rejected.push(*key),
            }
        }
        // What nobody took, because it was deleted meanwhile, is dead from the start.
        for meta in &made.units {
            self.catalog.settle(meta.id);
        }
        for unit in &rewriting.units {
            // What was copied in vain would be copied so again, without a pause.
            if !inputs.contains(unit) || !rejected.is_empty() {
                self.catalog.set_unreadable(now.mono, *unit);
            }
        }
        self.catalog.set_busy(&rewriting.units, false);
        self.jobs.look_again();
        Applied { checkpoint: None, damaged, rejected }
    }
}
