use bytes::BytesMut;
use kafka_protocol::messages::{
    ApiKey as OracleKey, RequestHeader as OracleRequestHeader,
    ResponseHeader as OracleResponseHeader,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};

use super::*;
use crate::error_code::ErrorCode;
use crate::generated::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::generated::produce::ProduceRequest;
use crate::versions::{self, ADVERTISED};

/// A request frame without its length: header with client id "c", then `body`.
fn framed(api_key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&api_key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 7, 0, 1, b'c']);
    if flexible {
        frame.extend_from_slice(&[0]);
    }
    frame.extend_from_slice(body);
    frame.freeze()
}

fn parse(frame: &Bytes) -> Result<Incoming, FrameError> {
    parse_request(frame, decode_budget(frame.len()))
}

fn error_of(frame: &Bytes) -> WireError {
    match parse(frame) {
        Err(FrameError::Malformed { error, .. }) => error,
        other => panic!("{frame:?} gave {other:?}"),
    }
}

#[test]
fn lengths_are_checked_before_the_bytes_come() {
    use Stage::{Anonymous, Authenticated};
    let produce_bytes_max = 8 << 20;
    for (length, api_key, stage, limit) in [
        (8 << 20, 0, Authenticated, 8 << 20),
        (1 << 20, 3, Authenticated, 1 << 20),
        (64 << 10, 0, Anonymous, 64 << 10),
        (64 << 10, 18, Anonymous, 64 << 10),
        (1 << 20, -1, Authenticated, 1 << 20),
    ] {
        let [a, b] = i16::to_be_bytes(api_key);
        let head = |length: i32| {
            let [p, q, r, s] = length.to_be_bytes();
            [p, q, r, s, a, b]
        };
        let at_most = frame_length(head(length), stage, produce_bytes_max);
        assert_eq!(at_most, Ok(limit), "{api_key} {stage:?}");
        let too_long = FrameError::TooLong { api_key, length: limit + 1, limit };
        let beyond = frame_length(head(length + 1), stage, produce_bytes_max);
        assert_eq!(beyond, Err(too_long));
        for length in [i32::MIN, -1, 0, 9] {
            let short = frame_length(head(length), stage, produce_bytes_max);
            assert_eq!(short, Err(FrameError::TooShort { length }));
        }
        assert_eq!(frame_length(head(10), stage, produce_bytes_max), Ok(10));
    }
    let beyond_ceiling = [0x06, 0x40, 0, 1, 0, 0];
    assert!(frame_length(beyond_ceiling, Authenticated, usize::MAX).is_err());
}

#[test]
fn budgets_grow_with_the_frame_up_to_the_ceiling() {
    for (frame_bytes, budget) in
        [(0, 64 << 10), (1_000, 32_000 + (64 << 10)), (100 << 20, 16 << 20), (usize::MAX, 16 << 20)]
    {
        assert_eq!(decode_budget(frame_bytes), budget);
    }
}

/// A request or response of this API whose fields have their defaults.
macro_rules! of_default {
    ($side:ident, $api:expr) => {
        of_default!($side, $api; AlterConfigs ApiVersions CreatePartitions CreateTopics DeleteGroups DeleteRecords DeleteTopics DescribeConfigs DescribeGroups DescribeLogDirs Fetch FindCoordinator Heartbeat IncrementalAlterConfigs InitProducerId JoinGroup LeaveGroup ListGroups ListOffsets Metadata OffsetCommit OffsetDelete OffsetFetch OffsetForLeaderEpoch Produce SyncGroup)
    };
    ($side:ident, $api:expr; $($name:ident)*) => {
        match $api { $(ApiKey::$name => $side::$name(Default::default()),)* }
    };
}

#[test]
fn headers_agree_with_the_oracle() {
    for range in ADVERTISED {
        for version in range.first.max(range.api.schema().first)..=range.last {
            let key = OracleKey::try_from(range.api as i16).unwrap();
            let request = of_default!(Request, range.api);
            for client_id in [None, Some("culvert")] {
                let header = RequestHeader {
                    api: range.api,
                    version,
                    correlation_id: -5,
                    client_id: client_id.map(Text::from),
                };
                let frame = Bytes::from(encode_request(&header, &request).unwrap().concat());
                let mut theirs = BytesMut::new();
                OracleRequestHeader::default()
                    .with_request_api_key(range.api as i16)
                    .with_request_api_version(version)
                    .with_correlation_id(-5)
                    .with_client_id(client_id.map(StrBytes::from_static_str))
                    .encode(&mut theirs, key.request_header_version(version))
                    .unwrap();
                assert_eq!(frame[4..][..theirs.len()], theirs, "{key:?} v{version}");
                let incoming = parse(&frame.slice(4..)).unwrap();
                assert_eq!(incoming, Incoming::Request(header, request.clone()));
            }
        }
    }
}

#[test]
fn responses_have_the_header_that_clients_expect() {
    for range in ADVERTISED {
        let schema = range.api.schema();
        for version in schema.first..=schema.last {
            let response = match range.api {
                ApiKey::ApiVersions => versions::api_versions(ErrorCode::None).into(),
                api => of_default!(Response, api),
            };
            let chunks = encode_response(41, version, &response).unwrap();
            let mut frame = Bytes::from(chunks.concat());
            let length = frame.split_to(4);
            assert_eq!(length[..], (frame.len() as i32).to_be_bytes());
            let read = parse_response(&frame, 1 << 16, range.api, version);
            assert_eq!(read, Ok((41, response)));

            let key = OracleKey::try_from(range.api as i16).unwrap();
            let header_version = key.response_header_version(version);
            let header = OracleResponseHeader::decode(&mut frame, header_version).unwrap();
            assert_eq!(header.correlation_id, 41);
            let body = kafka_protocol::messages::ResponseKind::decode(key, &mut frame, version);
            assert!(body.is_ok() && frame.is_empty(), "{key:?} v{version}");
        }
    }
}

#[test]
fn unknown_versions_of_api_versions_get_an_answer_in_version_0() {
    // Version 4 is the newest; newer ones may put anything behind the client id.
    for version in [-1, 5, 99, i16::MAX] {
        let frame = framed(18, version, true, b"\xff\xffwhatever");
        let Ok(Incoming::ApiVersionsUnknown(header)) = parse(&frame) else {
            panic!("version {version}");
        };
        assert_eq!((header.correlation_id, header.version), (7, version));
        assert_eq!(header.client_id, Some(Text::from("c")));
    }
    let body = versions::api_versions(ErrorCode::UnsupportedVersion);
    let frame = encode_response(7, 0, &body.into()).unwrap().concat();
    // Correlation id, error 35, and each API in six bytes: no throttle time, no tagged fields.
    let apis = u8::try_from(ADVERTISED.len()).unwrap();
    let length = 10 + 6 * apis;
    assert_eq!(frame[..14], [0, 0, 0, length, 0, 0, 0, 7, 0, 35, 0, 0, 0, apis]);
    assert_eq!(frame.len(), 4 + usize::from(length));
}

#[test]
fn what_is_not_served_is_told_apart_from_what_is_malformed() {
    for (api_key, version) in [(0, 2), (0, 14), (1, 3), (1, 19), (2, 0), (3, -1), (4, 0), (-1, 0)] {
        let frame = framed(api_key, version, false, &[0; 64]);
        assert_eq!(parse(&frame), Err(FrameError::Unsupported { api_key, version }));
    }
    let all_topics = framed(3, 4, false, &[0xff, 0xff, 0xff, 0xff, 1]);
    let Ok(Incoming::Request(_, Request::Metadata(request))) = parse(&all_topics) else {
        panic!("a good request");
    };
    assert_eq!(request.topics, None);
    for end in 4..all_topics.len() {
        assert_eq!(error_of(&all_topics.slice(..end)), WireError::End);
    }
    for end in 0..4 {
        let short = FrameError::TooShort { length: end as i32 };
        assert_eq!(parse(&all_topics.slice(..end)), Err(short));
    }
    // As librdkafka 2.16 asks for all topics: the count takes one byte, and three more of it are there.
    let longer = framed(3, 13, true, &[0, 0, 0, 0, 0, 0, 0]);
    let Ok(Incoming::Request(_, Request::Metadata(request))) = parse(&longer) else {
        panic!("a request that Kafka takes");
    };
    assert_eq!(request.topics, None);
}

#[test]
fn counts_that_cannot_be_are_refused_before_memory_is_taken() {
    // A body of five bytes that names 4,294,967,294 topics.
    let bomb = framed(3, 12, true, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(error_of(&bomb), WireError::Length);
    // As many topics as bytes: more memory than such a frame is worth.
    let topics = 400_000_u32;
    let mut body = vec![0; topics as usize * 2 + 16];
    body[..3].copy_from_slice(&[0x81, 0xb5, 0x18]);
    assert_eq!(error_of(&framed(3, 9, true, &body)), WireError::Budget);
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    // Metadata v0: topics; v9: the name of a topic, which is nullable from 10 on; Produce v3: the topics.
    for frame in [
        framed(3, 0, false, &[0xff, 0xff, 0xff, 0xff]),
        framed(3, 9, true, &[2, 0, 0, 1, 0, 0, 0]),
        framed(0, 3, false, b"\xff\xff\0\x01\0\0\0\0\xff\xff\xff\xff"),
    ] {
        assert_eq!(error_of(&frame), WireError::Null);
    }
    let by_id = |version, flags: &[u8]| {
        let body = [&[2][..], &[5; 16], &[0, 0, 1], flags, &[0]].concat();
        parse(&framed(3, version, true, &body)).is_ok()
    };
    assert!(by_id(10, &[0, 0]) && by_id(12, &[0]));

    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: None, ..MetadataRequestTopic::default() }]),
        ..MetadataRequest::default()
    };
    let write = |version| request.write(&mut Writer::default(), version);
    assert_eq!(write(9), Err(WireError::Null));
    assert_eq!(write(10), Ok(()));
}

#[test]
fn what_a_version_cannot_carry_is_not_dropped_silently() {
    let header =
        RequestHeader { api: ApiKey::Metadata, version: 3, correlation_id: 0, client_id: None };
    let request =
        MetadataRequest { allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let encoded = encode_request(&header, &request.into());
    assert_eq!(encoded, Err(WireError::Version));
    // Nor is a header sent with another API's body.
    let encoded = encode_request(&header, &ProduceRequest::default().into());
    assert_eq!(encoded, Err(WireError::Version));
}
