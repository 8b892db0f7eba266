//! Checkpoints as docs/formats/checkpoint.md describes them: the golden bytes, round trips, damage and nonsense.

use std::collections::BTreeMap;

use wire::ids::{Incarnation, Partition, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::crc32c;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::StreamState;

use broker_log::store::CheckpointId;
use broker_log::{
    BATCHES_KEPT, CHECKPOINT_HEADER_BYTES, Checkpoint, CheckpointError, CheckpointErrorKind,
    CheckpointHead, CheckpointIndex, CheckpointWriter, Extent, FileNo, PartitionKey,
    PartitionState, ProducerBatchState, ProducerState, ReplayFrom, RunEntry, RunFlags,
    SECTIONS_MAX, Section, SectionKind, SlotNo, TopicNo, UnitId, UnitKind, UnitMeta, UnitNo,
    UnitRun, UnsealedFile,
};

use crate::batches::key;

const GOLDEN: &[u8] = include_bytes!("../golden/checkpoint-v1.bin");

const ME: Incarnation = Incarnation([
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
]);

/// Bytes of the directory's entries.
const ENTRY_BYTES: usize = 32;

fn golden_head() -> CheckpointHead {
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
fn bare(key: PartitionKey) -> PartitionState {
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
fn full() -> PartitionState {
    let key = key(3, 0);
    let mut stamped = run(key, (50, 59), 1_790_000_000_300);
    stamped.setsum = 0xfedc_ba98_7654_3210;
    stamped.entry.pos = 8_300;
    stamped.entry.len = 150;
    stamped.entry.batches = 1;
    stamped.entry.flags = RunFlags(RunFlags::LOG_APPEND);
    stamped.entry.max_timestamp = UnixMs(1_790_000_000_300);
    let seq = |number| StreamSeq::new(number).unwrap();
    let stream = ProducerId(ProducerId::UPLINK_MIN.0 + 0x55);
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
        producers: vec![
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
        ],
        streams: vec![
            (
                stream,
                StreamState { epoch: StreamEpoch(4), last: Some(seq(0x0102)), tag: Tag(0xbbbb) },
            ),
            (
                ProducerId(stream.0 + 1),
                StreamState { epoch: StreamEpoch(5), last: None, tag: Tag(0xcccc) },
            ),
        ],
        ..bare(key)
    }
}

fn golden_partitions() -> Vec<PartitionState> {
    let emptied = PartitionState {
        log_start: Offset(100),
        next: Offset(100),
        epochs: vec![(LeaderEpoch(2), Offset(0))],
        ..bare(key(3, 1))
    };
    vec![full(), emptied, bare(key(3, 1024))]
}

fn encode<'a>(
    head: &CheckpointHead,
    partitions: impl IntoIterator<Item = &'a PartitionState>,
) -> Vec<u8> {
    let mut writer = CheckpointWriter::new();
    partitions.into_iter().for_each(|state| writer.partition(state));
    writer.finish(head).unwrap().concat()
}

fn by_key(partitions: Vec<PartitionState>) -> BTreeMap<PartitionKey, PartitionState> {
    partitions.into_iter().map(|state| (state.key, state)).collect()
}

/// Makes every CRC of a checkpoint anew, so that only its content is wrong.
fn reseal(bytes: &mut [u8]) {
    let sections = u32::from_le_bytes(bytes[48..52].try_into().unwrap()) as usize;
    let index_len = CHECKPOINT_HEADER_BYTES + sections * ENTRY_BYTES;
    for entry in (CHECKPOINT_HEADER_BYTES..index_len).step_by(ENTRY_BYTES) {
        let pos = u64::from_le_bytes(bytes[entry + 16..entry + 24].try_into().unwrap()) as usize;
        let len = u32::from_le_bytes(bytes[entry + 24..entry + 28].try_into().unwrap()) as usize;
        if let Some(section) = bytes.get(pos..pos + len) {
            let crc = crc32c(section);
            bytes[entry + 28..entry + 32].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let covered = [&bytes[..60], &bytes[64..index_len]].concat();
    bytes[60..64].copy_from_slice(&crc32c(&covered).to_le_bytes());
}

fn golden_sections() -> Vec<Section> {
    CheckpointIndex::decode(GOLDEN).unwrap().sections
}

#[test]
fn golden_bytes() {
    let (head, partitions) = (golden_head(), golden_partitions());
    assert_eq!(encode(&head, &partitions), GOLDEN);
    let read = Checkpoint::decode(GOLDEN).unwrap();
    assert_eq!(read, Checkpoint { head, partitions: by_key(partitions) });
}

#[test]
fn order_does_not_matter_and_producers_may_come_first() {
    let (head, partitions) = (golden_head(), golden_partitions());
    assert_eq!(encode(&head, partitions.iter().rev()), GOLDEN);
    let mut writer = CheckpointWriter::new();
    for state in &partitions {
        writer.producers(state.key, &state.producers);
    }
    for state in &partitions {
        writer.partition(&PartitionState { producers: Vec::new(), ..state.clone() });
    }
    assert_eq!(writer.finish(&head).unwrap().concat(), GOLDEN);
}

#[test]
fn producers_of_a_partition_that_is_gone_mean_nothing() {
    let (head, partitions) = (golden_head(), golden_partitions());
    let mut writer = CheckpointWriter::new();
    // One beside partitions that are there, one in a shard without any.
    writer.producers(key(3, 2048), &full().producers);
    writer.producers(key(3, 9), &full().producers);
    partitions.iter().for_each(|state| writer.partition(state));
    let read = Checkpoint::decode(&writer.finish(&head).unwrap().concat()).unwrap();
    assert_eq!(read.partitions, by_key(partitions));
}

#[test]
fn a_shard_can_be_read_alone() {
    let index = CheckpointIndex::decode(&GOLDEN[..1 << 8]).unwrap();
    assert_eq!(CheckpointIndex::len_in(GOLDEN), Ok(CHECKPOINT_HEADER_BYTES + 3 * ENTRY_BYTES));
    let bytes = |section: &Section| &GOLDEN[section.pos as usize..section.end() as usize];
    let [units, first, second] = &index.sections[..] else {
        panic!("units and two shards");
    };
    assert_eq!(units.kind, SectionKind::Units);
    let head = index.decode_head(bytes(units)).unwrap();
    assert_eq!(head, golden_head());
    let shard = key(3, 1).shard();
    let wanted = if second.kind == SectionKind::Shard(shard) { second } else { first };
    let states = wanted.decode_shard(bytes(wanted), &head).unwrap();
    assert_eq!(states, golden_partitions()[1..2]);
}

#[test]
fn extremes_read_back() {
    let seq = |number| StreamSeq::new(number).unwrap();
    let key = PartitionKey { topic_no: TopicNo(u32::MAX), partition: Partition(u32::MAX) };
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
    let head = CheckpointHead {
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
    };
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
    let state = PartitionState {
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
    };
    let read = Checkpoint::decode(&encode(&head, [&state])).unwrap();
    assert_eq!(read, Checkpoint { head, partitions: by_key(vec![state]) });
}

#[test]
fn an_empty_log_has_a_checkpoint() {
    let head = CheckpointHead { units: Vec::new(), unsealed: Vec::new(), ..golden_head() };
    let bytes = encode(&head, []);
    assert_eq!(bytes.len(), CHECKPOINT_HEADER_BYTES + ENTRY_BYTES + 40);
    assert_eq!(Checkpoint::decode(&bytes), Ok(Checkpoint { head, partitions: BTreeMap::new() }));
}

#[test]
fn partitions_of_all_shards_read_back() {
    let partitions: Vec<_> = (0..5_000)
        .map(|i: u32| PartitionState { next: Offset(i64::from(i)), ..bare(key(i / 7, i % 7)) })
        .collect();
    let bytes = encode(&golden_head(), &partitions);
    let index = CheckpointIndex::decode(&bytes).unwrap();
    assert_eq!(index.sections.len(), 1 + 1024, "5,000 partitions leave no shard empty");
    assert_eq!(Checkpoint::decode(&bytes).unwrap().partitions, by_key(partitions));
}

#[test]
fn every_flipped_bit_is_found_and_its_range_named() {
    let index_len = CheckpointIndex::len_in(GOLDEN).unwrap() as u64;
    let sections = golden_sections();
    for at in 0..GOLDEN.len() {
        for bit in 0..8 {
            let mut bad = GOLDEN.to_vec();
            bad[at] ^= 1 << bit;
            let error = Checkpoint::decode(&bad).unwrap_err();
            let at = at as u64;
            assert!((error.from..error.to).contains(&at), "byte {at}, bit {bit}: {error}");
            let section =
                sections.iter().find(|section| (section.pos..section.end()).contains(&at));
            if let Some(section) = section {
                let kind = CheckpointErrorKind::Crc;
                let expected = CheckpointError { from: section.pos, to: section.end(), kind };
                assert_eq!(error, expected, "byte {at}, bit {bit}");
            } else {
                assert!(error.from == 0 && at < index_len, "byte {at}, bit {bit}: {error}");
            }
        }
    }
}

#[test]
fn every_cut_is_found_and_so_is_a_byte_too_many() {
    for len in 0..GOLDEN.len() {
        let error = Checkpoint::decode(&GOLDEN[..len]).unwrap_err();
        assert_eq!(error.kind, CheckpointErrorKind::Length, "{len} bytes: {error}");
    }
    let longer = [GOLDEN, &[0]].concat();
    let (from, to) = (GOLDEN.len() as u64, GOLDEN.len() as u64 + 1);
    let kind = CheckpointErrorKind::Length;
    assert_eq!(Checkpoint::decode(&longer), Err(CheckpointError { from, to, kind }));
}

#[test]
fn foreign_files_and_other_versions_are_told_apart() {
    let kind_of = |patch: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = GOLDEN.to_vec();
        patch(&mut bytes);
        reseal(&mut bytes);
        Checkpoint::decode(&bytes).unwrap_err().kind
    };
    use CheckpointErrorKind::{NotACheckpoint, SectionKind, Version};
    assert_eq!(kind_of(&|bytes| bytes[0] = b'X'), NotACheckpoint);
    assert_eq!(kind_of(&|bytes| bytes[4] = 2), Version(2));
    // The groups' and transactions' sections of a later version.
    let second = CHECKPOINT_HEADER_BYTES + ENTRY_BYTES;
    assert_eq!(kind_of(&|bytes| bytes[second] = 3), SectionKind(3));
    // A directory beyond the limit is not even looked for.
    let mut bytes = GOLDEN.to_vec();
    for (sections, expected) in [
        (SECTIONS_MAX, CheckpointErrorKind::Length),
        (SECTIONS_MAX + 1, CheckpointErrorKind::Crc),
        (u32::MAX, CheckpointErrorKind::Crc),
    ] {
        bytes[48..52].copy_from_slice(&sections.to_le_bytes());
        assert_eq!(Checkpoint::decode(&bytes).unwrap_err().kind, expected, "{sections} sections");
    }
}

/// Where in the golden file things lie: the list of units, the shard of the full partition, the full partition itself.
fn places() -> (usize, usize, usize) {
    let sections = golden_sections();
    let shard = key(3, 0).shard();
    let shard = sections.iter().find(|section| section.kind == SectionKind::Shard(shard)).unwrap();
    (sections[0].pos as usize, shard.pos as usize, shard.pos as usize + 8)
}

#[test]
fn content_that_contradicts_itself_is_refused() {
    let (units, shard, full) = places();
    let epochs = full + 64;
    let extents = epochs + 2 * 12;
    let runs = extents + 2 * 64;
    let streams = runs + 2 * 72;
    let bare = streams + 2 * 24;
    let group = bare + 64;
    let directory = CHECKPOINT_HEADER_BYTES;
    // Where, which bytes go there, and what of the answer's words.
    let cases: &[(usize, &[u8], &str)] = &[
        (directory + 4, &[1], "no such shard"),
        (directory + 8, &[0], "directory"),
        (directory + 16, &[0], "directory"),
        (directory + ENTRY_BYTES + 5, &[4], "no such shard"),
        (directory + ENTRY_BYTES + 4, &[0xff, 3], "directory"),
        (directory + ENTRY_BYTES, &[1, 0, 0, 0, 0, 0, 0, 0], "directory"),
        (units + 28, &[1], "length"),
        (units + 28, &[3], "length"),
        (units + 28, &[0xff; 4], "length"),
        (units + 32, &[0xff; 4], "length"),
        (units + 40 + 160, &[11], "the unsealed files are not in order"),
        (units + 40 + 200, &[12], "a run outside its file"),
        (units + 40 + 200 + 24, &[0, 0x20], "a run outside its file"),
        (units + 40 + 8, &[1], "an extent outside its unit"),
        (units + 40 + 8, &[2], "unknown kind"),
        (units + 40 + 9, &[5], "unknown kind"),
        (units + 40 + 9, &[0], "unknown kind"),
        (units + 40 + 80 + 8, &[0], "an extent outside its unit"),
        (units + 40 + 80, &[5, 0, 0, 0, 0, 0, 0, 0, 0], "the units are not in order"),
        (units + 40 + 40, &[39], "an extent outside its unit"),
        (shard, &[1], "a shard's section has another length"),
        (shard, &[3], "partition"),
        (shard, &[0xff; 4], "partition"),
        (shard + 4, &[0], "length"),
        (shard + 4, &[2], "group"),
        (shard + 4, &[0xff; 4], "group"),
        (full + 4, &[1], "run of another partition"),
        (full + 8, &[61], "log start"),
        (full + 15, &[0x80], "log start"),
        (full + 16, &[59], "ascend"),
        (full + 40, &[2], "impossible"),
        (full + 44, &[0xff; 4], "cut off"),
        (full + 48, &[0xff; 4], "cut off"),
        (full + 52, &[0xff; 4], "cut off"),
        (full + 56, &[0xff; 4], "cut off"),
        (epochs, &[4], "epochs"),
        (epochs + 4, &[26], "epochs"),
        (extents + 8, &[20], "ascend"),
        (extents + 16, &[20], "ascend"),
        (extents + 52, &[0], "without entries"),
        (extents + 52, &[13], "outside its unit"),
        (extents + 48, &[0xff; 4], "outside its unit"),
        (extents + 56, &[2], "impossible"),
        (extents, &[0x71], "outside its unit"),
        (runs + 24, &[4], "run of another partition"),
        (runs + 24 + 24, &[39], "ascend"),
        (runs + 24 + 32, &[50], "ascend"),
        (runs, &[12], "a run outside its file"),
        (streams, &[0x57], "streams"),
        (streams + 22, &[2], "impossible"),
        (streams + 19, &[0x80], "impossible"),
        (bare + 4, &[1, 4], "another shard"),
        (bare + 4, &[0, 0], "partitions are not in order"),
        (group + 8, &[0xff; 4], "group"),
        (group + 16 + 18, &[6], "too many batches"),
        (group + 16, &[9], "the producers are not in order"),
        (group + 16 + 20 + 3, &[0xff], "negative"),
    ];
    for (at, patch, words) in cases {
        let mut bytes = GOLDEN.to_vec();
        bytes[*at..*at + patch.len()].copy_from_slice(patch);
        reseal(&mut bytes);
        let error = Checkpoint::decode(&bytes).expect_err(words);
        assert!(error.to_string().contains(words), "{patch:?} at {at}: {error}, not {words}");
        assert!(error.to <= GOLDEN.len() as u64, "{error}");
    }
}

#[test]
fn no_bytes_make_it_panic_or_take_much_memory() {
    let index_len = CheckpointIndex::len_in(GOLDEN).unwrap();
    let mut accepted = 0;
    for at in (48..GOLDEN.len()).filter(|at| !(52..CHECKPOINT_HEADER_BYTES).contains(at)) {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = GOLDEN.to_vec();
            bytes[at] = wrong;
            if at >= index_len {
                reseal(&mut bytes);
            }
            accepted += u32::from(Checkpoint::decode(&bytes).is_ok());
        }
    }
    assert!(accepted > 0, "a timestamp may be anything");
}
