//! Fixed headers: where a packet ends, before its body is there (v5 2.1).

use bytes::{BufMut, BytesMut};

use super::close::CloseReason;

/// Packet types by their number in the first byte's upper half (v5 table 2-1).
pub(super) mod packet_type {
    pub(in crate::mqtt) const CONNECT: u8 = 1;
    pub(in crate::mqtt) const PUBLISH: u8 = 3;
    pub(in crate::mqtt) const PUBACK: u8 = 4;
    pub(in crate::mqtt) const PUBREC: u8 = 5;
    pub(in crate::mqtt) const PUBREL: u8 = 6;
    pub(in crate::mqtt) const PUBCOMP: u8 = 7;
    pub(in crate::mqtt) const SUBSCRIBE: u8 = 8;
    pub(in crate::mqtt) const UNSUBSCRIBE: u8 = 10;
    pub(in crate::mqtt) const DISCONNECT: u8 = 14;
}

/// Most bytes that a variable byte integer has (v5 1.5.5).
const VARIABLE_LEN_MAX: usize = 4;

/// The greatest variable byte integer.
pub(super) const VARIABLE_MAX: u32 = 0x0fff_ffff;

/// A packet's fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedHeader {
    /// Packet type and flags.
    pub(super) first: u8,
    /// Bytes of this header, 2 to 5.
    pub(super) header_len: u32,
    /// Bytes after this header.
    pub(super) body_len: u32,
}

impl FixedHeader {
    /// Reads the header at the front of `bytes`; `None` until all of it is there. Fails if its length is malformed.
    pub(super) fn peek(bytes: &[u8]) -> Result<Option<Self>, CloseReason> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some((body_len, len)) = variable(rest)? else {
            return Ok(None);
        };
        Ok(Some(Self { first, header_len: 1 + len, body_len }))
    }

    /// Packet type, 0 to 15.
    pub(super) fn packet_type(self) -> u8 {
        self.first >> 4
    }

    /// Bytes of the whole packet: at most 5 + 268,435,455.
    pub(super) fn total_len(self) -> u32 {
        self.header_len + self.body_len
    }

    /// Whether the length has no more bytes than it needs, as MQTT 5 demands [MQTT-1.5.5-1].
    pub(super) fn is_minimal(self) -> bool {
        self.header_len == 1 + variable_len(self.body_len)
    }
}

/// Reads a variable byte integer at the front of `bytes`: value and length. `None` if bytes are missing.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(u32, u32)>, CloseReason> {
    let mut value = 0;
    for (shift, &byte) in (0u32..).step_by(7).zip(bytes.iter().take(VARIABLE_LEN_MAX)) {
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value, shift / 7 + 1)));
        }
    }
    if bytes.len() < VARIABLE_LEN_MAX {
        Ok(None)
    } else {
        Err(CloseReason::Malformed("a length of more than four bytes"))
    }
}

/// Bytes of the shortest variable byte integer of this value.
pub(super) fn variable_len(value: u32) -> u32 {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer of at most 28 bits in its shortest form.
pub(super) fn put_variable(bytes: &mut BytesMut, value: u32) {
    let [mut left, len] = [value, variable_len(value)];
    for _ in 1..len {
        bytes.put_u8(0x80 | (left & 0x7f).to_le_bytes()[0]);
        left >>= 7;
    }
    bytes.put_u8((left & 0x7f).to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits of every length (v5 table 1-1).
    #[test]
    fn variable_byte_integers() {
        let table: [(u32, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 1]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 1]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ];
        for (value, bytes) in table {
            let mut written = BytesMut::new();
            put_variable(&mut written, value);
            assert_eq!(written, bytes);
            let len = u32::try_from(bytes.len()).unwrap();
            assert_eq!(variable(bytes), Ok(Some((value, len))));
            assert_eq!(variable_len(value), len);
            assert_eq!(variable(&bytes[..bytes.len() - 1]), Ok(None));
        }
        assert_eq!(variable(&[0x80, 0x80]), Ok(None));
        assert_eq!(variable(&[0x80, 0]), Ok(Some((0, 2))), "not the shortest form");
        assert!(variable(&[0x80; 4]).is_err());
    }
}
