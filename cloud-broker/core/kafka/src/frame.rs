//! Frames: how long they may be, and headers and bodies of requests and responses.
//!
//! A frame is a length (i32, big-endian, not counting itself) and that many bytes: header, then body (Kafka protocol
//! guide, "Common Request and Response Structure"). A connection calls [`frame_length`] on the first
//! [`FRAME_HEAD_BYTES`], reads the rest, calls [`parse_request`] on what follows the length, and sends the chunks of
//! [`encode_response`], in the order of the requests.

use bytes::Bytes;

use crate::generated::header::{RequestHeader as RawRequestHeader, ResponseHeader};
use crate::generated::{ApiKey, Request, Response};
use crate::runtime::{Form, Reader, Text, WireError, Writer};
use crate::versions::is_served;

/// Bytes that say how long a frame may be: its length and the key of its API.
pub const FRAME_HEAD_BYTES: usize = 6;

/// Longest frame of any kind, whatever is configured (Kafka's default for `socket.request.max.bytes`).
pub const FRAME_BYTES_MAX: usize = 100 << 20;

/// Longest frame of an API that carries no records.
pub const PLAIN_FRAME_BYTES_MAX: usize = 1 << 20;

/// Longest frame of a client that has not proven who it is.
pub const ANONYMOUS_FRAME_BYTES_MAX: usize = 64 << 10;

/// What a decoded message may take of memory whatever its size, beside the frame.
pub const DECODE_BYTES_MIN: usize = 64 << 10;

/// What a decoded message may take of memory at most, beside the frame.
pub const DECODE_BYTES_MAX: usize = 16 << 20;

/// What a decoded message may take of memory for each byte of its frame: an empty text is one byte on the wire and this
/// much as a value.
pub const DECODE_BYTES_PER_FRAME_BYTE: usize = 32;

/// The shortest request: key, version, correlation id, and a null client id.
const REQUEST_BYTES_MIN: usize = 10;

const _: () = assert!(ANONYMOUS_FRAME_BYTES_MAX <= PLAIN_FRAME_BYTES_MAX);
const _: () = assert!(PLAIN_FRAME_BYTES_MAX <= FRAME_BYTES_MAX);
const _: () = assert!(DECODE_BYTES_MIN <= DECODE_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX <= i32::MAX as usize);

/// Whether a connection's client has proven who it is, or need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not yet.
    Anonymous,
    /// Yes.
    Authenticated,
}

/// Why a connection has to be closed. Log it: the peer learns nothing from a closed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The request is not what its definition says.
    #[error("malformed request of API {api_key} version {version}: {error}")]
    Malformed {
        /// Key as received.
        api_key: i16,
        /// Version as received.
        version: i16,
        /// What is wrong.
        error: WireError,
    },
    /// Longer than its API or the connection's stage allows.
    #[error("frame of {length} bytes for API {api_key}, {limit} allowed")]
    TooLong {
        /// Key as received.
        api_key: i16,
        /// Length as received.
        length: usize,
        /// What was allowed.
        limit: usize,
    },
    /// Shorter than any request, or of negative length.
    #[error("frame length {length} is no request's")]
    TooShort {
        /// Length as received.
        length: i32,
    },
    /// An API or version that is not served. A client that listens to ApiVersions does not send it.
    #[error("API {api_key} version {version} is not served")]
    Unsupported {
        /// Key as received.
        api_key: i16,
        /// Version as received.
        version: i16,
    },
}

/// Checks the length of a frame before its bytes are waited for, and gives it without the four bytes of the length
/// itself. Produce alone may be as long as configured (`produce_bytes_max`, at most [`FRAME_BYTES_MAX`]).
///
/// # Errors
/// [`FrameError::TooLong`] or `TooShort`.
pub fn frame_length(
    head: [u8; FRAME_HEAD_BYTES],
    stage: Stage,
    produce_bytes_max: usize,
) -> Result<usize, FrameError> {
    let [a, b, c, d, key @ ..] = head;
    let signed = i32::from_be_bytes([a, b, c, d]);
    let api_key = i16::from_be_bytes(key);
    let too_short = FrameError::TooShort { length: signed };
    let length = usize::try_from(signed).map_err(|_| too_short)?;
    if length < REQUEST_BYTES_MIN {
        return Err(too_short);
    }
    let limit = match stage {
        Stage::Anonymous => ANONYMOUS_FRAME_BYTES_MAX,
        Stage::Authenticated if api_key == ApiKey::Produce as i16 => {
            produce_bytes_max.min(FRAME_BYTES_MAX)
        }
        Stage::Authenticated => PLAIN_FRAME_BYTES_MAX,
    };
    if length > limit {
        return Err(FrameError::TooLong { api_key, length, limit });
    }
    Ok(length)
}

/// The memory that decoding a frame of this length may take beside the frame.
#[must_use]
pub fn decode_budget(frame_bytes: usize) -> usize {
    frame_bytes
        .saturating_mul(DECODE_BYTES_PER_FRAME_BYTE)
        .saturating_add(DECODE_BYTES_MIN)
        .min(DECODE_BYTES_MAX)
}

/// What precedes every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api: ApiKey,
    /// Version of request and response.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Text>,
}

/// What a frame held.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// ApiVersions in a version that is not known. Answer `versions::api_versions(UnsupportedVersion)` in version 0
    /// and keep the connection: the client will ask again in a version that it finds there (KIP-511).
    ApiVersionsUnknown(RequestHeader),
    /// A request that is served.
    Request(RequestHeader, Request),
}

/// Reads a request; `frame` is what follows the length, `budget` what decoding may take ([`decode_budget`]). Text and
/// byte fields of the result are slices of `frame` and keep it alive.
///
/// # Errors
/// [`FrameError::Malformed`] or `Unsupported`.
pub fn parse_request(frame: &Bytes, budget: usize) -> Result<Incoming, FrameError> {
    let Some(&[key_high, key_low, version_high, version_low]) = frame.first_chunk() else {
        let length = i32::try_from(frame.len()).unwrap_or(i32::MAX);
        return Err(FrameError::TooShort { length });
    };
    let api_key = i16::from_be_bytes([key_high, key_low]);
    let version = i16::from_be_bytes([version_high, version_low]);
    let malformed = |error| FrameError::Malformed { api_key, version, error };
    let unsupported = FrameError::Unsupported { api_key, version };
    let api = ApiKey::from_wire(api_key).ok_or(unsupported)?;
    let mut reader = Reader::new(frame, budget);
    if is_served(api, version) {
        let header = read_header(&mut reader, api, version).map_err(malformed)?;
        let request = Request::read(api, &mut reader, version).map_err(malformed)?;
        // What stands behind the message is left alone, as Kafka does: librdkafka 2.16 asks for the metadata of all topics with
        // three bytes too many.
        return Ok(Incoming::Request(header, request));
    }
    if api != ApiKey::ApiVersions {
        return Err(unsupported);
    }
    // What follows the client id is of a version that we cannot know; the client id never changes its form so that
    // this much can be read of any version.
    let raw = RawRequestHeader::read(&mut reader, HEADER_CLASSIC).map_err(malformed)?;
    Ok(Incoming::ApiVersionsUnknown(RequestHeader {
        api,
        version,
        correlation_id: raw.correlation_id,
        client_id: raw.client_id,
    }))
}

/// Writes a response as a frame, length included: chunks for a vectored write, in order. For
/// [`Incoming::ApiVersionsUnknown`] the `version` is 0.
///
/// # Errors
/// [`WireError`] if this version cannot carry `response`: a fault of the broker's, not of the peer.
pub fn encode_response(
    correlation_id: i32,
    version: i16,
    response: &Response,
) -> Result<Vec<Bytes>, WireError> {
    let mut w = Writer::frame();
    let header = ResponseHeader { correlation_id };
    header.write(&mut w, response_header_version(response.api(), version))?;
    response.write(&mut w, version)?;
    w.into_frame()
}

/// Writes a request as a frame, length included: the client's side.
///
/// # Errors
/// [`WireError`] if the header's version cannot carry `request`.
pub fn encode_request(header: &RequestHeader, request: &Request) -> Result<Vec<Bytes>, WireError> {
    if header.api != request.api() {
        return Err(WireError::Version);
    }
    let raw = RawRequestHeader {
        request_api_key: header.api as i16,
        request_api_version: header.version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.clone(),
    };
    let mut w = Writer::frame();
    raw.write(&mut w, request_header_version(header.api, header.version))?;
    request.write(&mut w, header.version)?;
    w.into_frame()
}

/// Reads a response to a request of this API and version, and which one it answers: the client's side.
///
/// # Errors
/// [`WireError`] if it is not what its definition says.
pub fn parse_response(
    frame: &Bytes,
    budget: usize,
    api: ApiKey,
    version: i16,
) -> Result<(i32, Response), WireError> {
    let mut reader = Reader::new(frame, budget);
    let header = ResponseHeader::read(&mut reader, response_header_version(api, version))?;
    let response = Response::read(api, &mut reader, version)?;
    reader.finish()?;
    Ok((header.correlation_id, response))
}

/// The request header without tagged fields.
const HEADER_CLASSIC: i16 = 1;

fn read_header(r: &mut Reader<'_>, api: ApiKey, version: i16) -> Result<RequestHeader, WireError> {
    let raw = RawRequestHeader::read(r, request_header_version(api, version))?;
    Ok(RequestHeader { api, version, correlation_id: raw.correlation_id, client_id: raw.client_id })
}

fn form_of(api: ApiKey, version: i16) -> Form {
    let flexible_first = api.schema().flexible_first;
    Form::flexible_if(flexible_first.is_some_and(|first| version >= first))
}

fn request_header_version(api: ApiKey, version: i16) -> i16 {
    match form_of(api, version) {
        Form::Classic => HEADER_CLASSIC,
        Form::Flexible => HEADER_CLASSIC + 1,
    }
}

/// The header of an ApiVersions response never has tagged fields: its reader does not know yet what the broker knows
/// (KIP-511, and the note in `ApiVersionsResponse.json`).
fn response_header_version(api: ApiKey, version: i16) -> i16 {
    match form_of(api, version) {
        Form::Flexible if api != ApiKey::ApiVersions => 1,
        Form::Classic | Form::Flexible => 0,
    }
}

#[cfg(test)]
mod tests;
