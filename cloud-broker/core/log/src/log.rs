//! The engine: puts staging, partitions, streams, tail and the place in the WAL together.

mod idempotent;
mod place;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;
use wire::uplink::{RefusedCode, StreamState};

pub use idempotent::{IdempotentError, IdempotentOutcome};
pub use place::NewFile;

use crate::batch_cut::FirstBatch;
use crate::ids::{FileNo, PartitionKey, SlotNo, TopicNo};
use crate::partition::{PartitionLog, PartitionOffsets, Run};
use crate::producer::Producers;
use crate::read::{self, Candidate, ReadError, ReadPlan};
use crate::recovery::Recovered;
use crate::settings::{LogSettings, PARTITIONS_MAX, UPLINK_STREAMS_MAX};
use crate::slot::{
    BatchToPlace, ControlBody, ENTRY_BYTES_PER_BATCH, EncodedSlot, RunFlags, SlotHead,
    encode_control, encode_data,
};
use crate::staging::{StagedBody, Staging};
use crate::tail::Tail;
use crate::uplink_stream::{UplinkAppend, UplinkStream, UplinkStreams};
use place::WritePlace;

/// Why a batch was not appended. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits for the disk: try again after the next commit.
    #[error("the log has too much to write; try again")]
    Busy,
    /// Not one whole batch, or its counts contradict each other: it will never be taken.
    #[error("not a record batch that the log takes")]
    Invalid,
    /// Larger than [`RECORD_BATCH_BYTES_MAX`]: cut it smaller.
    #[error("record batch exceeds {RECORD_BATCH_BYTES_MAX} bytes")]
    TooLarge,
    /// No such partition: refresh the metadata.
    #[error("no such partition")]
    UnknownPartition,
}

/// The log holds [`PARTITIONS_MAX`] partitions: refuse to make another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log holds {PARTITIONS_MAX} partitions already")]
pub struct TooManyPartitions;

/// A batch has its place, which is not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Acknowledge it when this slot is durable.
    pub slot_no: SlotNo,
}

/// What becomes of an uplink append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkOutcome {
    /// Stored once its slot is durable.
    Appended(Appended),
    /// It does not come right after what the stream holds. Answer with the stream's state, which says why.
    Misfit {
        /// Answer when this slot is durable; `None`: now (rule B2).
        answer_after: Option<SlotNo>,
    },
    /// It fits but is not stored.
    Refused {
        /// Why. [`RefusedCode::Unavailable`] passes, the others are for ever.
        code: RefusedCode,
        /// Answer when this slot is durable; `None`: now (rule B2).
        answer_after: Option<SlotNo>,
    },
}

/// A slot to be written at its place and synced, before anything else is.
#[derive(Debug, Clone)]
pub struct SlotToWrite {
    /// Which slot; [`Log::slot_durable`] wants it back.
    pub slot_no: SlotNo,
    /// The file to make first, if the slot begins one.
    pub new_file: Option<NewFile>,
    /// The file.
    pub file_no: FileNo,
    /// First byte in the file.
    pub pos: u32,
    /// The slot's bytes, a multiple of 4 KiB.
    pub bytes: Bytes,
}

/// What a durable slot has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// This slot and all before it are durable: release what was parked on them.
    pub slot_no: SlotNo,
    /// The partitions that readers see more of.
    pub moved: Vec<Moved>,
}

/// A partition whose high watermark has risen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The partition.
    pub key: PartitionKey,
    /// The offset behind its last durable record.
    pub high_watermark: Offset,
}

/// The log of one broker.
#[derive(Debug)]
pub struct Log {
    incarnation: Incarnation,
    leader_epoch: LeaderEpoch,
    pending_bytes_max: usize,
    partitions: BTreeMap<PartitionKey, PartitionLog>,
    next_topic_no: TopicNo,
    streams: UplinkStreams,
    producers: Producers,
    staging: Staging,
    in_flight: Option<InFlight>,
    durable_through: Option<SlotNo>,
    prev_crc: u32,
    place: WritePlace,
    tail: Tail,
}

/// The slot that is being written.
#[derive(Debug)]
struct InFlight {
    slot_no: SlotNo,
    append_ms: UnixMs,
    file_no: FileNo,
    pos: u32,
    encoded: EncodedSlot,
}

impl Log {
    /// Goes on from what recovery found, as `incarnation`: random bits that were never used before. The OPEN slot is
    /// staged; write it before anything is served.
    ///
    /// # Panics
    /// If `incarnation` is the one before: the source of randomness is broken, and slots could be mistaken for others.
    #[must_use]
    pub fn open(
        settings: &LogSettings,
        incarnation: Incarnation,
        recovered: Recovered,
        now: UnixMs,
    ) -> Self {
        assert_ne!(recovered.last_incarnation(), Some(incarnation), "an incarnation is used once");
        let mut staging = Staging::new(settings.slot_bytes_target);
        staging.push_control(now, ControlBody::Open(recovered.open_body()));
        Self {
            incarnation,
            leader_epoch: recovered.next_leader_epoch(),
            pending_bytes_max: settings.pending_bytes_max,
            place: WritePlace::new(incarnation, settings.wal_file_bytes, recovered.next_file_no),
            next_topic_no: recovered.next_topic_no,
            partitions: recovered.partitions,
            streams: recovered.streams,
            producers: recovered.producers,
            staging,
            in_flight: None,
            durable_through: None,
            prev_crc: 0,
            tail: Tail::new(settings.tail_bytes),
        }
    }

    /// Makes the partition known, empty if it is new.
    ///
    /// # Errors
    /// [`TooManyPartitions`].
    pub fn register_partition(&mut self, key: PartitionKey) -> Result<(), TooManyPartitions> {
        if self.partitions.len() >= PARTITIONS_MAX && !self.partitions.contains_key(&key) {
            return Err(TooManyPartitions);
        }
        self.partitions.entry(key).or_insert_with(PartitionLog::new);
        let behind = TopicNo(key.topic_no.0.saturating_add(1));
        self.next_topic_no = self.next_topic_no.max(behind);
        Ok(())
    }

    /// A number that no topic in this log ever had.
    #[must_use]
    pub fn next_topic_no(&self) -> TopicNo {
        self.next_topic_no
    }

    /// The epoch that batches are stored under: one more in every incarnation.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Forgets a topic: its partitions, where its producers and uplink streams stood. Its number stays used. What was staged
    /// of it is still written, and seen by nobody.
    pub fn remove_topic(&mut self, topic_no: TopicNo) {
        let (first, last) = PartitionKey::all_of(topic_no);
        self.partitions.extract_if(first..=last, |_, _| true).for_each(drop);
        self.streams.remove_topic(topic_no);
        self.producers.remove_topic(topic_no);
    }

    /// The topics that have partitions here, in the order of their numbers.
    pub fn topic_nos(&self) -> impl Iterator<Item = TopicNo> {
        let mut last = None;
        self.partitions.keys().filter_map(move |key| {
            let is_new = last.replace(key.topic_no) != Some(key.topic_no);
            is_new.then_some(key.topic_no)
        })
    }

    /// Appends `batch`: one whole record batch without a producer id, its CRC checked by the caller. Those with one go
    /// through [`Log::append_idempotent`] or [`Log::append_uplink`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed then.
    pub fn append(
        &mut self,
        now: UnixMs,
        key: PartitionKey,
        batch: Bytes,
    ) -> Result<Appended, AppendError> {
        let header = self.admit(key, &batch)?;
        if header.producer_id.0 >= 0 {
            return Err(AppendError::Invalid);
        }
        self.stage(now, key, &header, batch, None)
    }

    /// Appends an uplink stream's batch if it comes right after what the stream holds (rule B1), judged before
    /// anything else (B3). `batch` is the frame's record batch, its CRC checked by the caller.
    pub fn append_uplink(
        &mut self,
        now: UnixMs,
        append: &UplinkAppend,
        batch: Bytes,
    ) -> UplinkOutcome {
        let answer_after = self.slot_for_answer();
        if !self.streams.fits(append) {
            return UplinkOutcome::Misfit { answer_after };
        }
        let key = append.stream.key;
        let appended = self.admit(key, &batch).and_then(|header| {
            if !append.agrees_with(&header) {
                return Err(AppendError::Invalid);
            }
            let is_new = !self.streams.is_known(&append.stream);
            if is_new && self.streams.len() >= UPLINK_STREAMS_MAX {
                return Err(AppendError::Busy);
            }
            self.stage(now, key, &header, batch, Some(*append))
        });
        match appended {
            Ok(appended) => {
                self.streams.note_appended(append);
                UplinkOutcome::Appended(appended)
            }
            Err(error) => UplinkOutcome::Refused {
                code: match error {
                    AppendError::Busy | AppendError::UnknownPartition => RefusedCode::Unavailable,
                    AppendError::Invalid => RefusedCode::Invalid,
                    AppendError::TooLarge => RefusedCode::TooLarge,
                },
                answer_after,
            },
        }
    }

    /// Where a stream durably stands; `None` if nothing of it was ever stored.
    #[must_use]
    pub fn stream_state_durable(&self, stream: &UplinkStream) -> Option<StreamState> {
        self.streams.durable(stream)
    }

    /// The slot that an answer has to wait for which must come after everything appended so far; `None`: all of that is
    /// durable.
    #[must_use]
    pub fn slot_for_answer(&self) -> Option<SlotNo> {
        let last = self.staging.last_slot();
        last.filter(|_| last > self.durable_through)
    }

    /// The next slot to write, with everything that was staged for it. `None` while one is in flight or nothing waits.
    pub fn take_slot(&mut self) -> Option<SlotToWrite> {
        if self.in_flight.is_some() {
            return None;
        }
        let staged = self.staging.pop()?;
        let head = SlotHead {
            incarnation: self.incarnation,
            slot_no: staged.slot_no,
            prev_crc: self.prev_crc,
            append_ms: staged.append_ms,
        };
        let encoded = match staged.body {
            StagedBody::Batches(batches) => encode_data(&head, batches),
            StagedBody::Control(body) => encode_control(&head, &body),
        };
        let (new_file, file_no, pos) = self.place.take(staged.slot_no, encoded.bytes.len());
        self.prev_crc = encoded.crc;
        let bytes = encoded.bytes.clone();
        self.in_flight = Some(InFlight {
            slot_no: staged.slot_no,
            append_ms: staged.append_ms,
            file_no,
            pos,
            encoded,
        });
        Some(SlotToWrite { slot_no: staged.slot_no, new_file, file_no, pos, bytes })
    }

    /// The slot in flight is on disk: readers see its batches, streams stand behind them.
    ///
    /// # Panics
    /// If `slot_no` is not the slot in flight. Going on would acknowledge what is not durable.
    pub fn slot_durable(&mut self, slot_no: SlotNo) -> Durable {
        let slot = self.in_flight.take();
        let slot = slot
            .filter(|slot| slot.slot_no == slot_no)
            .expect("only the slot in flight can become durable");
        let mut moved: Vec<Moved> = Vec::new();
        for entry in &slot.encoded.runs {
            let Some(partition) = self.partitions.get_mut(&entry.key) else {
                continue;
            };
            partition.run_durable(Run::new(entry, slot.append_ms, slot.file_no, slot.pos));
            let now_at =
                Moved { key: entry.key, high_watermark: partition.offsets().high_watermark };
            match moved.last_mut() {
                Some(last) if last.key == entry.key => *last = now_at,
                Some(_) | None => moved.push(now_at),
            }
        }
        for entry in &slot.encoded.uplinks {
            self.streams.note_durable(&entry.append);
        }
        self.tail.push(slot.file_no, slot.pos, slot.encoded.bytes);
        self.durable_through = Some(slot_no);
        Durable { slot_no, moved }
    }

    /// The offsets of a partition, if it exists.
    #[must_use]
    pub fn offsets(&self, key: PartitionKey) -> Option<PartitionOffsets> {
        Some(self.partitions.get(&key)?.offsets())
    }

    /// Plans a read of at most `max_bytes` of whole batches, from the one that holds `offset`, below the high watermark.
    /// At the high watermark the plan is empty.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        key: PartitionKey,
        offset: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<ReadPlan, ReadError> {
        let partition = self.partitions.get(&key);
        let partition = partition.ok_or(ReadError::UnknownPartition)?;
        read::plan(partition, &self.tail, offset, max_bytes, first)
    }

    /// The first run from `from` on whose greatest timestamp is at least `timestamp`: the first record that is as late
    /// lies there, if the batch headers tell the truth. `None`: there is none.
    #[must_use]
    pub fn candidate_at_time(
        &self,
        key: PartitionKey,
        timestamp: UnixMs,
        from: Offset,
    ) -> Option<Candidate> {
        let mut runs = self.partitions.get(&key)?.runs_from(from);
        let run = runs.find(|run| run.max_timestamp >= timestamp)?;
        Some(read::candidate(run, &self.tail, from))
    }

    /// The first run with the greatest timestamp of the partition; `None` if it is empty.
    #[must_use]
    pub fn candidate_of_max_timestamp(&self, key: PartitionKey) -> Option<Candidate> {
        let partition = self.partitions.get(&key)?;
        let runs = || partition.runs_from(partition.offsets().log_start);
        let greatest = runs().map(|run| run.max_timestamp).max()?;
        let run = runs().find(|run| run.max_timestamp == greatest)?;
        Some(read::candidate(run, &self.tail, run.base))
    }

    /// Whether `batch` may be appended to `key` now.
    fn admit(&self, key: PartitionKey, batch: &Bytes) -> Result<RecordBatchHeader, AppendError> {
        let header = self.check(key, batch)?;
        self.check_room(batch.len())?;
        Ok(header)
    }

    /// Whether `batch` may ever be appended to `key`.
    fn check(&self, key: PartitionKey, batch: &Bytes) -> Result<RecordBatchHeader, AppendError> {
        if !self.partitions.contains_key(&key) {
            return Err(AppendError::UnknownPartition);
        }
        if batch.len() > RECORD_BATCH_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let header = RecordBatchHeader::parse(batch).map_err(|_| AppendError::Invalid)?;
        // Offsets are dense: a new batch has a record for each of its offsets.
        let is_dense = header.last_offset_delta == header.record_count - 1;
        if header.total_len != batch.len() || !is_dense {
            return Err(AppendError::Invalid);
        }
        Ok(header)
    }

    /// Whether there is room for `bytes` among what waits for the disk.
    fn check_room(&self, bytes: usize) -> Result<(), AppendError> {
        let in_flight = self.in_flight.as_ref().map_or(0, |s| s.encoded.bytes.len());
        let pending = self.staging.bytes() + in_flight;
        if pending + bytes + ENTRY_BYTES_PER_BATCH > self.pending_bytes_max {
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    /// Gives an admitted batch its offsets and its slot.
    fn stage(
        &mut self,
        now: UnixMs,
        key: PartitionKey,
        header: &RecordBatchHeader,
        bytes: Bytes,
        uplink: Option<UplinkAppend>,
    ) -> Result<Appended, AppendError> {
        let partition = self.partitions.get_mut(&key);
        let partition = partition.ok_or(AppendError::UnknownPartition)?;
        let base_offset = partition.next();
        // Counts are the producer's word: not even 2^32 batches that claim 2^31 records each may wrap the offset.
        let next = base_offset.0.checked_add(i64::from(header.record_count));
        let last_offset = Offset(next.ok_or(AppendError::Invalid)? - 1);
        partition.append_through(last_offset);
        let batch = BatchToPlace {
            key,
            leader_epoch: self.leader_epoch,
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            flags: RunFlags::of(header),
            bytes,
            uplink,
        };
        let slot_no = self.staging.push_batch(now, batch);
        Ok(Appended { base_offset, slot_no })
    }
}
