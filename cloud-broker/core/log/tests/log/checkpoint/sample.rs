//! Checkpoints to encode: the golden one, and one of extremes.

use broker_log::store::CheckpointId;
use broker_log::{
    BATCHES_KEPT, CheckpointHead, Extent, FileNo, PartitionKey, PartitionState, ProducerBatchState,
    ProducerState, ReplayFrom, RunEntry, RunFlags, SlotNo, TopicNo, UnitId, UnitKind, UnitMeta,
    UnitNo, UnitRun, UnsealedFile,
};
use wire::ids::{Incarnation, Partition, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::StreamState;

use crate::batches::key;

const ME: Incarnation = Incarnation([
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
]);

pub fn golden_head() -> CheckpointHead {
    let sealed = UnitMeta {
        id: UnitId::Wal(FileNo(5)),
        kind: UnitKind::SealedWal,
        len: 134_217_728,
        entries_off: 134_215_000,
        dir_off: 134_217_000,
        entry_count: 40,
        dir_count: 3,
        first_slot: SlotNo(100),
        end_slot: SlotNo(900),
        max_append_ms: UnixMs(1_790_000_000_123),
        setsum: 0x1122_3344_5566_7788,
        crc: 0xc0ff_ee01,
    };
    let compacted = UnitMeta {
        id: UnitId::Unit(UnitNo(0x70)),
        kind: UnitKind::Compacted,
        len: 70_000,
        entries_off: 69_000,
        dir_off: 69_900,
        entry_count: 12,
        dir_count: 1,
        first_slot: SlotNo(3),
        end_slot: SlotNo(800),
        max_append_ms: UnixMs(1_789_999_999_000),
        setsum: 0x99aa_bbcc_ddee_ff00,
        crc: 0xc0ff_ee02,
    };
    CheckpointHead {
        id: CheckpointId { incarnation: ME, n: 0x2a },
        replay: ReplayFrom {
            incarnation: ME,
            leader_epoch: LeaderEpoch(4),
            slot_no: SlotNo(0x01_0203_0405),
            prev_crc: 0xdead_beef,
            file_no: FileNo(0x0b),
            pos: 0x5000,
        },
        gc_slot: SlotNo(0x01_0203_0000),
        next_unit: UnitNo(0x77),
        next_topic: TopicNo(9),
        units: vec![sealed, compacted],
        unsealed: vec![
            UnsealedFile {
                file_no: FileNo(10),
                first_slot: SlotNo(900),
                end_slot: SlotNo(950),
                slots_end: 0x07ff_f000,
                size: 0x0800_0000,
            },
            UnsealedFile {
                file_no: FileNo(11),
                first_slot: SlotNo(950),
                end_slot: SlotNo(0x01_0203_0405),
                slots_end: 0x5000,
                size: 0x0800_0000,
            },
        ],
    }
}

/// A partition of which nothing is known but its number.
pub fn bare(key: PartitionKey) -> PartitionState {
    PartitionState {
        key,
        log_start: Offset(0),
        next: Offset(0),
        cleaned: Offset(0),
        next_horizon: None,
        epochs: Vec::new(),
        extents: Vec::new(),
        runs: Vec::new(),
        producers: Vec::new(),
        streams: Vec::new(),
    }
}

fn run(key: PartitionKey, (base, last): (i64, i64), append_ms: i64) -> UnitRun {
    let entry = RunEntry {
        key,
        leader_epoch: LeaderEpoch(4),
        pos: 4_200,
        len: 300,
        batches: 2,
        flags: RunFlags::default(),
        base_offset: Offset(base),
        last_offset: Offset(last),
        max_timestamp: UnixMs(-1),
    };
    UnitRun { entry, append_ms: UnixMs(append_ms), setsum: 0x00ab_cdef }
}

/// The golden partition that has everything.
pub fn full() -> PartitionState {
    let key = key(3, 0);
    let mut stamped = run(key, (50, 59), 1_790_000_000_300);
    stamped.setsum = 0xfedc_ba98_7654_3210;
    stamped.entry.pos = 8_300;
    stamped.entry.len = 150;
    stamped.entry.batches = 1;
    stamped.entry.flags = RunFlags(RunFlags::LOG_APPEND);
    stamped.entry.max_timestamp = UnixMs(1_790_000_000_300);
    PartitionState {
        log_start: Offset(7),
        next: Offset(60),
        cleaned: Offset(20),
        next_horizon: Some(UnixMs(1_790_000_100_000)),
        epochs: vec![(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(25))],
        extents: vec![
            Extent {
                unit: UnitId::Unit(UnitNo(0x70)),
                base: Offset(5),
                last: Offset(19),
                max_timestamp: UnixMs(1_789_000_000_000),
                max_append_ms: UnixMs(1_789_999_999_000),
                bytes: 69_000,
                first: 0,
                count: 12,
            },
            Extent {
                unit: UnitId::Wal(FileNo(5)),
                base: Offset(20),
                last: Offset(39),
                max_timestamp: UnixMs(1_789_500_000_000),
                max_append_ms: UnixMs(1_790_000_000_123),
                bytes: 4_096,
                first: 38,
                count: 2,
            },
        ],
        runs: vec![(FileNo(11), run(key, (40, 49), 1_790_000_000_200)), (FileNo(11), stamped)],
        producers: full_producers(),
        streams: full_streams(),
        ..bare(key)
    }
}

pub fn full_producers() -> Vec<ProducerState> {
    vec![
        ProducerState {
            pid: ProducerId(7),
            epoch: 3,
            used: UnixMs(1_790_000_000_300),
            batches: vec![
                ProducerBatchState {
                    base: seq(i32::MAX),
                    last: seq(1),
                    base_offset: Offset(40),
                    append_time: None,
                },
                ProducerBatchState {
                    base: seq(2),
                    last: seq(9),
                    base_offset: Offset(50),
                    append_time: Some(UnixMs(1_790_000_000_300)),
                },
            ],
        },
        ProducerState {
            pid: ProducerId(8),
            epoch: 0,
            used: UnixMs(1_789_999_000_000),
            batches: Vec::new(),
        },
    ]
}

pub fn full_streams() -> Vec<(ProducerId, StreamState)> {
    let stream = ProducerId(ProducerId::UPLINK_MIN.0 + 0x55);
    vec![
        (stream, StreamState { epoch: StreamEpoch(4), last: Some(seq(0x0102)), tag: Tag(0xbbbb) }),
        (
            ProducerId(stream.0 + 1),
            StreamState { epoch: StreamEpoch(5), last: None, tag: Tag(0xcccc) },
        ),
    ]
}

fn seq(number: i32) -> StreamSeq {
    StreamSeq::new(number).unwrap()
}

pub fn golden_partitions() -> Vec<PartitionState> {
    let emptied = PartitionState {
        log_start: Offset(100),
        next: Offset(100),
        epochs: vec![(LeaderEpoch(2), Offset(0))],
        ..bare(key(3, 1))
    };
    vec![full(), emptied, bare(key(3, 1024))]
}

/// A head whose every field is as large as it can be, or as small.
pub fn extreme_head() -> CheckpointHead {
    let unit = UnitMeta {
        id: UnitId::Unit(UnitNo(u64::MAX)),
        kind: UnitKind::OnePartition,
        len: u64::MAX,
        entries_off: u64::MAX,
        dir_off: u64::MAX,
        entry_count: u32::MAX,
        dir_count: u32::MAX,
        first_slot: SlotNo(u64::MAX),
        end_slot: SlotNo(u64::MAX),
        max_append_ms: UnixMs(i64::MIN),
        setsum: u64::MAX,
        crc: u32::MAX,
    };
    let file = UnitMeta { id: UnitId::Wal(FileNo(u64::MAX)), kind: UnitKind::Evacuated, ..unit };
    CheckpointHead {
        id: CheckpointId { incarnation: Incarnation([0xff; 16]), n: u64::MAX },
        replay: ReplayFrom {
            incarnation: Incarnation([0xff; 16]),
            leader_epoch: LeaderEpoch(i32::MAX),
            slot_no: SlotNo(u64::MAX),
            prev_crc: u32::MAX,
            file_no: FileNo(u64::MAX),
            pos: u64::MAX,
        },
        gc_slot: SlotNo(u64::MAX),
        next_unit: UnitNo(u64::MAX),
        next_topic: TopicNo(u32::MAX),
        units: vec![file, unit],
        unsealed: vec![UnsealedFile {
            file_no: FileNo(u64::MAX),
            first_slot: SlotNo(u64::MAX),
            end_slot: SlotNo(u64::MAX),
            slots_end: u64::MAX,
            size: u64::MAX,
        }],
    }
}

/// The same of a partition.
pub fn extreme_partition() -> PartitionState {
    let key = PartitionKey { topic_no: TopicNo(u32::MAX), partition: Partition(u32::MAX) };
    let extent = Extent {
        unit: UnitId::Unit(UnitNo(u64::MAX)),
        base: Offset(0),
        last: Offset(i64::MAX - 2),
        max_timestamp: UnixMs(i64::MAX),
        max_append_ms: UnixMs(i64::MIN),
        bytes: u64::MAX,
        first: u32::MAX - 1,
        count: 1,
    };
    let mut last_run = run(key, (i64::MAX - 1, i64::MAX - 1), i64::MIN);
    last_run.setsum = u64::MAX;
    last_run.entry = RunEntry {
        leader_epoch: LeaderEpoch(i32::MAX),
        pos: u32::MAX,
        len: u32::MAX,
        batches: u16::MAX,
        flags: RunFlags(u16::MAX),
        max_timestamp: UnixMs(i64::MAX),
        ..last_run.entry
    };
    let batch = ProducerBatchState {
        base: seq(i32::MAX),
        last: seq(i32::MAX),
        base_offset: Offset(i64::MIN),
        append_time: Some(UnixMs(i64::MIN)),
    };
    let producer = |pid| ProducerState {
        pid: ProducerId(pid),
        epoch: i16::MIN,
        used: UnixMs(i64::MIN),
        batches: vec![batch; BATCHES_KEPT],
    };
    let stream =
        StreamState { epoch: StreamEpoch(i16::MAX), last: Some(seq(i32::MAX)), tag: Tag(u64::MAX) };
    PartitionState {
        key,
        log_start: Offset(i64::MAX),
        next: Offset(i64::MAX),
        cleaned: Offset(i64::MAX),
        next_horizon: Some(UnixMs(i64::MIN)),
        epochs: vec![(LeaderEpoch(i32::MIN), Offset(0)), (LeaderEpoch(i32::MAX), Offset(i64::MAX))],
        extents: vec![extent],
        runs: vec![(FileNo(u64::MAX), last_run)],
        producers: vec![producer(i64::MIN), producer(i64::MAX)],
        streams: vec![(ProducerId(i64::MIN), stream), (ProducerId(i64::MAX), stream)],
    }
}
