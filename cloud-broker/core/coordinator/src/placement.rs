//! Which partition of `__consumer_offsets` a group lives in.

/// The partition of a group among `partitions`, as Kafka computes it (`GroupCoordinatorService.partitionFor`): tools look
/// for a group's records there.
#[must_use]
pub fn partition_of(group: &str, partitions: u32) -> u32 {
    // `Utils.abs` of Kafka: the one number without a positive counterpart is 0.
    let hash = java_hash(group).checked_abs().unwrap_or(0);
    hash.unsigned_abs() % partitions.max(1)
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_java_s() {
        // Values of Java's String.hashCode.
        for (text, hash) in [
            ("", 0),
            ("a", 97),
            ("hello", 99_162_322),
            ("polygenelubricants", i32::MIN),
            ("größe", 98_762_257),
            ("\u{1f600}", 1_772_899),
        ] {
            assert_eq!(java_hash(text), hash, "{text:?}");
        }
    }

    #[test]
    fn every_group_has_a_partition() {
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
        assert_eq!(partition_of("größe", 50), 98_762_257 % 50);
        assert_eq!(partition_of("any", 1), 0);
    }
}
