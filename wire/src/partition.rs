//! Which partition a key belongs to: Kafka's default partitioner, so that a Java producer and a gateway agree.

use crate::ids::{Partition, TopicId};

/// The partition of `key` among `partitions` (at least 1): `(murmur2(key) & 0x7fff_ffff) % partitions`
/// (Kafka's `BuiltInPartitioner.partitionForKey`).
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> Partition {
    Partition((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// The shard that owns a partition: a hash of topic id and partition, modulo the number of shards (at least 1).
#[must_use]
pub fn shard_of(topic: TopicId, partition: Partition, shards: u32) -> u32 {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&topic.0);
    bytes[16..].copy_from_slice(&partition.0.to_be_bytes());
    (murmur2(&bytes) & 0x7fff_ffff) % shards.max(1)
}

/// The 32-bit MurmurHash2 as Kafka uses it (`Utils.murmur2`, seed 0x9747b28c).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Kafka mixes the length in as a 32-bit int; keys are far below that.
    let mut h = 0x9747_b28c ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key) as i32, expected, "{key:?}");
        }
    }

    #[test]
    fn a_partition_is_always_in_range() {
        for n in [0, 1, 12, 1000] {
            assert!(partition_for_key(b"dev1", n).0 < n.max(1));
            assert!(shard_of(TopicId([1; 16]), Partition(n), 1024) < 1024);
        }
    }
}
