use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::ids::{Incarnation, Partition, ProducerId, SpoolId, Tag, TopicId};
use crate::limits::UPLINK_FRAME_BYTES_MAX;
use crate::seq::{StreamEpoch, StreamSeq};
use crate::time::UnixMs;

fn stream() -> StreamKey {
    StreamKey {
        pid: ProducerId(ProducerId::UPLINK_MIN.0 + 5),
        topic: TopicId([9; 16]),
        partition: Partition(300),
    }
}

fn state() -> State {
    let at =
        |last| StreamState { epoch: StreamEpoch(2), last: StreamSeq::new(last), tag: Tag(0xfeed) };
    State { stream: stream(), answers: Tag(0xbeef), state: Some(at(41)), previous: Some(at(-1)) }
}

macro_rules! golden {
    ($name:literal, $frame:expr) => {
        ($name, include_bytes!(concat!("../../tests/golden/uplink-v1-", $name, ".bin")), $frame)
    };
}

type Golden = (&'static str, &'static [u8], Frame<'static>);

/// Every frame with the file that holds its bytes.
fn golden() -> Vec<Golden> {
    let mut all = handshake();
    all.extend(flow());
    all
}

fn handshake() -> Vec<Golden> {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        gateway: "plant-1",
        spool: SpoolId([3; 16]),
        topics: vec!["telemetry", "culvert.gateways"],
        streams: vec![stream()],
    };
    let welcome = Welcome {
        version: 1,
        broker: Incarnation([4; 16]),
        time: UnixMs(1_700_000_000_000),
        profile: Profile::Single,
        frames_in_flight: 64,
        bytes_in_flight: 16 << 20,
        shards: 1024,
        topics: vec![TopicInfo { name: "telemetry", id: TopicId([9; 16]), partitions: 12 }],
        states: vec![(stream(), StreamState::UNKNOWN)],
    };
    vec![
        golden!("hello", Frame::Hello(hello)),
        golden!("welcome", Frame::Welcome(welcome)),
        golden!("goodbye", Frame::Goodbye(GoodbyeReason::Stopping, "restart")),
    ]
}

fn flow() -> Vec<Golden> {
    let append = Append {
        stream: stream(),
        epoch: StreamEpoch(2),
        base: StreamSeq::new(42).unwrap(),
        count: 3,
        prev_tag: Tag(0xfeed),
        tag: Tag(0xbeef),
        batch: b"not looked into here",
    };
    let refused =
        Refused { state: state(), code: RefusedCode::TooLarge, permanent: true, detail: "9 MiB" };
    let owner = Some("10.0.0.7:4433");
    let reset = Reset { stream: stream(), epoch: StreamEpoch(3), tag: Tag(1) };
    vec![
        golden!("append", Frame::Append(append)),
        golden!("state", Frame::State(state())),
        golden!("refused", Frame::Refused(refused)),
        golden!(
            "not-owner",
            Frame::NotOwner(NotOwner { stream: stream(), answers: Tag(0xbeef), owner })
        ),
        golden!("reset", Frame::Reset(reset)),
    ]
}

/// If this fails after a change to `uplink/`: that is a new protocol version. Bump `VERSION`, write new golden files
/// beside these, and say it in docs/protocols/uplink.md.
#[test]
fn frames_have_their_golden_bytes() {
    for (name, bytes, frame) in golden() {
        let encoded = frame.encode().unwrap();
        assert_eq!(encoded, bytes, "{name}: {encoded:02x?}");
        let field = *bytes.first_chunk().unwrap();
        assert_eq!(frame_len(field, UPLINK_FRAME_BYTES_MAX), Ok(bytes.len() - LENGTH_BYTES));
        assert_eq!(Frame::decode(&bytes[LENGTH_BYTES..]).unwrap(), frame, "{name}");
    }
}

#[test]
fn cut_and_lengthened_frames_are_refused() {
    for (name, bytes, _) in golden() {
        let body = &bytes[LENGTH_BYTES..];
        for len in 0..body.len() {
            assert!(Frame::decode(&body[..len]).is_err(), "{name} cut to {len}");
        }
        let longer: Vec<u8> = body.iter().copied().chain([0]).collect();
        assert_eq!(Frame::decode(&longer), Err(FrameError::Malformed), "{name}");
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_before_the_body() {
    let limit = 100;
    assert_eq!(frame_len(100_u32.to_le_bytes(), limit), Ok(100));
    let error = frame_len(101_u32.to_le_bytes(), limit).unwrap_err();
    assert_eq!(error.to_string(), "frame of 101 bytes exceeds the limit of 100");
    let batch = vec![0; UPLINK_FRAME_BYTES_MAX];
    let frame = Frame::Append(Append {
        stream: stream(),
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::ZERO,
        count: 1,
        prev_tag: Tag::NIL,
        tag: Tag(1),
        batch: &batch,
    });
    assert!(matches!(frame.encode(), Err(FrameError::TooLong { .. })));
}
