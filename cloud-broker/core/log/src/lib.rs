//! The log engine: gives out offsets, lays batches into WAL slots, says what is durable, and finds what readers ask for.
//!
//! How it is driven: [`recover`] takes the newest good checkpoint and replays the WAL behind it; the shell carries out what the
//! [`Recovered`] asks for (rewrite the tail and sync it, remove dead files, free orphans) and hands it to [`Log::open`]. The
//! first slot of the new incarnation is its OPEN; nothing is served before that one is durable. From then on:
//! [`Log::append`], [`Log::append_idempotent`] and [`Log::append_uplink`] stage batches, [`Log::take_slot`] yields the next slot
//! to write and sync (one at a time), [`Log::slot_durable`] reports it durable (after [`Log::slot_synced`], so that the next
//! one is on its way meanwhile), [`Log::read`] plans reads below the high
//! watermark, whose pieces are carried out elsewhere ([`Piece::read`]). Beside that, in any order: [`Log::maintain`] when
//! [`Log::next_maintenance`] has come; [`Log::take_job`] until there is none, each run elsewhere ([`Job::run`]) and its result
//! given to [`Log::job_done`]; [`Log::set_room`] when there is more or less space.
//!
//! Invariants: an offset is given once; what is not durable is neither readable nor part of any answer; slots of an
//! incarnation are dense and chained by CRC; a damaged slot with an intact one behind it is never skipped; a checkpoint says
//! what was so at the end of one slot, exactly; what a kept checkpoint names, or somebody reads, is not given back.
//!
//! Deliberately missing: files, threads, clocks and sockets (the process owns them), topic names (the metadata owns
//! them; here a topic is a number), checks of a batch's CRC (the connection that received it did that).

mod append_clock;
mod batch_cut;
mod catalog;
mod checkpoint;
mod compaction;
mod extent;
mod fields;
mod ids;
mod job;
mod lease;
mod log;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
pub mod mutant;
mod partition;
#[cfg(feature = "sim")]
pub mod plain_records;
mod policy;
mod producer;
mod read;
mod recovery;
mod retention;
mod settings;
#[cfg(feature = "sim")]
pub mod sim_disk;
mod slot;
mod staging;
pub mod store;
mod tail;
mod unit;
mod uplink_stream;
mod wal_file_header;

pub use batch_cut::{DamagedRun, FirstBatch};
pub use checkpoint::{
    CHECKPOINT_HEADER_BYTES, CHECKPOINT_VERSION, Checkpoint, CheckpointError, CheckpointErrorKind,
    CheckpointHead, CheckpointIndex, CheckpointWriter, PartitionState, ProducerBatchState,
    ProducerState, ReplayFrom, SECTIONS_MAX, Section, SectionKind, SectionTooLarge, UnsealedFile,
};
pub use compaction::{
    COMPACTED_BATCH_RECORDS_MAX, COMPACTION_MAP_BYTES, KeyedRecord, RecordRewriter, Unreadable,
};
pub use extent::Extent;
pub use ids::{FileNo, PartitionKey, SHARDS, Shard, SlotNo, TopicNo, UnitId, UnitNo};
pub use job::{
    Ages, CheckpointJob, CompactJob, Damage, FreeJob, Job, JobDone, Lane, LiveExtent, Made, Pace,
    Proceed, RewriteJob, SealJob, UnitRun,
};
pub use lease::Lease;
pub use log::{
    AppendError, Appended, Applied, DeleteRecordsError, Durable, IdempotentError,
    IdempotentOutcome, Log, LogUsage, Moved, NewFile, Now, RecordsDeleted, Room, SlotToWrite,
    TooManyPartitions, UplinkOutcome,
};
pub use partition::PartitionOffsets;
pub use policy::{CompactPolicy, TopicPolicy};
pub use producer::{BATCHES_KEPT, PRODUCER_EXPIRATION_MS, PRODUCERS_MAX};
pub use read::{Candidate, FilePiece, Piece, PieceRead, ReadError, ReadPlan};
pub use recovery::{
    CheckpointBad, Corruption, CorruptionKind, DamagedCheckpoint, Recovered, RecoveryError,
    RecoveryReport, TailRewrite, TornTail, WalFileLen, WalSource, recover,
};
pub use settings::{LogSettings, PARTITIONS_MAX, READ_PIECES_MAX, UPLINK_STREAMS_MAX};
pub use slot::{
    ALL_SHARDS, BatchToPlace, ControlBody, EncodedSlot, ExpectedSlot, Open, Predecessor, RunEntry,
    RunFlags, SLOT_ALIGN, SLOT_BYTES_MAX, SLOT_HEADER_BYTES, SLOT_VERSION, ShardEpoch, Slot,
    SlotBody, SlotError, SlotHead, SlotHeader, UplinkEntry, encode_control, encode_data,
};
pub use unit::{
    ExtentPart, ExtentRead, ExtentSearch, FoundRun, ReadFailed, SearchFor, ShardRow,
    UNIT_BODY_BYTES_MAX, UNIT_ENTRIES_MAX, UNIT_ENTRY_BATCHES_BYTES, UnitError, UnitKind, UnitMeta,
    UnitTable, setsum_of_batch,
};
pub use uplink_stream::{UplinkAppend, UplinkStream};
pub use wal_file_header::{
    WAL_FILE_HEADER_BYTES, WAL_FILE_VERSION, WalFileHeader, WalFileHeaderError,
};
