//! The first 4 KiB of a WAL file (docs/formats/wal.md, "File header").

use wire::ids::Incarnation;
use wire::record_batch::crc32c;

use crate::fields::{field, put, u16_at, u32_at, u64_at};
use crate::ids::{FileNo, SlotNo};

/// Bytes that the header takes up; the first slot begins behind them.
pub const WAL_FILE_HEADER_BYTES: usize = 4096;

/// The version that this crate writes and reads.
pub const WAL_FILE_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"CVW1";
/// Bytes that carry fields; zeros follow.
const USED: usize = 64;
const CRC_AT: usize = 60;

/// What a WAL file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalFileHeader {
    /// The life of the broker that wrote the file.
    pub incarnation: Incarnation,
    /// The file's number in its folder.
    pub file_no: FileNo,
    /// The first slot in it.
    pub first_slot: SlotNo,
    /// Bytes of the file, this header included.
    pub size: u64,
}

/// Why bytes are not the header of a WAL file that this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalFileHeaderError {
    /// Too short, another magic, or the CRC does not match: half-created or damaged.
    #[error("not the header of a WAL file")]
    Invalid,
    /// Another version wrote it: use that version.
    #[error("WAL file of version {0}; this program reads version {WAL_FILE_VERSION}")]
    Version(u16),
}

impl WalFileHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; WAL_FILE_HEADER_BYTES] {
        let mut out = [0; WAL_FILE_HEADER_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 4, WAL_FILE_VERSION.to_le_bytes());
        put(&mut out, 8, self.incarnation.0);
        put(&mut out, 24, self.file_no.0.to_le_bytes());
        put(&mut out, 32, self.first_slot.0.to_le_bytes());
        put(&mut out, 40, self.size.to_le_bytes());
        let crc = crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`WalFileHeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WalFileHeaderError> {
        let used: &[u8; USED] = bytes.first_chunk().ok_or(WalFileHeaderError::Invalid)?;
        let crc_fits = crc32c(&used[..CRC_AT]) == u32_at(used, CRC_AT);
        if field(used, 0) != MAGIC || !crc_fits {
            return Err(WalFileHeaderError::Invalid);
        }
        let version = u16_at(used, 4);
        if version != WAL_FILE_VERSION {
            return Err(WalFileHeaderError::Version(version));
        }
        Ok(Self {
            incarnation: Incarnation(field(used, 8)),
            file_no: FileNo(u64_at(used, 24)),
            first_slot: SlotNo(u64_at(used, 32)),
            size: u64_at(used, 40),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_seen() {
        let header = WalFileHeader {
            incarnation: Incarnation([7; 16]),
            file_no: FileNo(3),
            first_slot: SlotNo(99),
            size: 128 << 20,
        };
        let bytes = header.encode();
        assert_eq!(WalFileHeader::decode(&bytes), Ok(header));
        for bit in 0..USED * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(WalFileHeader::decode(&bad), Err(WalFileHeaderError::Invalid), "bit {bit}");
        }
        assert_eq!(WalFileHeader::decode(&bytes[..USED - 1]), Err(WalFileHeaderError::Invalid));
    }

    #[test]
    fn another_version_is_named() {
        let header = WalFileHeader {
            incarnation: Incarnation([7; 16]),
            file_no: FileNo(3),
            first_slot: SlotNo(99),
            size: 4096,
        };
        let mut bytes = header.encode();
        bytes[4] = 9;
        let crc = crc32c(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        assert_eq!(WalFileHeader::decode(&bytes), Err(WalFileHeaderError::Version(9)));
    }
}
