//! The `kafka-protocol` crate is generated from the same definitions by other people: both must agree byte for byte.

use broker_kafka::generated::ApiKey;
use broker_kafka::records::Records;
use broker_kafka::runtime::{Bytes, Reader, Writer};
use bytes::BytesMut;
use kafka_protocol::messages::{ApiKey as OracleKey, RequestKind, ResponseKind};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::invent::{BUDGET, Message, Random, Side, message};

const MESSAGES_PER_VERSION: u64 = 40;

#[test]
fn every_version_of_every_message_agrees_with_the_oracle() {
    let mut compared = 0_u64;
    let mut longest = 0;
    for &api in ApiKey::ALL {
        let schema = api.schema();
        // The oracle leaves out versions that are still unstable.
        for version in schema.first..=schema.stable_last {
            for side in Side::BOTH {
                for seed in 0..MESSAGES_PER_VERSION {
                    let mut random = Random::new(seed << 16 | api as u64);
                    let len = 8 + random.below(150);
                    let invented = message(&mut random, side, api, version, len);
                    let ours = encode(&invented, version);
                    let what = format!("{api:?} v{version} {side:?} seed {seed}: {invented:?}");
                    longest = longest.max(ours.len());
                    assert_eq!(decode(&ours, side, api, version), invented, "{what}");
                    let theirs = through_oracle(&ours, side, api, version, &what);
                    assert_eq!(theirs, ours, "{what}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 2 * MESSAGES_PER_VERSION * 45, "{compared}");
    assert!(longest > 300, "{longest}");
}

#[test]
fn batches_of_the_oracle_are_walked() {
    let mut written = Vec::new();
    for at in 0..9_i32 {
        let mut record = Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 3,
            producer_id: 77,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(at),
            sequence: at,
            timestamp: 1_700_000_000_000 - i64::from(at % 4) * 100_000,
            key: (at % 2 == 0).then(|| Bytes::from_static(b"key")),
            value: (at % 3 == 0).then(|| vec![b'v'; 100 * at as usize].into()),
            headers: Default::default(),
        };
        let value = (at % 2 == 0).then(|| Bytes::from_static(b"x"));
        record.headers.insert(StrBytes::from_static_str("h"), value);
        written.push(record);
    }
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &written, &options).unwrap();

    let mut records = Records::new(&batch).unwrap();
    let header = *records.header();
    header.check_crc(&batch).unwrap();
    assert_eq!(header.producer_id.0, 77);
    for expected in &written {
        let record = records.next_record().unwrap().unwrap();
        assert_eq!(i64::from(record.offset_delta), expected.offset);
        assert_eq!(record.key, expected.key.as_deref());
        assert_eq!(record.value, expected.value.as_deref());
        let headers: Vec<_> = record.headers.collect();
        let value = expected.headers[0].as_deref();
        assert_eq!(headers, [("h", value)]);
        let delta = record.timestamp_delta;
        assert_eq!(records.timestamp(delta).0, expected.timestamp);
    }
    assert_eq!(records.next_record(), Ok(None));
}

fn encode(message: &Message, version: i16) -> Bytes {
    let mut w = Writer::default();
    match message {
        Message::Request(request) => request.write(&mut w, version).unwrap(),
        Message::Response(response) => response.write(&mut w, version).unwrap(),
    }
    w.into_chunks().concat().into()
}

fn decode(frame: &Bytes, side: Side, api: ApiKey, version: i16) -> Message {
    let mut reader = Reader::new(frame, BUDGET);
    let message = side.read(api, &mut reader, version).unwrap();
    reader.finish().unwrap();
    message
}

/// What the oracle writes after reading `frame`.
fn through_oracle(frame: &Bytes, side: Side, api: ApiKey, version: i16, what: &str) -> Bytes {
    let key = OracleKey::try_from(api as i16).unwrap();
    let mut rest = frame.clone();
    let mut out = BytesMut::new();
    let written = match side {
        Side::Request => RequestKind::decode(key, &mut rest, version)
            .unwrap_or_else(|error| panic!("{error} {what}"))
            .encode(&mut out, version),
        Side::Response => ResponseKind::decode(key, &mut rest, version)
            .unwrap_or_else(|error| panic!("{error} {what}"))
            .encode(&mut out, version),
    };
    written.unwrap_or_else(|error| panic!("{error} {what}"));
    assert!(rest.is_empty(), "the oracle left bytes: {what}");
    out.freeze()
}
