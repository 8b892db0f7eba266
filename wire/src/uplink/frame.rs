//! The frames and their bytes.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::error::{FrameError, GoodbyeReason, RefusedCode};
use super::handshake::{Hello, Welcome};
use super::state::{StreamKey, StreamState};
use crate::ids::Tag;
use crate::limits::UPLINK_FRAME_BYTES_MAX;
use crate::seq::{StreamEpoch, StreamSeq};

/// Bytes of the length field before every frame.
pub const LENGTH_BYTES: usize = 4;

/// Everything that travels between gateway and broker. The order of variants is part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// Gateway: who I am.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// Broker: what holds for this session.
    #[serde(borrow)]
    Welcome(Welcome<'a>),
    /// Gateway: store this if it fits.
    #[serde(borrow)]
    Append(Append<'a>),
    /// Broker: where the stream stands, durably.
    State(State),
    /// Broker: it fits but is not stored.
    #[serde(borrow)]
    Refused(Refused<'a>),
    /// Broker: ask another broker.
    #[serde(borrow)]
    NotOwner(NotOwner<'a>),
    /// Gateway: begin the next epoch.
    Reset(Reset),
    /// Either: this session ends.
    Goodbye(GoodbyeReason, &'a str),
}

/// A batch to be stored if epoch, base sequence and previous tag fit its stream (rule B1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append<'a> {
    /// The stream.
    pub stream: StreamKey,
    /// Its epoch, as the gateway has it.
    pub epoch: StreamEpoch,
    /// Sequence of the first reading.
    pub base: StreamSeq,
    /// Readings, at least 1.
    pub count: u32,
    /// Tag of the batch before this one.
    pub prev_tag: Tag,
    /// Tag of this batch.
    pub tag: Tag,
    /// The record batch.
    #[serde(borrow)]
    pub batch: &'a [u8],
}

/// The answer to APPEND and RESET: only what is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The stream.
    pub stream: StreamKey,
    /// The tag of the frame that is answered.
    pub answers: Tag,
    /// Where the stream stands; `None` if nothing of it was ever stored.
    pub state: Option<StreamState>,
    /// After a RESET and until the first append: where it stood before.
    pub previous: Option<StreamState>,
}

/// A frame that fits its stream is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused<'a> {
    /// Where the stream stands, and which frame this answers.
    pub state: State,
    /// Why.
    pub code: RefusedCode,
    /// Whether the same frame will be refused for ever.
    pub permanent: bool,
    /// For people.
    #[serde(borrow)]
    pub detail: &'a str,
}

/// Another broker owns the stream's shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotOwner<'a> {
    /// The stream.
    pub stream: StreamKey,
    /// The tag of the frame that is answered.
    pub answers: Tag,
    /// The owner's uplink address, if known.
    #[serde(borrow)]
    pub owner: Option<&'a str>,
}

/// Begin epoch `epoch` (rule B4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The stream.
    pub stream: StreamKey,
    /// The epoch to begin.
    pub epoch: StreamEpoch,
    /// Names this RESET, so that asking twice is asking once.
    pub tag: Tag,
}

impl<'a> Frame<'a> {
    /// Reads the frame that takes up all of `bytes` (without its length field).
    ///
    /// # Errors
    /// [`FrameError::Malformed`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        match postcard::take_from_bytes(bytes) {
            Ok((frame, [])) => Ok(frame),
            Ok(_) | Err(_) => Err(FrameError::Malformed),
        }
    }

    /// The frame with its length field.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it exceeds [`UPLINK_FRAME_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let bytes = postcard::to_extend(self, alloc::vec![0; LENGTH_BYTES])
            .map_err(|_| FrameError::Malformed)?;
        finish(bytes)
    }
}

fn finish(mut bytes: Vec<u8>) -> Result<Vec<u8>, FrameError> {
    let length = bytes.len() - LENGTH_BYTES;
    let too_long = FrameError::TooLong { length, limit: UPLINK_FRAME_BYTES_MAX };
    if length > UPLINK_FRAME_BYTES_MAX {
        return Err(too_long);
    }
    let field = u32::try_from(length).map_err(|_| too_long)?;
    bytes[..LENGTH_BYTES].copy_from_slice(&field.to_le_bytes());
    Ok(bytes)
}

/// Reads a length field and holds it against `limit`, before anything is allocated for the frame.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn frame_len(field: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_le_bytes(field)).unwrap_or(usize::MAX);
    if length <= limit { Ok(length) } else { Err(FrameError::TooLong { length, limit }) }
}
