//! Why a frame or a session is turned down.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Why bytes are not a frame. The connection they came on cannot be trusted any further: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The frame's bytes are not those of any frame, or go on behind its end.
    Malformed,
    /// The length field exceeds the limit in force, in bytes.
    TooLong {
        /// What the length field says.
        length: usize,
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not an uplink frame"),
            Self::TooLong { length, limit } => {
                write!(f, "frame of {length} bytes exceeds the limit of {limit}")
            }
        }
    }
}

impl core::error::Error for FrameError {}

/// Why a batch that fits its stream is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCode {
    /// The batch is not one that the log takes (format, CRC, counts): it will never be.
    Invalid,
    /// The batch exceeds the topic's limit: cut it smaller.
    TooLarge,
    /// The gateway may not append to this topic.
    Unauthorized,
    /// The log cannot take anything now (disk full, memory): try again later.
    Unavailable,
    /// This broker cannot do what was asked.
    Unsupported,
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoodbyeReason {
    /// The certificate names another gateway, or a topic is not allowed.
    Unauthorized,
    /// The peer broke the protocol.
    Protocol,
    /// This spool was retired: nothing of it is taken any more.
    Retired,
    /// The process is stopping: come back.
    Stopping,
    /// No common protocol version.
    Version,
}

impl fmt::Display for GoodbyeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => "not authorized",
            Self::Protocol => "protocol broken",
            Self::Retired => "spool retired",
            Self::Stopping => "stopping",
            Self::Version => "no common version",
        })
    }
}
