//! Ids made from one seed: a core has no randomness of its own.

use sha2::{Digest, Sha256};
use wire::ids::{Incarnation, TopicId};

/// Makes ids that nobody else makes, as long as the seed is random and used once.
#[derive(Debug)]
pub(crate) struct IdSource {
    seed: [u8; 32],
    made: u64,
}

impl IdSource {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, made: 0 }
    }

    /// A topic id: never one of those that Kafka reserves.
    pub(crate) fn topic_id(&mut self) -> TopicId {
        TopicId(self.uuid())
    }

    /// What makes a group member's id unlike any other, written as Kafka writes it.
    pub(crate) fn member_suffix(&mut self) -> String {
        let hex: String = self.uuid().iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-")
    }

    /// Sixteen bytes in the form of a random UUID (RFC 9562, version 4).
    fn uuid(&mut self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.made.to_le_bytes());
        self.made += 1;
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }
}

/// What gateways are told instead of the incarnation: as good to tell lives apart, and no help to a peer who would write
/// bytes into a record batch that look like a later slot of this life's WAL.
pub(crate) fn public_life(incarnation: Incarnation) -> Incarnation {
    let mut hash = Sha256::new();
    hash.update(b"culvert broker life v1\0");
    hash.update(incarnation.0);
    let mut life = [0; 16];
    life.copy_from_slice(&hash.finalize()[..16]);
    Incarnation(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_life_tells_lives_apart_and_not_the_incarnation() {
        let (one, two) = (Incarnation([1; 16]), Incarnation([2; 16]));
        assert_ne!(public_life(one), one);
        assert_ne!(public_life(one), public_life(two));
    }

    #[test]
    fn ids_differ_and_follow_from_the_seed() {
        let (mut a, mut b) = (IdSource::new([1; 32]), IdSource::new([1; 32]));
        let first = a.topic_id();
        assert_eq!(first, b.topic_id());
        assert_ne!(first, a.topic_id());
        assert_ne!(first, IdSource::new([2; 32]).topic_id());
        assert_eq!((first.0[6] >> 4, first.0[8] >> 6), (4, 2));
        let suffix = a.member_suffix();
        assert_eq!(suffix.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_ne!(suffix, a.member_suffix());
    }
}
