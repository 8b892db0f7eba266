use bytes::Bytes;
use wire::ids::{Lane, Partition, ProducerId, QueueId, Tag, TopicId};
use wire::seq::{DeviceSeq, StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::StreamKey;

use super::*;
use crate::spool::RowNo;
use crate::spool::segment::SegmentWriter;
use crate::uplink::window::BatchNo;

const RECEIVED: UnixMs = UnixMs(1_700_000_000_000);

fn row(device_time: Option<DeviceTime>) -> Row {
    Row {
        received: RECEIVED,
        device: Bytes::from_static(b"dev1"),
        topic: Bytes::from_static(b"t"),
        sequence: None,
        device_time,
        maybe_dup: false,
        properties: Vec::new(),
        payload: Bytes::from_static(b"1"),
    }
}

fn batch_of(backfill: bool) -> Batch {
    let (pid, topic) = (ProducerId::UPLINK_MIN, TopicId([1; 16]));
    Batch {
        number: BatchNo(0),
        lane: Lane::Live,
        stream: StreamKey { pid, topic, partition: Partition(0) },
        partitions: 1,
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::ZERO,
        count: 1,
        prev_tag: Tag::NIL,
        tag: Tag(1),
        from: RowNo(1),
        to: RowNo(2),
        backfill,
    }
}

/// The headers that `row` gets, as text, and its record's bytes.
fn record(row: &Row, backfill: bool, gateway: &str) -> (String, usize) {
    let mut builder = RecordBatchBuilder::new();
    push(&mut builder, row, &batch_of(backfill), &GatewayId::new(gateway).unwrap());
    let mut rest = builder.records();
    let len = rest.len();
    varint(&mut rest);
    rest = &rest[1..];
    assert_eq!((varint(&mut rest), varint(&mut rest)), (0, 0), "the first record of its batch");
    let (_key, _value) = (bytes(&mut rest), bytes(&mut rest));
    let mut headers = Vec::new();
    for _ in 0..varint(&mut rest) {
        let (name, value) = (bytes(&mut rest), bytes(&mut rest));
        headers.push(format!("{name}={value}"));
    }
    assert!(rest.is_empty());
    (headers.join(" "), len)
}

fn varint(rest: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    while let [byte, after @ ..] = *rest {
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn bytes(rest: &mut &[u8]) -> String {
    let len = usize::try_from(varint(rest)).unwrap();
    let (bytes, after) = rest.split_at(len);
    *rest = after;
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn headers_are_those_of_the_contract_in_its_order() {
    let plain = "mqtt.topic=t culvert.gateway=g1";
    let measured = DeviceTime::Measured(UnixMs(1_600_000_000_000));
    for (time, expected) in [
        (None, plain.to_owned()),
        (Some(measured), plain.to_owned()),
        (Some(DeviceTime::Implausible(-1)), format!("{plain} culvert.device_time=-1")),
        (
            Some(DeviceTime::Uptime(61_000)),
            format!("{plain} culvert.device_time=61000 culvert.clock=uptime"),
        ),
    ] {
        assert_eq!(record(&row(time), false, "g1").0, expected);
    }
    let full = Row {
        sequence: Some((QueueId(7), DeviceSeq(8))),
        maybe_dup: true,
        properties: vec![(Bytes::from_static(b"site"), Bytes::from_static(b"north"))],
        ..row(Some(DeviceTime::Uptime(5)))
    };
    let expected = "mqtt.topic=t culvert.gateway=g1 culvert.queue=7 culvert.seq=8 \
                    culvert.device_time=5 culvert.clock=uptime culvert.backfill=true \
                    culvert.maybe_dup=true site=north";
    assert_eq!(record(&full, true, "g1").0, expected);
    let own = Row { topic: Bytes::new(), ..row(None) };
    assert_eq!(record(&own, false, "g1").0, "culvert.gateway=g1");
}

#[test]
fn the_timestamp_is_that_of_the_row() {
    let gateway = GatewayId::new("g1").unwrap();
    let measured = DeviceTime::Measured(UnixMs(1_600_000_000_000));
    for (time, expected) in
        [(Some(measured), 1_600_000_000_000), (Some(DeviceTime::Uptime(5)), RECEIVED.0)]
    {
        let rows = Rows { rows: vec![row(time)] };
        let built = rows.build(&batch_of(false), &gateway).unwrap();
        assert_eq!(built[27..35], i64::to_be_bytes(expected), "base timestamp");
    }
}

/// The limit that the compile-time checks rest on.
#[test]
fn a_record_takes_little_more_than_its_row() {
    let gateway = "g".repeat(GatewayId::LEN_MAX);
    // Kafka's lengths take two bytes from 64 on, a row's from 128.
    let text = Bytes::from(vec![b'x'; 100]);
    let properties = vec![(text.clone(), text); 64];
    for properties in [Vec::new(), properties] {
        let row = Row {
            sequence: Some((QueueId(u64::MAX), DeviceSeq(u64::MAX))),
            maybe_dup: true,
            properties,
            ..row(Some(DeviceTime::Uptime(i64::MIN)))
        };
        let mut writer = SegmentWriter::new(Lane::Live, RowNo::FIRST);
        writer.push(&row);
        let (_, len) = record(&row, true, &gateway);
        assert!(len <= record_bytes_max(1, writer.bytes()), "{len} bytes");
    }
}
