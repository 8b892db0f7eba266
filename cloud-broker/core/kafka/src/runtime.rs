//! What the generated messages are read and written with. Every rule about lengths, nulls and memory is here, once.
//!
//! Invariants, whatever a peer sends: nothing panics; the only allocations are those of [`Reader::array`], each bounded
//! by the bytes that are left and taken from a budget before it is made; text and byte fields are slices of the frame.
//!
//! Such slices keep the whole frame alive: what goes into long-lived state is copied first ([`Text::detached`]).

mod reader;
#[cfg(test)]
mod tests;
mod text;
mod writer;

pub use bytes::Bytes;
pub use reader::{ARRAY_BYTES, Reader, TagUse, nullable_if};
pub use text::{TEXT_BYTES_MAX, Text};
pub use writer::{BLOB_BYTES_COPIED_MAX, Tags, Writer};

/// Why a message cannot be read or written. When reading, the peer broke the protocol: close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The decoded message would take more memory than its frame is allowed.
    #[error("decoding takes more memory than the frame is allowed")]
    Budget,
    /// The frame ends inside a field.
    #[error("the frame ends inside a field")]
    End,
    /// A length or count that cannot be, or a value too long for its length field.
    #[error("impossible length")]
    Length,
    /// Null where this version has no null.
    #[error("null where this version has none")]
    Null,
    /// Tagged fields out of order, or longer than what is in them.
    #[error("tagged fields are out of order or too long")]
    Tags,
    /// Bytes behind the end of the message.
    #[error("bytes behind the end of the message")]
    Trailing,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// When writing: a value that this version cannot carry and that must not be dropped.
    #[error("this version cannot carry the message")]
    Version,
}

/// How lengths are written, and whether there are tagged fields (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Fixed-size lengths, −1 for null, no tagged fields.
    Classic,
    /// Varint lengths plus one, 0 for null, tagged fields after each struct.
    Flexible,
}

impl Form {
    /// `Flexible` if that is so.
    #[must_use]
    pub fn flexible_if(flexible: bool) -> Self {
        if flexible { Self::Flexible } else { Self::Classic }
    }
}

/// Sixteen bytes: a topic id, a directory id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Kafka's "none".
    pub const ZERO: Self = Self([0; 16]);
}

impl From<wire::ids::TopicId> for Uuid {
    fn from(id: wire::ids::TopicId) -> Self {
        Self(id.0)
    }
}

impl From<Uuid> for wire::ids::TopicId {
    fn from(id: Uuid) -> Self {
        Self(id.0)
    }
}
