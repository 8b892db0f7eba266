//! The sum that tells whether units hold the same batches (docs/formats/unit.md, "Setsum").

use wire::offset::Offset;

use crate::ids::PartitionKey;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A batch's number in the setsum of whatever holds it; the setsum is their wrapping sum. `crc` is the batch's own.
#[must_use]
pub fn setsum_of_batch(key: PartitionKey, base_offset: Offset, crc: u32) -> u64 {
    let whose = u64::from(key.topic_no.0) << 32 | u64::from(key.partition.0);
    let mut sum = mix(GAMMA.wrapping_add(whose));
    for part in [base_offset.0.cast_unsigned(), u64::from(crc)] {
        sum = mix(sum.wrapping_add(GAMMA).wrapping_add(part));
    }
    sum
}

/// `SplitMix64`'s: a bijection in which every input bit moves half of the output's.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
