//! A gateway's frames, taken apart on the connection's task: everything that needs the bytes and no state.

use bytes::Bytes;
use thiserror::Error;
use wire::ids::{SpoolId, Tag};
use wire::limits::{
    RECORD_BATCH_BYTES_MAX, TOPIC_NAME_BYTES_MAX, UPLINK_HANDSHAKE_BYTES_MAX, UPLINK_TOPICS_MAX,
};
use wire::record_batch::RecordBatchHeader;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::uplink::{Append, Frame, FrameError, GoodbyeReason, Hello, Reset, StreamKey};

/// First byte of an APPEND: its place among the variants of [`Frame`], as postcard writes it.
const APPEND_FIRST_BYTE: u8 = 2;

/// A frame of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkRequest {
    /// HELLO.
    Hello(HelloRequest),
    /// APPEND.
    Append(AppendRequest),
    /// RESET.
    Reset(Reset),
}

/// HELLO, with its strings copied out of the frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloRequest {
    /// Lowest version the gateway speaks.
    pub version_min: u16,
    /// Highest version the gateway speaks.
    pub version_max: u16,
    /// Who it says it is.
    pub gateway: String,
    /// Its spool.
    pub spool: SpoolId,
    /// The topics of its routes.
    pub topics: Vec<String>,
    /// The streams it asks the state of.
    pub streams: Vec<StreamKey>,
}

/// APPEND. The batch shares the frame's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// The stream.
    pub stream: StreamKey,
    /// Its epoch.
    pub epoch: StreamEpoch,
    /// Sequence of the first reading.
    pub base: StreamSeq,
    /// Readings.
    pub count: u32,
    /// Tag of the batch before.
    pub prev_tag: Tag,
    /// Tag of this batch.
    pub tag: Tag,
    /// The record batch; `None` if it is damaged.
    pub intact: Option<Bytes>,
}

/// Why the session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Not a frame. Close with [`GoodbyeReason::Protocol`].
    #[error("{0}")]
    Frame(FrameError),
    /// A frame that no gateway sends, or with contents that no gateway sends. Close with [`GoodbyeReason::Protocol`].
    #[error("{0}")]
    Misuse(&'static str),
    /// The gateway ends the session.
    #[error("the gateway says goodbye: {0}")]
    Goodbye(GoodbyeReason),
}

impl UplinkRequest {
    /// Reads a frame (without its length field) and checks its record batch.
    ///
    /// # Errors
    /// [`RequestError`]: the session ends.
    pub fn parse(frame: &Bytes) -> Result<Self, RequestError> {
        // Lists decode into more memory than their bytes; only a batch may be large.
        if frame.len() > UPLINK_HANDSHAKE_BYTES_MAX && frame.first() != Some(&APPEND_FIRST_BYTE) {
            return Err(RequestError::Misuse("only an APPEND may be this large"));
        }
        match Frame::decode(frame).map_err(RequestError::Frame)? {
            Frame::Hello(hello) => HelloRequest::new(&hello).map(Self::Hello),
            Frame::Append(append) => Ok(Self::Append(AppendRequest::new(frame, &append))),
            Frame::Reset(reset) => Ok(Self::Reset(reset)),
            Frame::Goodbye(reason, _) => Err(RequestError::Goodbye(reason)),
            Frame::Welcome(_) | Frame::State(_) | Frame::Refused(_) | Frame::NotOwner(_) => {
                Err(RequestError::Misuse("only brokers send this frame"))
            }
        }
    }
}

impl HelloRequest {
    fn new(hello: &Hello<'_>) -> Result<Self, RequestError> {
        let too_long = |name: &&str| name.len() > TOPIC_NAME_BYTES_MAX;
        if hello.topics.len() > UPLINK_TOPICS_MAX || hello.topics.iter().any(too_long) {
            return Err(RequestError::Misuse("HELLO names too many topics"));
        }
        Ok(Self {
            version_min: hello.version_min,
            version_max: hello.version_max,
            gateway: hello.gateway.to_owned(),
            spool: hello.spool,
            topics: hello.topics.iter().map(|&name| name.to_owned()).collect(),
            streams: hello.streams.clone(),
        })
    }
}

impl AppendRequest {
    fn new(frame: &Bytes, append: &Append<'_>) -> Self {
        Self {
            stream: append.stream,
            epoch: append.epoch,
            base: append.base,
            count: append.count,
            prev_tag: append.prev_tag,
            tag: append.tag,
            intact: is_intact(append.batch).then(|| frame.slice_ref(append.batch)),
        }
    }
}

/// Whether the log may look at this batch. One that is only too large is for the log to judge.
fn is_intact(batch: &[u8]) -> bool {
    if batch.len() > RECORD_BATCH_BYTES_MAX {
        return true;
    }
    RecordBatchHeader::parse(batch).is_ok_and(|header| {
        header.check_crc(batch).is_ok()
            && header.attributes & RecordBatchHeader::LOG_APPEND_TIME == 0
            && header.delete_horizon().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::{Partition, ProducerId, TopicId};

    fn parse(frame: &Frame<'_>) -> Result<UplinkRequest, RequestError> {
        let bytes = frame.encode().unwrap();
        UplinkRequest::parse(&Bytes::from(bytes).slice(4..))
    }

    fn append(batch: &[u8]) -> Frame<'_> {
        Frame::Append(Append {
            stream: StreamKey {
                pid: ProducerId::UPLINK_MIN,
                topic: TopicId([1; 16]),
                partition: Partition(0),
            },
            epoch: StreamEpoch::FIRST,
            base: StreamSeq::ZERO,
            count: 1,
            prev_tag: Tag::NIL,
            tag: Tag(1),
            batch,
        })
    }

    fn hello<'a>(topics: Vec<&'a str>) -> Frame<'a> {
        Frame::Hello(Hello {
            version_min: 1,
            version_max: 1,
            gateway: "g",
            spool: SpoolId([1; 16]),
            topics,
            streams: Vec::new(),
        })
    }

    #[test]
    fn large_frames_are_appends_or_nothing() {
        let large = vec![0; UPLINK_HANDSHAKE_BYTES_MAX + 1];
        let request = parse(&append(&large)).unwrap();
        assert!(matches!(request, UplinkRequest::Append(AppendRequest { intact: None, .. })));
        // A HELLO of empty topic names takes one byte for each in the frame and sixteen in memory.
        let many = hello(vec![""; UPLINK_HANDSHAKE_BYTES_MAX]);
        assert!(matches!(parse(&many), Err(RequestError::Misuse(_))));
        let over = hello(vec!["t"; UPLINK_TOPICS_MAX + 1]);
        assert!(matches!(parse(&over), Err(RequestError::Misuse(_))));
        assert!(parse(&hello(vec!["t"; UPLINK_TOPICS_MAX])).is_ok());
    }

    #[test]
    fn only_a_gateways_frames_are_taken() {
        let goodbye = parse(&Frame::Goodbye(GoodbyeReason::Stopping, "x"));
        assert_eq!(goodbye, Err(RequestError::Goodbye(GoodbyeReason::Stopping)));
        let Frame::Append(fields) = append(b"") else { unreachable!("made as an append") };
        let state = Frame::State(wire::uplink::State {
            stream: fields.stream,
            answers: Tag(1),
            state: None,
            previous: None,
        });
        assert!(matches!(parse(&state), Err(RequestError::Misuse(_))));
        assert_eq!(
            UplinkRequest::parse(&Bytes::from_static(b"\xff")),
            Err(RequestError::Frame(FrameError::Malformed))
        );
    }
}
