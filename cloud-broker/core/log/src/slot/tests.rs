use wire::ids::{Incarnation, Partition};
use wire::offset::{LeaderEpoch, Offset};
use wire::time::UnixMs;

use bytes::Bytes;

use super::*;
use crate::ids::{PartitionKey, TopicNo};

fn head() -> SlotHead {
    SlotHead {
        incarnation: Incarnation([1; 16]),
        slot_no: SlotNo(5),
        prev_crc: 77,
        append_ms: UnixMs(123),
    }
}

fn expected() -> ExpectedSlot {
    ExpectedSlot { incarnation: Incarnation([1; 16]), slot_no: SlotNo(5), prev_crc: 77 }
}

/// A batch to place whose bytes are not looked into.
fn to_place(partition: u32, base: i64, flags: u16) -> BatchToPlace {
    BatchToPlace {
        key: PartitionKey { topic_no: TopicNo(0), partition: Partition(partition) },
        leader_epoch: LeaderEpoch(2),
        base_offset: Offset(base),
        last_offset: Offset(base),
        max_timestamp: UnixMs(base),
        flags: RunFlags(flags),
        bytes: Bytes::from(vec![partition as u8; 61]),
        uplink: None,
    }
}

fn sample() -> EncodedSlot {
    encode_data(&head(), &[to_place(2, 0, 0), to_place(1, 8, 0), to_place(2, 1, 0)])
}

#[test]
fn any_flipped_bit_is_seen() {
    let slot = sample();
    let used = SlotHeader::parse(&slot.bytes).unwrap().total_len;
    assert!(Slot::decode(&slot.bytes, &expected()).is_ok());
    for bit in 0..used * 8 {
        let mut bad = slot.bytes.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Slot::decode(&bad, &expected()).is_err(), "bit {bit}");
    }
    for len in 0..used {
        assert!(Slot::decode(&slot.bytes[..len], &expected()).is_err());
    }
}

#[test]
fn an_intact_slot_of_another_place_is_stale() {
    let slot = sample();
    for other in [
        ExpectedSlot { incarnation: Incarnation([2; 16]), ..expected() },
        ExpectedSlot { slot_no: SlotNo(6), ..expected() },
        ExpectedSlot { prev_crc: 78, ..expected() },
    ] {
        assert_eq!(Slot::decode(&slot.bytes, &other), Err(SlotError::Stale));
    }
}

#[test]
fn runs_are_sorted_and_split_where_batches_differ() {
    let mut batches = vec![
        to_place(2, 0, 0),
        to_place(1, 8, 0),
        to_place(2, 1, RunFlags::CONTROL),
        to_place(2, 2, RunFlags::CONTROL),
    ];
    batches.push(BatchToPlace { leader_epoch: LeaderEpoch(3), ..to_place(1, 9, 0) });
    let slot = encode_data(&head(), &batches);
    let runs: Vec<_> = slot
        .runs
        .iter()
        .map(|r| (r.key.partition.0, r.base_offset.0, r.last_offset.0, r.batches))
        .collect();
    assert_eq!(runs, [(1, 8, 8, 1), (1, 9, 9, 1), (2, 0, 0, 1), (2, 1, 2, 2)]);
    assert!(Slot::decode(&slot.bytes, &expected()).is_ok());
}

#[test]
fn a_run_holds_no_more_batches_than_its_field_can_say() {
    let batches: Vec<_> = (0..70_000).map(|base| to_place(0, base, 0)).collect();
    let slot = encode_data(&head(), &batches);
    let counts: Vec<_> = slot.runs.iter().map(|r| r.batches).collect();
    assert_eq!(counts, [u16::MAX, 4_465]);
    assert!(Slot::decode(&slot.bytes, &expected()).is_ok());
}

#[test]
fn every_control_body_reads_back_and_no_other_length_does() {
    for body in [
        ControlBody::Open(Open::default()),
        ControlBody::Open(Open {
            predecessors: vec![
                Predecessor { incarnation: Incarnation([3; 16]), end: SlotNo(9) };
                2
            ],
            shards: vec![ShardEpoch { shard: 1, epoch: 2 }; 3],
        }),
        ControlBody::Release { shard: 12 },
        ControlBody::Seal { by: Incarnation([4; 16]) },
    ] {
        let slot = encode_control(&head(), &body);
        let decoded = Slot::decode(&slot.bytes, &expected()).unwrap();
        assert_eq!(decoded.body, SlotBody::Control(body.clone()));
        let bytes = body.encode();
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(ControlBody::decode(body.kind(), &longer), None);
        let shorter = &bytes[..bytes.len() - 1];
        assert_eq!(ControlBody::decode(body.kind(), shorter), None);
    }
    assert_eq!(ControlBody::decode(9, &[]), None);
    assert_eq!(ControlBody::decode(KIND_OPEN, &[0xff; 8]), None);
}

/// Slots whose CRC is right but that no version of this program writes.
#[test]
fn contradictions_are_refused() {
    let good = sample().bytes;
    let run = |i: usize| SLOT_HEADER_BYTES + i * RUN_ENTRY_BYTES;
    // Byte, value, what it says then.
    let cases = [
        (6, KIND_OPEN, SlotError::Layout, "an OPEN with runs"),
        (6, 9, SlotError::Layout, "an unknown kind"),
        (36, 200, SlotError::Layout, "more runs than fit"),
        (36, 1, SlotError::Layout, "fewer runs than are there"),
        (44, 200, SlotError::Layout, "more uplink entries than fit"),
        (4, 2, SlotError::Version(2), "a later version"),
        (run(0) + 12, 0, SlotError::Layout, "a run elsewhere"),
        (run(0) + 16, 60, SlotError::Layout, "a run that ends early"),
        (run(0) + 20, 0, SlotError::Layout, "a run without batches"),
        (run(0) + 24, 9, SlotError::Layout, "a base behind the last"),
        (run(0) + 4, 3, SlotError::Layout, "runs out of order"),
    ];
    for (at, value, error, what) in cases {
        let mut bad = good.to_vec();
        bad[at] = value;
        let total_len = SlotHeader::parse(&bad).unwrap().total_len;
        let crc = crc_of(&bad[..total_len]);
        bad[CRC_AT..SLOT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Slot::decode(&bad, &expected()), Err(error), "{what}");
    }
}
