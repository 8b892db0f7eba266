//! Ids made from one seed: a core has no randomness of its own.

use sha2::{Digest, Sha256};
use wire::ids::TopicId;

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

    /// A topic id, in the form of a random UUID (RFC 9562, version 4): never one of those that Kafka reserves.
    pub(crate) fn topic_id(&mut self) -> TopicId {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.made.to_le_bytes());
        self.made += 1;
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        TopicId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_follow_from_the_seed() {
        let (mut a, mut b) = (IdSource::new([1; 32]), IdSource::new([1; 32]));
        let first = a.topic_id();
        assert_eq!(first, b.topic_id());
        assert_ne!(first, a.topic_id());
        assert_ne!(first, IdSource::new([2; 32]).topic_id());
        assert_eq!((first.0[6] >> 4, first.0[8] >> 6), (4, 2));
    }
}
