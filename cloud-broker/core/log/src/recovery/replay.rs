//! Reading the slots of one chain after the other into the log's state.

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;

use super::base::Base;
use super::chain::{Chain, ChainFile, Chains, FIRST_SLOT_POS, read_slot, scan};
use super::{
    CorruptionKind, LastChain, Recovered, RecoveryError, RecoveryReport, TailRewrite, TornTail,
    WalSource,
};
use crate::checkpoint::ReplayFrom;
use crate::ids::{SlotNo, TopicNo, UnitId};
use crate::job::UnitRun;
use crate::mutant::{self, Mutant};
use crate::partition::Run;
use crate::producer::{ProducerBatch, Producers};
use crate::slot::{ControlBody, ExpectedSlot, RunEntry, Slot, SlotBody};
use crate::unit::setsum_of_batch;

pub(super) struct Replay<'s, S> {
    source: &'s mut S,
    log: Base,
    last_chain: Option<LastChain>,
    rewrite: Option<TailRewrite>,
    report: RecoveryReport,
}

/// Where replay stands in a chain.
struct Cursor {
    file: usize,
    pos: u64,
    expected: ExpectedSlot,
}

impl<'s, S: WalSource> Replay<'s, S> {
    /// Goes on from `base`.
    pub(super) fn new(source: &'s mut S, base: Base) -> Self {
        let checkpoint = base.head.as_ref().map(|head| head.id.n);
        Self {
            source,
            log: base,
            last_chain: None,
            rewrite: None,
            report: RecoveryReport { checkpoint, ..RecoveryReport::default() },
        }
    }

    /// Replays a chain, from its first slot or from where a checkpoint says.
    pub(super) fn chain(
        &mut self,
        chain: &Chain,
        from: Option<ReplayFrom>,
    ) -> Result<(), RecoveryError<S::Error>> {
        let (pos, slot_no, prev_crc) = from
            .map_or((FIRST_SLOT_POS, SlotNo(0), 0), |from| (from.pos, from.slot_no, from.prev_crc));
        let mut at = Cursor {
            file: 0,
            pos,
            expected: ExpectedSlot { incarnation: chain.incarnation, slot_no, prev_crc },
        };
        while Some(at.expected.slot_no) != chain.end {
            let file = &chain.files[at.file];
            if let Ok((slot, bytes)) = read_slot(self.source, file, at.pos, &at.expected)? {
                self.apply(file, at.pos, (&slot, &bytes))?;
                self.rewrite = Some(TailRewrite {
                    file_no: file.file_no,
                    pieces: vec![(0, file.header.clone()), (at.pos, bytes)],
                });
                at.pos += slot.header.padded_len() as u64;
                at.expected.prev_crc = slot.header.crc;
                at.expected.slot_no = at.expected.slot_no.next();
            } else if !self.goes_on_in_next_file(chain, &mut at)? {
                break;
            }
        }
        // A crash came between the making of a file and its first slot.
        for file in &chain.files {
            let id = UnitId::Wal(file.file_no);
            let catalog = &mut self.log.catalog;
            if catalog.file(file.file_no).is_none() && catalog.unit(id).is_none() {
                catalog.restore_dead(id, file.size, 0);
            }
        }
        self.report.files += chain.files.len() as u64;
        self.report.incarnations += 1;
        self.last_chain = Some(LastChain {
            incarnation: chain.incarnation,
            end: at.expected.slot_no,
            leader_epoch: chain.leader_epoch,
        });
        Ok(())
    }

    /// At a place without the expected slot: moves on to the file that begins with it. `false` at the end of the log.
    fn goes_on_in_next_file(
        &mut self,
        chain: &Chain,
        at: &mut Cursor,
    ) -> Result<bool, RecoveryError<S::Error>> {
        let file = &chain.files[at.file];
        let expected = at.expected;
        let kind = CorruptionKind::Slots { first: expected.slot_no };
        if let Some(next) = chain.files.get(at.file + 1) {
            // A file is made once every slot before its first is durable.
            if next.first_slot != expected.slot_no {
                return Err(file.corrupt(at.pos, file.size, kind).into());
            }
            at.file += 1;
            at.pos = FIRST_SLOT_POS;
            return Ok(true);
        }
        let behind = scan(self.source, file, at.pos, |header| {
            header.head.incarnation == expected.incarnation
                && header.head.slot_no >= expected.slot_no
        })?;
        let is_hole = behind.intact_at.is_some() && !mutant::is(Mutant::HolesAreTails);
        if is_hole || chain.end.is_some() {
            let to = behind.intact_at.unwrap_or(file.size);
            return Err(file.corrupt(at.pos, to, kind).into());
        }
        let is_sealed = self.log.sealed == Some(file.file_no);
        self.report.torn_tail = behind.used_end.filter(|_| !is_sealed).map(|to| TornTail {
            file_no: file.file_no,
            from: at.pos,
            to,
        });
        Ok(false)
    }

    fn apply(
        &mut self,
        file: &ChainFile,
        pos: u64,
        (slot, bytes): (&Slot, &[u8]),
    ) -> Result<(), RecoveryError<S::Error>> {
        let inconsistent = || {
            let kind = CorruptionKind::Inconsistent { slot_no: slot.header.head.slot_no };
            file.corrupt(pos, pos + slot.header.padded_len() as u64, kind)
        };
        self.report.slots += 1;
        self.report.slot_bytes += slot.header.padded_len() as u64;
        let append_ms = slot.header.head.append_ms;
        let slot_pos = u32::try_from(pos).map_err(|_| inconsistent())?;
        let padded_end = pos + slot.header.padded_len() as u64;
        let in_file = (file.file_no, file.size);
        let slot_no = slot.header.head.slot_no;
        let wal_file = self.log.catalog.slot_durable(in_file, slot_no, padded_end, append_ms);
        let is_first = slot.header.head.slot_no == SlotNo(0);
        let (runs, uplinks) = match &slot.body {
            SlotBody::Data { runs, uplinks } if !is_first => (runs, uplinks),
            SlotBody::Control(ControlBody::Open(_)) if is_first => return Ok(()),
            // A local log gives no shard away and is sealed by nobody.
            SlotBody::Data { .. } | SlotBody::Control(_) => return Err(inconsistent().into()),
        };
        // What holds no records is no evidence of the time: each start of the process writes such a slot.
        if !runs.is_empty() {
            self.log.newest_append = self.log.newest_append.max(Some(append_ms));
        }
        for entry in runs {
            // Staged when its topic was removed: the checkpoint knows of the number, and of the partition no longer.
            let is_removed = entry.key.topic_no < self.log.next_topic_no
                && entry.base_offset > Offset::ZERO
                && !self.log.partitions.contains_key(&entry.key);
            if is_removed {
                continue;
            }
            let partition = self.log.partitions.entry(entry.key);
            let partition = partition.or_default();
            let is_dense = entry.base_offset == partition.next();
            if !is_dense || entry.last_offset.0 == i64::MAX {
                return Err(inconsistent().into());
            }
            partition.append_through(entry.last_offset);
            let in_slot = entry.pos;
            let entry = RunEntry { pos: slot_pos + in_slot, ..*entry };
            let in_run = RunEntry { pos: in_slot, ..entry };
            let setsum = note_producers(&mut self.log.producers, &in_run, append_ms, bytes);
            let setsum = setsum.ok_or_else(inconsistent)?;
            let run = UnitRun { entry, append_ms, setsum };
            if partition.run_durable(Run::new(file.file_no, &run)) {
                wal_file.keys.push(entry.key);
            }
        }
        for entry in uplinks.iter().filter(|_| !mutant::is(Mutant::StreamsNotRecovered)) {
            if !self.log.partitions.contains_key(&entry.append.stream.key) {
                continue;
            }
            if !self.log.streams.fits(&entry.append) {
                return Err(inconsistent().into());
            }
            self.log.streams.note_appended(&entry.append);
            self.log.streams.note_durable(&entry.append);
        }
        Ok(())
    }

    pub(super) fn finish(self, chains: Chains) -> Recovered {
        let log = self.log;
        let greatest = log.partitions.keys().map(|key| key.topic_no.0).max();
        let behind = TopicNo(greatest.map_or(0, |no| no.saturating_add(1)));
        let mut catalog = log.catalog;
        // The shell cuts the file off behind its last slot, or nothing was written to it since the last start did.
        if let Some(file) = catalog.files.back_mut() {
            file.file.size = file.file.slots_end;
        }
        Recovered {
            rewrite: self.rewrite.filter(|_| !mutant::is(Mutant::TailNotRewritten)),
            dead_files: chains.dead_files,
            orphans: log.orphans,
            damaged: log.damaged,
            report: self.report,
            next_file_no: chains.next_file_no,
            next_topic_no: log.next_topic_no.max(behind),
            partitions: log.partitions,
            streams: log.streams,
            producers: log.producers,
            catalog,
            checkpoints: log.checkpoints,
            newest_append: log.newest_append,
            last_chain: self.last_chain,
        }
    }
}

/// Takes in what the batches of a run say of their producers, and gives back their setsum; `None` if the run is not what its
/// entry says.
fn note_producers(
    producers: &mut Producers,
    entry: &RunEntry,
    now: UnixMs,
    slot: &[u8],
) -> Option<u64> {
    let start = entry.pos as usize;
    let mut rest = slot.get(start..start + entry.len as usize)?;
    let mut next = entry.base_offset;
    let mut setsum: u64 = 0;
    for _ in 0..entry.batches {
        let header = RecordBatchHeader::parse(rest).ok()?;
        if header.base_offset != next {
            return None;
        }
        let number = setsum_of_batch(entry.key, next, header.crc);
        setsum = setsum.wrapping_add(number);
        next = Offset(next.0.checked_add(i64::from(header.last_offset_delta) + 1)?);
        if let Some(batch) = ProducerBatch::of(entry.key, &header) {
            producers.note(now, &batch, header.base_offset);
        }
        rest = &rest[header.total_len..];
    }
    (rest.is_empty() && next == entry.last_offset.plus(1)).then_some(setsum)
}
