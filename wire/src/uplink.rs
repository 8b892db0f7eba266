//! The protocol between gateway and broker (docs/protocols/uplink.md).
//!
//! Every frame is a little-endian u32 length, then that many bytes: the postcard form of [`Frame`]. The order of the
//! enum's variants and fields is the format; golden bytes hold it still. A change makes a new protocol version.

mod error;
mod frame;
mod handshake;
mod state;

pub use error::{FrameError, GoodbyeReason, RefusedCode};
pub use frame::{Append, Frame, LENGTH_BYTES, NotOwner, Refused, Reset, State, frame_len};
pub use handshake::{Hello, Profile, TopicInfo, Welcome};
pub use state::{StreamKey, StreamState};

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 1;

/// The ALPN name of the protocol, on QUIC and on its TCP fallback.
pub const ALPN: &[u8] = b"culvert-uplink/1";

#[cfg(test)]
mod tests;
