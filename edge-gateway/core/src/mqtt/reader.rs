//! Reads the fields of a packet's body as slices that share its buffer.

use bytes::{Buf, Bytes};

use super::close::CloseReason;
use super::frame;
use super::text::Text;

const CUT_SHORT: CloseReason = CloseReason::Malformed("a field reaches beyond the packet's end");

/// What is left to read of a body, or of a part of it.
#[derive(Debug)]
pub(super) struct Reader(Bytes);

impl Reader {
    pub(super) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Result<u8, CloseReason> {
        self.0.try_get_u8().map_err(|_| CUT_SHORT)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CloseReason> {
        self.0.try_get_u16().map_err(|_| CUT_SHORT)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CloseReason> {
        self.0.try_get_u32().map_err(|_| CUT_SHORT)
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    pub(super) fn variable(&mut self) -> Result<u32, CloseReason> {
        let (value, len) = frame::variable(&self.0)?.ok_or(CUT_SHORT)?;
        if len != frame::variable_len(value) {
            return Err(CloseReason::Malformed("a length with more bytes than it needs"));
        }
        self.0.advance(len as usize);
        Ok(value)
    }

    /// Binary data: two bytes of length, then that many bytes (v5 1.5.6).
    pub(super) fn binary(&mut self) -> Result<Bytes, CloseReason> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 encoded string (v5 1.5.4).
    pub(super) fn text(&mut self) -> Result<Text, CloseReason> {
        let bytes = self.binary()?;
        Text::new(bytes).ok_or(CloseReason::Malformed("a string is not UTF-8 or holds U+0000"))
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<Bytes, CloseReason> {
        if len > self.0.len() {
            return Err(CUT_SHORT);
        }
        Ok(self.0.split_to(len))
    }

    /// Everything that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }
}
