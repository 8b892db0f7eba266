//! A Kafka connection's frames: what a request becomes, and how an answer becomes bytes. ApiVersions is answered here.
//!
//! The connection sends responses in the order of the requests, whatever order the broker answers in; it holds each answer
//! back until its turn.

use broker_kafka::ErrorCode;
use broker_kafka::frame::{
    self, FrameError, Incoming, RequestHeader, decode_budget, parse_request,
};
use broker_kafka::generated::Request;
use broker_kafka::runtime::WireError;
use broker_kafka::versions::api_versions;
use broker_kafka::{ApiKey, Response};
use bytes::Bytes;

use crate::handlers::KafkaRequest;
use crate::keyed_topics::KeyedTopics;

/// What to do with a frame.
#[derive(Debug)]
pub enum Received {
    /// Ask the broker.
    Ask(RequestInfo, KafkaRequest),
    /// Send these bytes when it is their turn.
    Reply(Vec<Bytes>),
}

/// What is needed of a request to encode its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestInfo {
    /// The API.
    pub api: ApiKey,
    /// The version.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// Whether a response is sent: not to a produce request with `acks=0`.
    pub reply: Reply,
}

/// Whether a request gets a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It does.
    Expected,
    /// It does not. If it failed, the connection is closed.
    None,
}

/// Reads a frame (what follows its length) of a client on `host`. Batches are checked here; those for topics that need keys
/// are decompressed for it.
///
/// # Errors
/// [`FrameError`]: close the connection.
pub fn receive(bytes: &Bytes, host: &str, keyed: &KeyedTopics) -> Result<Received, FrameError> {
    let (header, request) = match parse_request(bytes, decode_budget(bytes.len()))? {
        Incoming::Request(header, request) => (header, request),
        Incoming::ApiVersionsUnknown(header) => {
            let info = RequestInfo { version: 0, ..RequestInfo::new(&header, Reply::Expected) };
            return own_reply(&info, ErrorCode::UnsupportedVersion);
        }
    };
    let reply = match &request {
        Request::Produce(produce) if produce.acks == 0 => Reply::None,
        _ => Reply::Expected,
    };
    let info = RequestInfo::new(&header, reply);
    if header.api == ApiKey::ApiVersions {
        return own_reply(&info, ErrorCode::None);
    }
    match KafkaRequest::prepare(header.version, request, keyed) {
        Some(mut request) => {
            if let KafkaRequest::Group(group) = &mut request {
                group.set_client(header.client_id.as_ref(), host);
            }
            Ok(Received::Ask(info, request))
        }
        None => {
            Err(FrameError::Unsupported { api_key: header.api as i16, version: header.version })
        }
    }
}

fn own_reply(info: &RequestInfo, error: ErrorCode) -> Result<Received, FrameError> {
    let response = Response::from(api_versions(error));
    let bytes = info.encode(&response).map_err(|error| FrameError::Malformed {
        api_key: info.api as i16,
        version: info.version,
        error,
    })?;
    Ok(Received::Reply(bytes))
}

impl RequestInfo {
    fn new(header: &RequestHeader, reply: Reply) -> Self {
        Self {
            api: header.api,
            version: header.version,
            correlation_id: header.correlation_id,
            reply,
        }
    }

    /// The response as bytes: chunks for a vectored write, length included.
    ///
    /// # Errors
    /// [`WireError`]: the broker made a response that this version cannot carry. Close the connection.
    pub fn encode(&self, response: &Response) -> Result<Vec<Bytes>, WireError> {
        frame::encode_response(self.correlation_id, self.version, response)
    }
}
