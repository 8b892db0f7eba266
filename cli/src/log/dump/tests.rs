//! What is printed of files that were made for it, and what is found wrong with them. On a broker's own files it runs in
//! tests/e2e.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use broker_log::{
    ALL_SHARDS, BatchToPlace, ControlBody, EncodedSlot, FileNo, Open, PartitionKey, RunFlags,
    ShardEpoch, SlotHead, SlotNo, TopicNo, UplinkAppend, UplinkStream, WAL_FILE_HEADER_BYTES,
    WalFileHeader, encode_control, encode_data,
};
use tempfile::TempDir;
use wire::ids::{Incarnation, Partition, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, assign_place, crc32c};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use super::output::{Format, Output};
use super::{Depth, Wanted, dump};

const CHECKPOINT: &[u8] =
    include_bytes!("../../../../cloud-broker/core/log/tests/golden/checkpoint-v1.bin");
const UNIT: &[u8] = include_bytes!("../../../../cloud-broker/core/log/tests/golden/unit-v1.bin");

const ME: Incarnation = Incarnation([0xab; 16]);
const FILE_BYTES: u64 = 40 << 10;

/// How many ranges are damaged, and what is printed.
fn dumped(path: &Path, format: Format, wanted: Wanted) -> (u64, String) {
    let mut bytes = Vec::new();
    let mut output = Output::new(&mut bytes, format, wanted.depth);
    dump(path, &wanted, &mut output).unwrap();
    let damaged = output.damaged();
    drop(output);
    (damaged, String::from_utf8(bytes).unwrap())
}

fn all(depth: Depth) -> Wanted {
    Wanted { topic_no: None, partition: None, depth }
}

fn batch(offset: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new();
    for key in [Some(&b"dev-1"[..]), None] {
        let headers: &[(&str, &[u8])] = &[("mqtt.topic", b"plant/1")];
        builder.push(&Record {
            timestamp: UnixMs(1_790_000_000_000 + offset),
            key,
            value: Some(value),
            headers,
        });
    }
    let producer =
        BatchProducer { id: ProducerId(7), epoch: StreamEpoch::FIRST, base: StreamSeq::ZERO };
    let mut batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
    assign_place(&mut batch, Offset(offset), LeaderEpoch(3));
    batch
}

fn place((topic, partition): (u32, u32), offset: i64, value: &[u8]) -> BatchToPlace {
    BatchToPlace {
        key: PartitionKey { topic_no: TopicNo(topic), partition: Partition(partition) },
        leader_epoch: LeaderEpoch(3),
        base_offset: Offset(offset),
        last_offset: Offset(offset + 1),
        max_timestamp: UnixMs(1_790_000_000_000 + offset),
        flags: RunFlags::default(),
        bytes: batch(offset, value).into(),
        uplink: None,
    }
}

/// OPEN, a slot with two partitions, a slot with an uplink's batch; the position of each in a file.
fn slots() -> Vec<(u64, EncodedSlot)> {
    let mut slots: Vec<(u64, EncodedSlot)> = Vec::new();
    let open = ControlBody::Open(Open {
        predecessors: Vec::new(),
        shards: vec![ShardEpoch { shard: ALL_SHARDS, epoch: 3 }],
    });
    let mut uplinked = place((2, 1), 2, b"\xff\x00");
    uplinked.uplink = Some(UplinkAppend {
        stream: UplinkStream { pid: ProducerId(ProducerId::UPLINK_MIN.0 + 5), key: uplinked.key },
        epoch: StreamEpoch(4),
        base: StreamSeq::new(9).unwrap(),
        count: 2,
        prev_tag: Tag(0xaaaa),
        tag: Tag(0xbbbb),
    });
    let contents = [
        None,
        Some(vec![place((2, 1), 0, b"21.5"), place((0, 6), 40, b"on")]),
        Some(vec![uplinked]),
    ];
    let mut pos = WAL_FILE_HEADER_BYTES as u64;
    for (slot_no, content) in (0..).zip(contents) {
        let head = SlotHead {
            incarnation: ME,
            slot_no: SlotNo(slot_no),
            prev_crc: slots.last().map_or(0, |(_, slot)| slot.crc),
            append_ms: UnixMs(1_790_000_000_123),
        };
        let slot = match content {
            None => encode_control(&head, &open),
            Some(batches) => encode_data(&head, &batches),
        };
        let len = slot.bytes.len() as u64;
        slots.push((pos, slot));
        pos += len.next_multiple_of(4096);
    }
    slots
}

fn wal_file() -> Vec<u8> {
    let header = WalFileHeader {
        incarnation: ME,
        file_no: FileNo(7),
        first_slot: SlotNo(0),
        size: FILE_BYTES,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(FILE_BYTES as usize, 0);
    for (pos, slot) in slots() {
        bytes[pos as usize..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
    }
    bytes
}

/// A data folder with one file of each kind.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let incarnation = "101112131415161718191a1b1c1d1e1f";
    for (name, bytes) in [
        ("wal/0000000000000007.wal".to_owned(), &wal_file()[..]),
        ("unit/0000000000000009.unit".to_owned(), UNIT),
        (format!("ckpt/{incarnation}/000000000000002a.ckpt"), CHECKPOINT),
        ("wal/lock".to_owned(), b""),
        ("wal/0000000000000008.wal.tmp".to_owned(), b"half made"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

#[test]
fn every_kind_of_file_is_printed() {
    let folder = folder();
    let (damaged, text) = dumped(folder.path(), Format::Text, all(Depth::Records));
    assert_eq!(text, include_str!("../../../tests/golden/log-dump.txt"));
    assert_eq!(damaged, 4, "the checkpoint names files that are not there");
}

#[test]
fn programs_get_an_object_per_line() {
    let folder = folder();
    let (_, text) = dumped(folder.path(), Format::Json, all(Depth::Records));
    let people = include_str!("../../../tests/golden/log-dump.txt");
    let of_items = people.lines().filter(|line| line.contains('='));
    assert_eq!(text.lines().count(), of_items.count());
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |name: &str| objects.iter().filter(|object| object["type"] == name).collect::<Vec<_>>();
    let record = of("record")[4];
    assert_eq!(record["file"], "wal/0000000000000007.wal");
    assert_eq!((&record["offset"], &record["key"]), (&2.into(), &"dev-1".into()));
    assert_eq!(record["value"]["hex"], "ff00");
    assert_eq!(record["headers"], serde_json::json!([["mqtt.topic", "plant/1"]]));
    assert_eq!(of("uplink")[0]["producer_id"], (1_i64 << 62) + 5);
    assert_eq!(of("partition")[1]["next_horizon"], serde_json::Value::Null);
    assert_eq!(of("slot")[0]["append_time"], 1_790_000_000_123_i64);
}

#[test]
fn one_partition_is_picked_out() {
    let folder = folder();
    let wanted = Wanted { topic_no: Some(2), partition: Some(1), depth: Depth::Runs };
    let (_, text) = dumped(folder.path(), Format::Text, wanted);
    let lines =
        |name: &str| text.lines().filter(|line| line.trim_start().starts_with(name)).count();
    assert_eq!((lines("run "), lines("slot "), lines("uplink ")), (2, 2, 1), "{text}");
    assert_eq!((lines("partition "), lines("shard "), lines("section ")), (0, 0, 0), "{text}");
    let wanted = Wanted { topic_no: Some(5), partition: None, depth: Depth::Runs };
    let (_, text) = dumped(folder.path(), Format::Text, wanted);
    assert_eq!(text.matches("    run topic_no=5").count(), 3, "{text}");
    assert_eq!(text.matches("topic_no=").count(), 3, "{text}");
}

/// Checks one file with a change to it: the damaged ranges, with what is said of them.
fn verify(name: &str, bytes: &[u8], at: usize) -> Vec<(u64, u64, String)> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 0x10;
    }
    fs::write(&path, bytes).unwrap();
    damage_in(&path)
}

fn damage_in(path: &Path) -> Vec<(u64, u64, String)> {
    let (damaged, text) = dumped(path, Format::Json, all(Depth::Verify));
    let mut found = Vec::new();
    for line in text.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        if object["type"] == "damage" {
            let number = |name: &str| object[name].as_u64().unwrap();
            let what = object["what"].as_str().unwrap();
            found.push((number("from"), number("to"), what.to_owned()));
        }
    }
    assert_eq!(damaged, found.len() as u64);
    found
}

const WAL: &str = "0000000000000007.wal";
const UNIT_NAME: &str = "0000000000000009.unit";

#[test]
fn what_is_intact_is_said_to_be() {
    let whole = usize::MAX;
    assert_eq!(verify(WAL, &wal_file(), whole), []);
    assert_eq!(verify(UNIT_NAME, UNIT, whole), []);
    assert_eq!(verify("000000000000002a.ckpt", CHECKPOINT, whole), []);
    // Files are known by what they are, whatever their name.
    assert_eq!(verify("copy", UNIT, whole), []);
}

#[test]
fn damage_is_found_with_its_range() {
    let wal = wal_file();
    let [(_, open), (data_pos, data), (last_pos, _)] = &slots()[..] else {
        panic!("three slots");
    };
    let (data_pos, last_pos) = (*data_pos as usize, *last_pos as usize);
    let open_end = WAL_FILE_HEADER_BYTES + open.bytes.len();
    for (name, bytes, at, from, to, words) in [
        (WAL, &wal[..], 0, 0, 4096, "header"),
        (WAL, &wal, 63, 0, 4096, "header"),
        (WAL, &wal, 700, 64, 4096, "padding"),
        (WAL, &wal, WAL_FILE_HEADER_BYTES, 4096, data_pos, "slots 0 to 0 are damaged or missing"),
        (WAL, &wal, open_end.next_multiple_of(4096) - 1, 4096 + 80, data_pos, "padding"),
        (WAL, &wal, data_pos + 30, data_pos, last_pos, "slots 1 to 1 are damaged or missing"),
        (WAL, &wal, data_pos + data.bytes.len() - 1, data_pos + 408, last_pos, "padding"),
        (UNIT_NAME, UNIT, 30, 0, 78, "a batch's checksum does not match"),
        (UNIT_NAME, UNIT, 147 + 7, 147, 217, "a batch that its run does not have"),
        (UNIT_NAME, UNIT, 217 + 9, 217, 302, "no record batch"),
        (UNIT_NAME, UNIT, 371 + 48, 419, 515, "table"),
        (UNIT_NAME, UNIT, 563 + 2, 563, 699, "table"),
        (UNIT_NAME, UNIT, 699 - 8, 563, 699, "table"),
        ("000000000000002a.ckpt", CHECKPOINT, 70, 0, 160, "CRC"),
        ("000000000000002a.ckpt", CHECKPOINT, 170, 160, 440, "CRC"),
        ("000000000000002a.ckpt", CHECKPOINT, 1030, 1024, 1108, "CRC"),
        ("0000000000000001.wal", &wal, usize::MAX, 0, 4096, "the header of WAL file 7"),
        ("0000000000000001.ckpt", CHECKPOINT, usize::MAX, 0, 64, "the header of checkpoint 42"),
    ] {
        let found = verify(name, bytes, at);
        let [(found_from, found_to, what)] = &found[..] else {
            panic!("one range in {name}, byte {at}: {found:?}");
        };
        assert_eq!((*found_from, *found_to), (from as u64, to as u64), "{name} {at}: {what}");
        assert!(what.contains(words), "{name}, byte {at}: {what}");
    }
}

#[test]
fn what_lies_behind_damage_is_printed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(WAL);
    let mut wal = wal_file();
    let (data_pos, _) = slots()[1];
    wal[data_pos as usize + 100] ^= 1;
    fs::write(&path, wal).unwrap();
    let (damaged, text) = dumped(&path, Format::Text, all(Depth::Runs));
    assert_eq!(damaged, 1);
    assert!(text.contains("slot slot_no=0") && text.contains("slot slot_no=2"), "{text}");
    assert!(text.contains("damage from=8192 to=12288"), "{text}");
}

/// The last slots of a file look as if they had never been written; what follows knows better.
#[test]
fn lost_slots_at_the_end_of_a_file_are_found_by_the_next_one() {
    let folder = folder();
    let mut wal = wal_file();
    let (last_pos, last) = &slots()[2];
    wal[*last_pos as usize + 5] ^= 1;
    fs::write(folder.path().join("wal").join(WAL), &wal).unwrap();
    let header = WalFileHeader {
        incarnation: ME,
        file_no: FileNo(8),
        first_slot: SlotNo(3),
        size: FILE_BYTES,
    };
    let head = SlotHead {
        incarnation: ME,
        slot_no: SlotNo(3),
        prev_crc: last.crc,
        append_ms: UnixMs(1_790_000_000_124),
    };
    let slot = encode_data(&head, &[place((2, 1), 4, b"next")]);
    let mut next = header.encode().to_vec();
    next.extend_from_slice(&slot.bytes);
    next.resize(FILE_BYTES as usize, 0);
    let next_path = folder.path().join("wal/0000000000000008.wal");
    fs::write(&next_path, &next).unwrap();
    fs::remove_dir_all(folder.path().join("ckpt")).unwrap();
    let (damaged, text) = dumped(folder.path(), Format::Text, all(Depth::Verify));
    assert_eq!(damaged, 1);
    let expected = r#"damage from=12288 to=40960 what="slots 2 to 2 are damaged or missing""#;
    assert!(text.contains(expected) && text.matches("damage ").count() == 1, "{text}");

    // The other way round: the last slot is intact, but it is not the one that the next file goes on from.
    fs::write(folder.path().join("wal").join(WAL), wal_file()).unwrap();
    assert_eq!(dumped(folder.path(), Format::Text, all(Depth::Verify)).0, 0);
    let head = SlotHead { prev_crc: 1, ..head };
    let slot = encode_data(&head, &[place((2, 1), 4, b"next")]);
    next[WAL_FILE_HEADER_BYTES..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
    fs::write(&next_path, &next).unwrap();
    let (damaged, text) = dumped(folder.path(), Format::Text, all(Depth::Verify));
    assert!(damaged == 1 && text.contains("the next file does not follow slot 2"), "{text}");
}

#[test]
fn what_a_recycled_file_held_before_is_no_damage() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(WAL);
    let mut wal = wal_file();
    // The same slots again behind the last one, as an older file of the same life would leave them, and a stale footer.
    let used = wal[WAL_FILE_HEADER_BYTES..16_384].to_vec();
    wal[20_480..20_480 + used.len()].copy_from_slice(&used);
    let end = wal.len();
    wal[end - UNIT.len()..].copy_from_slice(UNIT);
    fs::write(&path, wal).unwrap();
    let (damaged, text) = dumped(&path, Format::Text, all(Depth::Verify));
    assert!(damaged == 0 && text.contains("wal_end slots=3"), "{text}");
}

/// A footer that fits in every way but that it is of another incarnation: each counts its slots from 0.
#[test]
fn the_footer_of_a_former_life_is_no_damage() {
    let footer =
        include_bytes!("../../../../cloud-broker/core/log/tests/golden/unit-v1-wal-footer.bin");
    let (first_slot, size) = (SlotNo(3), 16_384);
    let header = WalFileHeader { incarnation: ME, file_no: FileNo(7), first_slot, size };
    let head = |slot_no| SlotHead {
        incarnation: ME,
        slot_no,
        prev_crc: 0,
        append_ms: UnixMs(1_790_000_000_124),
    };
    let data = encode_data(&head(first_slot), &[place((2, 1), 4, b"own")]).bytes;
    let marker = encode_data(&head(first_slot), &[]).bytes;
    for slot in [data, marker] {
        let mut wal = header.encode().to_vec();
        wal.extend_from_slice(&slot);
        wal.resize(size as usize, 0);
        let footer_at = wal.len() - footer.len();
        wal[footer_at..].copy_from_slice(footer);
        assert_eq!(verify(WAL, &wal, usize::MAX), []);
    }
}

/// Consumers are told the broker's time, and see no horizon; who looks into the files wants to.
#[test]
fn a_batch_is_printed_as_the_broker_left_it() {
    let mut stamped = batch(4, b"value");
    wire::record_batch::stamp_append_time(&mut stamped, UnixMs(1_790_000_000_500));
    let keep = [true, true];
    let left = broker_kafka::records::rewrite(&stamped, &keep, Some(UnixMs(1_790_000_000_900)));
    let mut placed = place((2, 1), 4, b"value");
    placed.bytes = left.unwrap().into();
    placed.max_timestamp = UnixMs(1_790_000_000_500);
    placed.flags = RunFlags(RunFlags::LOG_APPEND);
    let head = SlotHead {
        incarnation: ME,
        slot_no: SlotNo(3),
        prev_crc: 0,
        append_ms: UnixMs(1_790_000_000_124),
    };
    let header = WalFileHeader {
        incarnation: ME,
        file_no: FileNo(7),
        first_slot: SlotNo(3),
        size: FILE_BYTES,
    };
    let mut wal = header.encode().to_vec();
    wal.extend_from_slice(&encode_data(&head, &[placed]).bytes);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(WAL);
    fs::write(&path, wal).unwrap();
    let (damaged, text) = dumped(&path, Format::Json, all(Depth::Records));
    assert_eq!(damaged, 0, "{text}");
    assert_eq!(text.matches(r#""timestamp":1790000000500"#).count(), 2, "{text}");
    assert_eq!(text.matches(r#""delete_horizon":1790000000900"#).count(), 1, "{text}");
}

/// Nothing of a unit or a checkpoint, and nothing of a WAL file before its last slot, can change unnoticed.
#[test]
fn every_changed_byte_is_found() {
    let wal = wal_file();
    let slots = slots();
    let in_slot = |at: &usize| {
        let in_one = |(pos, slot): &(u64, EncodedSlot)| {
            (*pos as usize..*pos as usize + slot.bytes.len()).contains(at)
        };
        *at < 64 || slots.iter().any(in_one)
    };
    let last_pos = slots[2].0 as usize;
    // Padding is all the same.
    let of_wal = (0..last_pos).filter(|at| in_slot(at) || at % 101 == 0);
    check_every(UNIT_NAME, UNIT, 0..UNIT.len());
    check_every("000000000000002a.ckpt", CHECKPOINT, 0..CHECKPOINT.len());
    check_every(WAL, &wal, of_wal);
}

fn check_every(name: &str, bytes: &[u8], places: impl Iterator<Item = usize>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    for at in places {
        file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
        let found = damage_in(&path);
        let covers = |(from, to, _): &(u64, u64, String)| (*from..*to).contains(&(at as u64));
        assert!(found.iter().any(covers), "{name}, byte {at}: {found:?}");
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
}

/// Every checksum fits, but the unit was made with other batches in it.
#[test]
fn a_unit_that_does_not_add_up_is_found() {
    let (dir_at, trailer_at) = (563, 635);
    let mut unit = UNIT.to_vec();
    unit[trailer_at + 48] ^= 1;
    let crc = crc32c(&unit[dir_at..trailer_at + 60]);
    unit[trailer_at + 60..].copy_from_slice(&crc.to_le_bytes());
    let expected = (0, 371, "the batches do not add up to the setsum".to_owned());
    assert_eq!(verify(UNIT_NAME, &unit, usize::MAX), [expected]);
}

/// Bytes with the right checksums and impossible content: it says so, and goes on.
#[test]
fn impossible_entries_do_no_harm() {
    let (entry_at, dir_at, trailer_at) = (371, 563, 635);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(UNIT_NAME);
    for field in (0..48).step_by(4) {
        for value in [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let mut unit = UNIT.to_vec();
            unit[entry_at + field..][..4].copy_from_slice(&value.to_le_bytes());
            // The first entry is all that its shard has.
            let crc = crc32c(&unit[entry_at..entry_at + 48]);
            unit[dir_at + 12..][..4].copy_from_slice(&crc.to_le_bytes());
            let crc = crc32c(&unit[dir_at..trailer_at + 60]);
            unit[trailer_at + 60..].copy_from_slice(&crc.to_le_bytes());
            fs::write(&path, &unit).unwrap();
            for depth in [Depth::Verify, Depth::Records] {
                let (damaged, text) = dumped(&path, Format::Text, all(depth));
                let is_changed = unit != UNIT;
                assert_eq!(damaged > 0, is_changed, "{field}, {value}: {text}");
            }
        }
    }
}

/// A slot that is intact, has the right number, and does not follow the one before.
#[test]
fn a_slot_of_another_chain_is_found() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(WAL);
    let mut wal = wal_file();
    let (last_pos, _) = slots()[2];
    let head = SlotHead {
        incarnation: ME,
        slot_no: SlotNo(2),
        prev_crc: 1,
        append_ms: UnixMs(1_790_000_000_123),
    };
    let slot = encode_data(&head, &[place((2, 1), 2, b"other")]);
    wal[last_pos as usize..][..4096].fill(0);
    wal[last_pos as usize..][..slot.bytes.len()].copy_from_slice(&slot.bytes);
    fs::write(&path, wal).unwrap();
    let (damaged, text) = dumped(&path, Format::Text, all(Depth::Verify));
    let expected = r#"damage from=12288 to=16384 what="slot 2 does not follow the one before""#;
    assert!(damaged == 1 && text.contains(expected), "{text}");
}
