//! The WAL's bytes as docs/formats/wal.md describes them, held still.

use bytes::Bytes;
use wire::ids::{Incarnation, ProducerId, Tag};
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use broker_log::{
    ALL_SHARDS, BatchToPlace, ControlBody, ExpectedSlot, FileNo, Open, Predecessor, RunFlags,
    ShardEpoch, Slot, SlotBody, SlotHead, SlotNo, UplinkAppend, UplinkStream, WalFileHeader,
    encode_control, encode_data,
};

use crate::batches::{batch_of, key};

const ME: Incarnation = Incarnation([
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
]);

fn head(slot_no: u64, prev_crc: u32) -> SlotHead {
    SlotHead {
        incarnation: ME,
        slot_no: SlotNo(slot_no),
        prev_crc,
        append_ms: UnixMs(1_790_000_000_123),
    }
}

fn expected(head: &SlotHead) -> ExpectedSlot {
    ExpectedSlot { incarnation: head.incarnation, slot_no: head.slot_no, prev_crc: head.prev_crc }
}

#[test]
fn a_file_header() {
    let golden = include_bytes!("../golden/wal-v1-file-header.bin");
    let header = WalFileHeader {
        incarnation: ME,
        file_no: FileNo(7),
        first_slot: SlotNo(0x0102_0304),
        size: 128 << 20,
    };
    assert_eq!(header.encode(), *golden);
    assert_eq!(WalFileHeader::decode(golden), Ok(header));
}

#[test]
fn an_open_slot() {
    let golden = include_bytes!("../golden/wal-v1-open.bin");
    let open = ControlBody::Open(Open {
        predecessors: vec![Predecessor {
            incarnation: Incarnation([0xee; 16]),
            end: SlotNo(0x0a0b),
        }],
        shards: vec![ShardEpoch { shard: ALL_SHARDS, epoch: 3 }],
    });
    let head = head(0, 0);
    assert_eq!(encode_control(&head, &open).bytes, golden[..]);
    let slot = Slot::decode(golden, &expected(&head)).unwrap();
    assert_eq!(slot.body, SlotBody::Control(open));
}

#[test]
fn a_data_slot_with_an_uplink_entry() {
    let golden = include_bytes!("../golden/wal-v1-data.bin");
    let stream = UplinkStream { pid: ProducerId(ProducerId::UPLINK_MIN.0 + 0x55), key: key(2, 1) };
    let append = UplinkAppend {
        stream,
        epoch: StreamEpoch(4),
        base: StreamSeq::new(0x0102).unwrap(),
        count: 2,
        prev_tag: Tag(0xaaaa),
        tag: Tag(0xbbbb),
    };
    let producer = BatchProducer { id: stream.pid, epoch: append.epoch, base: append.base };
    let place = |key, base, records: i64, bytes: Bytes, uplink| BatchToPlace {
        key,
        leader_epoch: LeaderEpoch(3),
        base_offset: Offset(base),
        last_offset: Offset(base + records - 1),
        max_timestamp: UnixMs(1_000),
        flags: RunFlags::default(),
        bytes,
        uplink,
    };
    let kafkas =
        BatchProducer { id: ProducerId(7), epoch: StreamEpoch::FIRST, base: StreamSeq::ZERO };
    let batch = |name| batch_of(kafkas, name, 1, 8, 1_000);
    let head = head(9, 0xdead_beef);
    let slot = encode_data(
        &head,
        &[
            place(key(2, 1), 40, 1, batch(1), None),
            place(key(0, 6), 7, 1, batch(2), None),
            place(key(2, 1), 41, 2, batch_of(producer, 3, 2, 16, 1_000), Some(append)),
        ],
    );
    assert_eq!(slot.bytes, golden[..]);
    let decoded = Slot::decode(golden, &expected(&head)).unwrap();
    assert_eq!(decoded.header.crc, slot.crc);
    let body = SlotBody::Data { runs: slot.runs.clone(), uplinks: slot.uplinks.clone() };
    assert_eq!(decoded.body, body);
    let [first, second] = &slot.runs[..] else {
        panic!("two partitions, two runs");
    };
    assert_eq!((first.key, first.batches), (key(0, 6), 1));
    assert_eq!((second.key, second.batches), (key(2, 1), 2));
    let [uplink] = &slot.uplinks[..] else {
        panic!("one uplink batch");
    };
    assert_eq!(uplink.append, append);
    assert_eq!(u64::from(uplink.pos), u64::from(second.pos) + batch(1).len() as u64);
}
