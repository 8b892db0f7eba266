//! The header of a batch that some records were taken out of.

use super::{CRC_START, HEADER_BYTES, LENGTH_END, RecordBatchHeader, crc32c};
use crate::time::UnixMs;

/// What the header of a batch says anew once records were taken out of it. Offsets, sequences and producer stay: readers
/// go on behind the last offset that the batch ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Records that are left.
    pub record_count: u32,
    /// The greatest timestamp among them.
    pub max_timestamp: UnixMs,
    /// From when on its tombstones may go. The timestamps of the records count from it then, because it takes the place of
    /// the base timestamp; `None` leaves that field as it is.
    pub delete_horizon: Option<UnixMs>,
}

/// Makes the header at the start of `batch` that of the bytes behind it: they are records of the batch that it was made for,
/// under the same codec. False, and nothing is changed, if they are more than its length field can say.
///
/// # Panics
/// If `batch` is shorter than [`HEADER_BYTES`].
#[must_use]
pub fn amend_header(batch: &mut [u8], remaining: &Remaining) -> bool {
    assert!(batch.len() >= HEADER_BYTES, "the header is the old batch's");
    let Ok(length) = i32::try_from(batch.len() - LENGTH_END) else {
        return false;
    };
    batch[8..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    if let Some(horizon) = remaining.delete_horizon {
        batch[22] |= RecordBatchHeader::DELETE_HORIZON as u8;
        batch[27..35].copy_from_slice(&horizon.0.to_be_bytes());
    }
    batch[35..43].copy_from_slice(&remaining.max_timestamp.0.to_be_bytes());
    batch[57..HEADER_BYTES].copy_from_slice(&remaining.record_count.to_be_bytes());
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn only_what_changed_is_said_anew() {
        let mut batch = sample();
        let before = RecordBatchHeader::parse(&batch).unwrap();
        batch.truncate(HEADER_BYTES + 9);
        for horizon in [None, Some(UnixMs(1_800_000_000_000))] {
            let remaining =
                Remaining { record_count: 1, max_timestamp: UnixMs(5), delete_horizon: horizon };
            assert!(amend_header(&mut batch, &remaining));
            let after = RecordBatchHeader::parse(&batch).unwrap();
            after.check_crc(&batch).unwrap();
            let flag = horizon.map_or(0, |_| RecordBatchHeader::DELETE_HORIZON);
            let expected = RecordBatchHeader {
                total_len: HEADER_BYTES + 9,
                crc: after.crc,
                attributes: before.attributes | flag,
                base_timestamp: horizon.unwrap_or(before.base_timestamp),
                max_timestamp: UnixMs(5),
                record_count: 1,
                ..before
            };
            assert_eq!((after, after.delete_horizon()), (expected, horizon));
        }
    }
}
