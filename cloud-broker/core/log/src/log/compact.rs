//! Which partitions are compacted by key, and how what was made of them takes their place.

use wire::offset::Offset;
use wire::time::UnixMs;

use super::{Log, Now, Room};
use crate::extent::Extent;
use crate::ids::{PartitionKey, TopicNo};
use crate::job::{Ages, CompactJob, Made};
use crate::partition::{PartitionLog, Replacing};
use crate::policy::CompactPolicy;
use crate::unit::{COPY_BYTES_PER_ENTRY, UnitMeta};

/// Partitions that are looked at before the engine goes on with something else.
const PARTITIONS_PER_LOOK: usize = 1024;

/// How far the round through all partitions is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Compaction {
    /// The next partition to look at, or the first behind.
    At(PartitionKey),
    /// Every partition was looked at in this round.
    #[default]
    Over,
}

/// What a look at some partitions has found.
struct Look {
    job: Option<CompactJob>,
    /// Where to go on.
    next: Compaction,
    /// The open file has records that are to be compacted by now.
    waits_for_roll: bool,
}

impl Compaction {
    /// From the first partition on.
    pub(super) fn from_the_start() -> Self {
        Self::At(PartitionKey::all_of(TopicNo(0)).0)
    }
}

impl Log {
    /// The next partition that is dirty enough.
    pub(super) fn plan_compaction(&mut self, now: Now) -> Option<CompactJob> {
        let Compaction::At(from) = self.jobs.compaction_tick else {
            return None;
        };
        let Look { job, next, waits_for_roll } = self.look_for_dirt(now, from);
        self.jobs.compaction_tick = next;
        if waits_for_roll {
            self.roll_for_compaction();
        }
        job
    }

    fn look_for_dirt(&self, now: Now, from: PartitionKey) -> Look {
        let mut look = Look { job: None, next: Compaction::Over, waits_for_roll: false };
        let mut looked_at = 0;
        let mut at = from;
        while let Some((topic_no, policy)) = self.next_compacted_topic(at.topic_no) {
            let first = at.max(PartitionKey::all_of(topic_no).0);
            for (key, partition) in self.partitions.range(first..=PartitionKey::all_of(topic_no).1)
            {
                looked_at += 1;
                if looked_at > PARTITIONS_PER_LOOK {
                    look.next = Compaction::At(*key);
                    return look;
                }
                if self.jobs.unable.get(key).is_some_and(|until| now.mono < *until) {
                    continue;
                }
                look.waits_for_roll |= self.waits_for_roll(now, partition, policy);
                look.job = self.compact_job(now, *key, partition, policy);
                if look.job.is_some() {
                    look.next = behind(*key);
                    return look;
                }
            }
            let Compaction::At(next) = behind(PartitionKey::all_of(topic_no).1) else {
                break;
            };
            at = next;
        }
        look
    }

    /// Whether something in the open file is to be compacted by now, which takes that the file is sealed.
    fn waits_for_roll(&self, now: Now, partition: &PartitionLog, policy: CompactPolicy) -> bool {
        let open = self.catalog.files.back().map(|file| file.file.file_no);
        let open = open.filter(|file_no| self.place.is_open(*file_no));
        let wall = self.retention_clock.now(now);
        open.and_then(|file_no| partition.first_run_in(file_no))
            .is_some_and(|run| age(wall, run.append_ms) >= policy.max_lag_ms)
    }

    /// Ends the open file, if that harms nobody: what was taken because it fits there might find no other, nor what comes.
    fn roll_for_compaction(&mut self) {
        let has_room = |room: Room| room.ready_files > 0 && !room.below_floor;
        if self.slot_for_answer().is_none() && self.place.room().is_none_or(has_room) {
            self.place.close();
        }
    }

    fn next_compacted_topic(&self, from: TopicNo) -> Option<(TopicNo, CompactPolicy)> {
        let mut policies = self.policies.range(from..);
        policies.find_map(|(topic_no, policy)| Some((*topic_no, policy.compact?)))
    }

    fn compact_job(
        &self,
        now: Now,
        key: PartitionKey,
        partition: &PartitionLog,
        policy: CompactPolicy,
    ) -> Option<CompactJob> {
        let wall = self.retention_clock.now(now);
        let old_enough = |extent: &&Extent| age(wall, extent.max_append_ms) >= policy.min_lag_ms;
        let extents = || partition.extents().iter().take_while(old_enough);
        let is_dirty = |extent: &&Extent| extent.last >= partition.cleaned;
        let dirty: u64 = extents().filter(is_dirty).map(|extent| extent.bytes).sum();
        let all: u64 = extents().map(|extent| extent.bytes).sum();
        let too_late = extents().find(is_dirty).map(|extent| age(wall, extent.max_append_ms));
        let horizon = partition.next_horizon.is_some_and(|horizon| horizon <= wall);
        let is_due = dirty > 0 && dirty >= share(all, policy.min_dirty_per_mille)
            || too_late.is_some_and(|age| age >= policy.max_lag_ms)
            || horizon && all > 0;
        if !is_due {
            return None;
        }
        let is_deleted = self.policies.get(&key.topic_no).is_some_and(|policy| {
            policy.retention_ms.is_some() || policy.retention_bytes.is_some()
        });
        let extents = fitting(extents(), partition.cleaned, self.job_room().other)?;
        let unit = |extent: &Extent| Some((*extent, self.catalog.unit(extent.unit)?.meta));
        let extents: Option<Vec<(Extent, UnitMeta)>> = extents.iter().map(unit).collect();
        Some(CompactJob {
            key,
            extents: extents.filter(|extents| !extents.is_empty())?,
            log_start: partition.offsets().log_start,
            cleaned: partition.cleaned,
            policy,
            ages: if is_deleted { Ages::Kept } else { Ages::Forgotten },
            now: wall,
            first_unit: self.catalog.next_unit,
        })
    }

    /// Puts what was made in the place of what was compacted. Gives back the partition if it does not fit.
    pub(super) fn compacted(
        &mut self,
        key: PartitionKey,
        inputs: &[Extent],
        made: &Made,
        (cleaned, next_horizon): (Offset, Option<UnixMs>),
    ) -> Vec<PartitionKey> {
        self.note_made(made);
        for meta in &made.units {
            self.catalog.add(*meta);
        }
        self.keep_for_checkpoint(key);
        let mut rejected = Vec::new();
        if let (Some(partition), Some(first), Some(last)) =
            (self.partitions.get_mut(&key), inputs.first(), inputs.last())
        {
            let is_input = |extent: &Extent| {
                let at = inputs.binary_search_by_key(&extent.base, |input| input.base);
                at.is_ok_and(|at| inputs[at] == *extent)
            };
            let range = (first.base, last.last);
            match partition.replace(range, is_input, &made.extents, Replacing::Compacted) {
                Ok(replaced) => {
                    for extent in &replaced.taken {
                        self.catalog.extent_taken(extent);
                    }
                    for extent in &replaced.gone {
                        self.catalog.extent_gone(extent);
                    }
                    partition.cleaned = cleaned;
                    partition.next_horizon = next_horizon;
                }
                Err(_) => rejected.push(key),
            }
        }
        for meta in &made.units {
            self.catalog.settle(meta.id);
        }
        rejected
    }
}

/// As many of the extents as can be copied into `bytes_max`: nobody knows before how much a pass drops. All that is clean has to
/// be among them, because it is held against the keys of what is dirty, and something that is dirty too, or there is no use in
/// it.
fn fitting<'a>(
    extents: impl Iterator<Item = &'a Extent>,
    cleaned: Offset,
    bytes_max: u64,
) -> Option<Vec<Extent>> {
    let is_dirty = |extent: &Extent| extent.last >= cleaned;
    let mut taken: Vec<Extent> = Vec::new();
    let mut bytes: u64 = 0;
    for extent in extents {
        let table = u64::from(extent.count) * COPY_BYTES_PER_ENTRY;
        bytes = bytes.saturating_add(extent.bytes).saturating_add(table);
        if bytes > bytes_max {
            let is_worth_it = is_dirty(extent) && taken.last().is_some_and(is_dirty);
            return is_worth_it.then_some(taken);
        }
        taken.push(*extent);
    }
    Some(taken)
}

fn age(wall: UnixMs, append_ms: UnixMs) -> u64 {
    u64::try_from(wall.0.saturating_sub(append_ms.0)).unwrap_or(0)
}

fn share(all: u64, per_mille: u16) -> u64 {
    let share = u128::from(all) * u128::from(per_mille) / 1000;
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The partition behind this one, of whatever topic.
fn behind(key: PartitionKey) -> Compaction {
    let in_topic = key.partition.0.checked_add(1);
    let next = in_topic
        .map(|partition| PartitionKey { partition: wire::ids::Partition(partition), ..key });
    let next =
        next.or_else(|| Some(PartitionKey::all_of(TopicNo(key.topic_no.0.checked_add(1)?)).0));
    next.map_or(Compaction::Over, Compaction::At)
}
