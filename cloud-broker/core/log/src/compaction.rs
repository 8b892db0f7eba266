//! Key compaction: of each key a compacted partition keeps the last record, a tombstone until its delete horizon.
//!
//! A pass ([`crate::CompactJob`]) first surveys the dirty part: the keys of the records that no earlier pass has seen, with
//! the last offset of each, as many as the map takes ([`KeyMap`]). Up to there the partition counts as cleaned then. The pass
//! reads everything up to that point a second time and writes it without the records that the map supersedes
//! ([`Sieve`]): rewritten batches keep their offsets, so readers see gaps, never other offsets.
//!
//! Rules, Kafka's where nothing else is said:
//! - A record goes if a later one of its key is below the cleaned offset, if it has no key, or if it is a tombstone whose
//!   batch's delete horizon has passed.
//! - The horizon is set by the pass that surveys the tombstone (KIP-534): with that same pass the older values of its key
//!   go. If one of them may have stayed, in something that could not be read or written, none is set, and the tombstone stays
//!   until it is superseded: else the value would come back.
//! - The last batch of a pass is never emptied, so that readers come to the end of the partition. (Kafka keeps an empty batch
//!   there, and one for each producer; ours are in checkpoints.)
//! - What cannot be read as records stays as it was found and supersedes nothing; the same holds for batches of
//!   transactions. Transaction markers stay.

mod key_map;
mod sieve;

use wire::offset::Offset;
use wire::time::UnixMs;

pub(crate) use key_map::{KeyHash, KeyMap, Mapped};
pub(crate) use sieve::{Bounds, Sieve, Sifted, survey_batch};

/// Bytes of a pass's map of keys.
pub const COMPACTION_MAP_BYTES: usize = 64 << 20;

/// A batch of more records than this stays as it is: what is remembered of its records while it is looked at costs memory.
pub const COMPACTED_BATCH_RECORDS_MAX: u32 = 1 << 20;

/// What compaction has to know of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its key, if any.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value.
    pub is_tombstone: bool,
}

/// The records of a batch cannot be read, or not be written anew. The batch stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the records of the batch cannot be read or written")]
pub struct Unreadable;

/// Looks into record batches, which this crate does not know how to do. Both calls get one whole batch whose header was
/// parsed and whose CRC is right; but anybody may have made it.
pub trait RecordRewriter {
    /// Shows every record, in order.
    ///
    /// # Errors
    /// [`Unreadable`], perhaps after some records were shown.
    fn walk(&self, batch: &[u8], show: &mut dyn FnMut(KeyedRecord<'_>)) -> Result<(), Unreadable>;

    /// The batch with those of its records that `keep` says, at least one, and the delete horizon if one is given. Offsets,
    /// producer and sequences are those of `batch`.
    ///
    /// # Errors
    /// [`Unreadable`].
    fn rewrite(
        &self,
        batch: &[u8],
        keep: &[bool],
        delete_horizon: Option<UnixMs>,
    ) -> Result<Vec<u8>, Unreadable>;
}
