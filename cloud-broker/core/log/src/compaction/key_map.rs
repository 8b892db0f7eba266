//! The last offset of each key.

use sha2::{Digest, Sha256};
use wire::offset::Offset;

/// Half of a key's SHA-256. A client that found two keys with the same would make one of them vanish, so the hash is one
/// that nobody finds such keys for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash([u64; 2]);

impl KeyHash {
    pub(crate) fn of(key: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let (halves, _) = digest.as_chunks();
        Self([u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])])
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: KeyHash,
    /// [`FREE`] in a slot without a key.
    last: i64,
}

const SLOT_BYTES: usize = 24;
const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

const FREE: i64 = -1;

/// Whether there was room for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapped {
    Full,
    Yes,
}

/// A table of fixed size with open addressing, a quarter of it free.
#[derive(Debug)]
pub(crate) struct KeyMap {
    slots: Vec<Slot>,
    left: usize,
}

impl KeyMap {
    /// Room for `keys`, but no more than `bytes`; for one at least.
    pub(crate) fn new(keys: u64, bytes: usize) -> Self {
        let affordable = (bytes / SLOT_BYTES).max(2);
        let wanted = usize::try_from(keys.saturating_add(keys / 3).saturating_add(2));
        let slots = affordable.min(wanted.unwrap_or(usize::MAX));
        let free = Slot { hash: KeyHash([0; 2]), last: FREE };
        Self { slots: vec![free; slots], left: (slots - slots / 4).min(slots - 1) }
    }

    /// Notes a record; of one key the greatest offset counts.
    pub(crate) fn insert(&mut self, hash: KeyHash, offset: Offset) -> Mapped {
        debug_assert!(offset.0 >= 0, "offsets are not negative");
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.last == FREE {
            let Some(left) = self.left.checked_sub(1) else {
                return Mapped::Full;
            };
            self.left = left;
            *slot = Slot { hash, last: offset.0 };
        }
        slot.last = slot.last.max(offset.0);
        Mapped::Yes
    }

    /// The greatest offset of the key.
    pub(crate) fn last(&self, hash: KeyHash) -> Option<Offset> {
        let last = self.slots[self.find(hash)].last;
        (last != FREE).then_some(Offset(last))
    }

    /// The key's slot, or the free one where it belongs; one is always free.
    fn find(&self, hash: KeyHash) -> usize {
        let slots = self.slots.len();
        let mut at = ((u128::from(hash.0[0]) * slots as u128) >> 64) as usize;
        while self.slots[at].last != FREE && self.slots[at].hash != hash {
            at = (at + 1) % slots;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_greatest_offset_of_each_key_is_found() {
        let mut map = KeyMap::new(500, usize::MAX);
        let mut model: BTreeMap<u64, i64> = BTreeMap::new();
        for at in 0..5_000_i64 {
            let key = (at * at) as u64 % 499;
            let offset = at * 7 % 4_999;
            assert_eq!(map.insert(KeyHash::of(&key.to_be_bytes()), Offset(offset)), Mapped::Yes);
            let last = model.entry(key).or_insert(offset);
            *last = offset.max(*last);
        }
        assert!(model.len() > 200);
        for key in 0..600_u64 {
            let expected = model.get(&key).map(|offset| Offset(*offset));
            assert_eq!(map.last(KeyHash::of(&key.to_be_bytes())), expected, "key {key}");
        }
    }

    #[test]
    fn memory_bounds_the_keys() {
        for (keys, bytes, room) in
            [(1_000, 240, 8), (u64::MAX, 0, 1), (0, usize::MAX, 1), (3, usize::MAX, 5)]
        {
            let mut map = KeyMap::new(keys, bytes);
            let hash = |key: u64| KeyHash::of(&key.to_be_bytes());
            for key in 0..room {
                assert_eq!(map.insert(hash(key), Offset(1)), Mapped::Yes);
            }
            assert_eq!(map.insert(hash(room), Offset(2)), Mapped::Full, "{keys} in {bytes}");
            // A key that is there needs no room.
            assert_eq!(map.insert(hash(0), Offset(3)), Mapped::Yes);
            assert_eq!((map.last(hash(0)), map.last(hash(room))), (Some(Offset(3)), None));
        }
        let whole = KeyMap::new(u64::MAX, super::super::COMPACTION_MAP_BYTES);
        assert!(whole.left >= 2_000_000);
    }
}
