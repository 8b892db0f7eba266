//! Damaged and random bytes: nothing panics, and nothing takes more memory than its budget.

use broker_kafka::frame::{
    FrameError, Incoming, RequestHeader, decode_budget, encode_request, parse_request,
};
use broker_kafka::generated::metadata::MetadataRequestTopic;
use broker_kafka::runtime::{ARRAY_BYTES, Bytes, Reader, WireError, Writer};
use broker_kafka::versions::is_served;
use broker_kafka::{ApiKey, Request};

use crate::invent::{BUDGET, Message, Random, Side, message};

const MUTATIONS: usize = 200_000;
const RANDOM_FRAMES: usize = 50_000;

/// Frames (without their length) of invented requests: a few of every version of every API that is served.
fn good_frames(random: &mut Random) -> Vec<Bytes> {
    let mut frames = Vec::new();
    for &api in ApiKey::ALL {
        let schema = api.schema();
        for version in (schema.first..=schema.last).filter(|&v| is_served(api, v)) {
            for len in [20, 60, 120] {
                let Message::Request(request) = message(random, Side::Request, api, version, len)
                else {
                    unreachable!("a request was asked for");
                };
                let header = RequestHeader {
                    api,
                    version,
                    correlation_id: 1,
                    client_id: Some("client".into()),
                };
                let chunks = encode_request(&header, &request).unwrap();
                frames.push(Bytes::from(chunks.concat()).slice(4..));
            }
        }
    }
    frames
}

#[test]
fn damaged_requests_are_refused_or_read() {
    let mut random = Random::new(11);
    let frames = good_frames(&mut random);
    for frame in &frames {
        let incoming = parse_request(frame, decode_budget(frame.len()));
        assert!(matches!(incoming, Ok(Incoming::Request(..))), "{incoming:?}");
    }
    let (mut read, mut malformed, mut unsupported) = (0, 0, 0);
    for _ in 0..MUTATIONS {
        let mut frame = frames[random.below(frames.len())].to_vec();
        match random.below(8) {
            0 => frame.truncate(random.below(frame.len())),
            1 => {
                let at = random.below(frame.len());
                frame.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]);
            }
            _ => {
                for _ in 0..=random.below(3) {
                    let at = random.below(frame.len());
                    frame[at] = random.byte();
                }
            }
        }
        let frame = Bytes::from(frame);
        match parse_request(&frame, decode_budget(frame.len())) {
            Ok(_) => read += 1,
            Err(FrameError::Unsupported { .. }) => unsupported += 1,
            Err(_) => malformed += 1,
        }
    }
    // All three happen often, or the mutations test nothing.
    let least = MUTATIONS / 100;
    assert!(
        read > least && malformed > least && unsupported > least,
        "{read} {malformed} {unsupported}"
    );
}

#[test]
fn random_bytes_are_refused_or_read_as_any_message() {
    let mut random = Random::new(12);
    for _ in 0..RANDOM_FRAMES {
        let len = random.below(200);
        let frame: Bytes = (0..len).map(|_| random.byte()).collect();
        let api = ApiKey::ALL[random.below(ApiKey::ALL.len())];
        let schema = api.schema();
        let version = schema.first + random.below((schema.last - schema.first + 1) as usize) as i16;
        let side = Side::BOTH[random.below(2)];
        let mut reader = Reader::new(&frame, BUDGET);
        if let Ok(read) = side.read(api, &mut reader, version) {
            // What was read can be written again, in the same version.
            let mut w = Writer::default();
            let written = match read {
                Message::Request(request) => request.write(&mut w, version),
                Message::Response(response) => response.write(&mut w, version),
            };
            assert_eq!(written, Ok(()), "{api:?} v{version} {frame:?}");
        }
    }
}

#[test]
fn a_message_takes_its_budget_and_no_more() {
    let mut random = Random::new(13);
    let mut charged = 0;
    for frame in good_frames(&mut random) {
        let read = |budget| parse_request(&frame, budget);
        let Ok(Incoming::Request(header, request)) = read(BUDGET) else {
            panic!("a good frame");
        };
        let spent = spent_on(&request, header.version);
        assert!(read(spent).is_ok());
        if let Some(less) = spent.checked_sub(1) {
            charged += 1;
            let error = WireError::Budget;
            assert!(
                matches!(read(less), Err(FrameError::Malformed { error: e, .. }) if e == error)
            );
        }
    }
    assert!(charged > 50, "{charged}");
}

/// What reading the body of a request takes of a budget.
fn spent_on(request: &Request, version: i16) -> usize {
    let mut w = Writer::default();
    request.write(&mut w, version).unwrap();
    let body = Bytes::from(w.into_chunks().concat());
    let mut reader = Reader::new(&body, BUDGET);
    let read = Request::read(request.api(), &mut reader, version).unwrap();
    let spent = BUDGET - reader.budget_left();
    if let Request::Metadata(metadata) = read {
        let topics = metadata.topics.map(|topics| topics.len());
        let expected = topics.map(|n| n * size_of::<MetadataRequestTopic>() + ARRAY_BYTES);
        assert_eq!(spent, expected.unwrap_or(0));
    }
    spent
}
