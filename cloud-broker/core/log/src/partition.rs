//! What the log knows of one partition: its offsets and where its durable batches lie.

use std::collections::VecDeque;
use std::ops::Range;

use wire::offset::{LeaderEpoch, Offset};
use wire::time::UnixMs;

use crate::checkpoint::PartitionState;
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey};
use crate::job::UnitRun;
use crate::mutant::{self, Mutant};
use crate::slot::{RunEntry, RunFlags};

/// Offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset behind the last durable record: readers see what lies below.
    pub high_watermark: Offset,
}

/// Durable batches of one partition that lie together in one slot of a WAL file that is not sealed: 64 bytes for every
/// commit that a partition takes part in, so this is what an index costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) max_timestamp: UnixMs,
    pub(crate) append_ms: UnixMs,
    pub(crate) setsum: u64,
    pub(crate) file_no: FileNo,
    /// First byte in the file.
    pub(crate) pos: u32,
    pub(crate) len: u32,
    leader_epoch: LeaderEpoch,
    batches: u16,
    flags: RunFlags,
}

const _: () = assert!(size_of::<Run>() == 64);

impl Run {
    /// A run whose entry's position is counted from the start of its file.
    pub(crate) fn new(file_no: FileNo, run: &UnitRun) -> Self {
        let UnitRun { entry, append_ms, setsum } = run;
        Self {
            base: entry.base_offset,
            last: entry.last_offset,
            max_timestamp: entry.max_timestamp,
            append_ms: *append_ms,
            setsum: *setsum,
            file_no,
            pos: entry.pos,
            len: entry.len,
            leader_epoch: entry.leader_epoch,
            batches: entry.batches,
            flags: entry.flags,
        }
    }

    pub(crate) fn to_unit_run(self, key: PartitionKey) -> UnitRun {
        UnitRun {
            entry: RunEntry {
                key,
                leader_epoch: self.leader_epoch,
                pos: self.pos,
                len: self.len,
                batches: self.batches,
                flags: self.flags,
                base_offset: self.base,
                last_offset: self.last,
                max_timestamp: self.max_timestamp,
            },
            append_ms: self.append_ms,
            setsum: self.setsum,
        }
    }
}

/// Why what a job has made cannot take the place of what it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misplaced;

/// What was done to the extents that are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacing {
    /// Records may have been dropped.
    Compacted,
    /// The new ones hold the same offsets, from the log's start on.
    Copied,
}

/// How extents changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The partition has these no longer.
    pub(crate) gone: Vec<Extent>,
    /// It has these instead.
    pub(crate) taken: Vec<Extent>,
}

#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    /// Behind the last record that was appended, durable or not.
    next: Offset,
    log_start: Offset,
    high_watermark: Offset,
    /// Where each leader epoch begins.
    epochs: Vec<(LeaderEpoch, Offset)>,
    /// In units, in order of offsets.
    extents: Vec<Extent>,
    /// Behind the extents.
    runs: VecDeque<Run>,
    /// File and epoch of the run that came last, if one did since the checkpoint. It saves a look at the ends of `runs` and
    /// `epochs`, which are in no cache of the processor where partitions are many.
    newest: Option<(FileNo, LeaderEpoch)>,
    /// Bytes of all extents and runs.
    bytes: u64,
    /// Keys below were seen by a compaction.
    pub(crate) cleaned: Offset,
    /// When the first tombstone or marker below `cleaned` may go.
    pub(crate) next_horizon: Option<UnixMs>,
}

impl PartitionLog {
    /// A partition as a checkpoint tells of it. Its extents and runs are in order.
    pub(crate) fn restore(state: &PartitionState) -> Self {
        let runs: VecDeque<Run> =
            state.runs.iter().map(|(file_no, run)| Run::new(*file_no, run)).collect();
        let in_runs: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
        let in_extents: u64 = state.extents.iter().map(|extent| extent.bytes).sum();
        Self {
            next: state.next,
            log_start: state.log_start,
            high_watermark: state.next,
            epochs: state.epochs.clone(),
            extents: state.extents.clone(),
            runs,
            newest: None,
            bytes: in_extents.saturating_add(in_runs),
            cleaned: state.cleaned,
            next_horizon: state.next_horizon,
        }
    }

    pub(crate) fn offsets(&self) -> PartitionOffsets {
        PartitionOffsets { log_start: self.log_start, high_watermark: self.high_watermark }
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn epochs(&self) -> &[(LeaderEpoch, Offset)] {
        &self.epochs
    }

    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    pub(crate) fn runs(&self) -> &VecDeque<Run> {
        &self.runs
    }

    /// Gives out the offsets up to and with `last`.
    pub(crate) fn append_through(&mut self, last: Offset) {
        self.next = last.plus(1);
    }

    /// `run` is durable, and so is everything before it. Says whether it is the partition's first in its file.
    pub(crate) fn run_durable(&mut self, run: Run) -> bool {
        self.high_watermark = run.last.plus(1);
        let (file_no, epoch) = self.newest.unzip();
        if epoch != Some(run.leader_epoch)
            && self.epochs.last().is_none_or(|(epoch, _)| *epoch != run.leader_epoch)
        {
            self.epochs.push((run.leader_epoch, run.base));
        }
        // Deleted while it was on its way to the disk.
        if run.last < self.log_start {
            return false;
        }
        let is_first = file_no != Some(run.file_no)
            && self.runs.back().is_none_or(|before| before.file_no != run.file_no);
        self.bytes += u64::from(run.len);
        self.newest = Some((run.file_no, run.leader_epoch));
        self.runs.push_back(run);
        is_first
    }

    /// The extent that holds `offset`, or the first behind it, and all that follow, in order.
    pub(crate) fn extents_from(&self, offset: Offset) -> &[Extent] {
        let first = self.extents.partition_point(|extent| extent.last < offset);
        &self.extents[first..]
    }

    /// The run that holds `offset`, or the first behind it, and all that follow, in order.
    pub(crate) fn runs_from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|run| run.last < offset);
        self.runs.range(first..)
    }

    /// Makes `log_start` the first offset that can be read; gives back the extents that nobody can read any more.
    pub(crate) fn start_at(&mut self, log_start: Offset) -> Vec<Extent> {
        self.log_start = self.log_start.max(log_start);
        let log_start = self.log_start;
        let gone = self.extents.partition_point(|extent| extent.last < log_start);
        let gone: Vec<Extent> = self.extents.drain(..gone).collect();
        self.bytes -= gone.iter().map(|extent| extent.bytes).sum::<u64>();
        while let Some(run) = self.runs.front().filter(|run| run.last < log_start) {
            self.bytes -= u64::from(run.len);
            self.runs.pop_front();
        }
        // The epoch that the log's start lies in is kept, and begins there.
        let over = self.epochs.partition_point(|(_, start)| *start <= log_start);
        if over > 0 {
            self.epochs.drain(..over - 1);
            self.epochs[0].1 = self.epochs[0].1.max(log_start);
        }
        gone
    }

    /// The runs that lie before byte `pos` of a WAL file, and the high watermark when there were no others: as it was then if
    /// nothing but appends has changed the partition since.
    pub(crate) fn before(&self, file_no: FileNo, pos: u64) -> (impl Iterator<Item = &Run>, Offset) {
        let is_before = |run: &Run| (run.file_no, u64::from(run.pos)) < (file_no, pos);
        let count = self.runs.partition_point(is_before);
        let high_watermark = self.runs.get(count).map_or(self.high_watermark, |run| run.base);
        (self.runs.range(..count), high_watermark)
    }

    /// The partition's runs in a WAL file, which are its first.
    pub(crate) fn runs_in(&self, file_no: FileNo) -> impl Iterator<Item = &Run> {
        self.runs
            .iter()
            .skip_while(move |run| run.file_no < file_no)
            .take_while(move |run| run.file_no == file_no)
    }

    /// The partition's first run in a WAL file.
    pub(crate) fn first_run_in(&self, file_no: FileNo) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.file_no < file_no);
        self.runs.get(at).filter(|run| run.file_no == file_no)
    }

    /// The runs of a file, which are the first, have become `made`. Tells of each extent that was taken: not of those that
    /// were deleted meanwhile.
    pub(crate) fn seal(
        &mut self,
        file_no: FileNo,
        made: &[(PartitionKey, Extent)],
        mut taken: impl FnMut(&Extent),
    ) {
        let sealed = self.runs.partition_point(|run| run.file_no <= file_no);
        self.bytes -= self.runs.drain(..sealed).map(|run| u64::from(run.len)).sum::<u64>();
        // Most partitions of many are idle most of the time.
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
        for (_, extent) in made.iter().filter(|_| sealed > 0) {
            let is_next = self.extents.last().is_none_or(|before| before.last < extent.base);
            if is_next && extent.last >= self.log_start {
                self.bytes += extent.bytes;
                self.extents.push(*extent);
                taken(extent);
            }
        }
    }

    /// Puts `made` in the place of those extents from the first to the second offset that `is_input`. What lies below the
    /// log's start by now is not taken.
    pub(crate) fn replace(
        &mut self,
        range: (Offset, Offset),
        is_input: impl Fn(&Extent) -> bool,
        made: &[(PartitionKey, Extent)],
        what: Replacing,
    ) -> Result<Replaced, Misplaced> {
        let (gone, mut within, at) = self.split(range, &is_input);
        let taken = self.above_log_start(made);
        let is_whole = match what {
            Replacing::Compacted => true,
            Replacing::Copied => self.is_copy(&gone, &taken),
        };
        within.extend_from_slice(&taken);
        within.sort_by_key(|extent| extent.base);
        let before = at.start.checked_sub(1).map(|before| self.extents[before]);
        let behind = self.extents.get(at.end).copied();
        let all = before.iter().chain(&within).chain(behind.iter());
        let is_in_order = all.clone().zip(all.skip(1)).all(|(one, next)| one.last < next.base);
        let is_outside = |extent: &Extent| extent.base < range.0 || extent.last > range.1;
        if !is_whole || !is_in_order || taken.iter().any(is_outside) {
            return Err(Misplaced);
        }
        self.bytes -= gone.iter().map(|extent| extent.bytes).sum::<u64>();
        self.bytes += taken.iter().map(|extent| extent.bytes).sum::<u64>();
        self.extents.splice(at, within);
        Ok(Replaced { gone, taken })
    }

    /// Whether `taken` begins and ends where `gone` does, as far as can be read. Where the log begins within the first extent,
    /// there may be nothing up to the next run: compaction leaves gaps, and what ends before the log's start is not copied. The
    /// extent's last run is.
    fn is_copy(&self, gone: &[Extent], taken: &[Extent]) -> bool {
        let readable = |extent: &Extent| extent.base.max(self.log_start);
        let begins = match (gone.first(), taken.first()) {
            (Some(gone), Some(taken)) => {
                readable(gone) == readable(taken)
                    || gone.base < self.log_start && (gone.base..=gone.last).contains(&taken.base)
            }
            (gone, taken) => gone.is_none() && taken.is_none(),
        };
        begins && gone.last().map(|e| e.last) == taken.last().map(|e| e.last)
    }

    /// The extents between two offsets: those that are inputs, the others, and where they all are.
    fn split(
        &self,
        (first, last): (Offset, Offset),
        is_input: impl Fn(&Extent) -> bool,
    ) -> (Vec<Extent>, Vec<Extent>, Range<usize>) {
        let start = self.extents.partition_point(|extent| extent.last < first);
        let end = self.extents.partition_point(|extent| extent.base <= last).max(start);
        let (inputs, others) = self.extents[start..end].iter().partition(|e| is_input(e));
        (inputs, others, start..end)
    }

    fn above_log_start(&self, made: &[(PartitionKey, Extent)]) -> Vec<Extent> {
        let is_above =
            |extent: &Extent| extent.last >= self.log_start || mutant::is(Mutant::DeletedComesBack);
        made.iter().map(|(_, extent)| *extent).filter(is_above).collect()
    }
}

#[cfg(test)]
mod tests {
    use wire::ids::Partition;

    use super::*;
    use crate::ids::{TopicNo, UnitId, UnitNo};

    const KEY: PartitionKey = PartitionKey { topic_no: TopicNo(1), partition: Partition(0) };

    fn extent(unit: u64, base: i64, last: i64) -> Extent {
        Extent {
            unit: UnitId::Unit(UnitNo(unit)),
            base: Offset(base),
            last: Offset(last),
            max_timestamp: UnixMs(0),
            max_append_ms: UnixMs(0),
            bytes: 10,
            first: 0,
            count: 1,
        }
    }

    /// Four extents of ten offsets each, in units 0 to 3; offsets below 15 are deleted.
    fn partition() -> PartitionLog {
        let state = PartitionState {
            next: Offset(40),
            extents: (0..4)
                .map(|unit| extent(unit, unit as i64 * 10, unit as i64 * 10 + 9))
                .collect(),
            ..PartitionState::empty(KEY)
        };
        let mut partition = PartitionLog::restore(&state);
        assert_eq!(partition.start_at(Offset(15)), [extent(0, 0, 9)]);
        partition
    }

    #[test]
    fn what_a_job_made_takes_the_place_of_its_inputs_if_it_fits() {
        use Replacing::{Compacted, Copied};
        let all = (1..4).map(|unit| extent(unit, unit as i64 * 10, unit as i64 * 10 + 9));
        let all: Vec<Extent> = all.collect();
        // What was made of units 1 and 3, of which unit 1 begins below the log's start; and whether it fits.
        for (what, made, fits) in [
            (Copied, vec![extent(9, 10, 19), extent(9, 30, 39)], true),
            (Copied, vec![extent(9, 0, 9), extent(9, 15, 19), extent(9, 30, 39)], true),
            // Compaction had left nothing at 15.
            (Copied, vec![extent(9, 16, 19), extent(9, 30, 39)], true),
            // Something is missing, at either end or wholly.
            (Copied, vec![extent(9, 10, 19), extent(9, 30, 38)], false),
            (Copied, vec![extent(9, 30, 39)], false),
            (Copied, vec![], false),
            // It overlaps what is not an input, or itself, or lies outside.
            (Copied, vec![extent(9, 10, 39)], false),
            (Copied, vec![extent(9, 10, 20), extent(9, 30, 39)], false),
            (Copied, vec![extent(9, 10, 19), extent(8, 12, 18), extent(9, 30, 39)], false),
            (Compacted, vec![extent(9, 17, 17)], true),
            (Compacted, vec![], true),
            (Compacted, vec![extent(9, 17, 21)], false),
            (Compacted, vec![extent(9, 30, 40)], false),
        ] {
            let mut partition = partition();
            let made: Vec<_> = made.into_iter().map(|extent| (KEY, extent)).collect();
            let is_input = |extent: &Extent| extent.unit != UnitId::Unit(UnitNo(2));
            let replaced = partition.replace((Offset(10), Offset(39)), is_input, &made, what);
            assert_eq!(replaced.is_ok(), fits, "{what:?} {made:?}");
            let Ok(replaced) = replaced else {
                assert_eq!(partition.extents(), all, "nothing has changed");
                continue;
            };
            assert_eq!(replaced.gone, [all[0], all[2]]);
            let mut expected = vec![all[1]];
            expected.extend(made.iter().map(|(_, made)| *made).filter(|made| made.last.0 >= 15));
            expected.sort_by_key(|extent| extent.base);
            assert_eq!(partition.extents(), expected);
            assert_eq!(partition.bytes(), 10 * expected.len() as u64);
        }
    }
}
