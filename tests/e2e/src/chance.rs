//! Random choices that a seed repeats.

use std::time::Duration;

/// A small generator (xorshift64*): spread is all that is asked of it.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The choices that follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Mixed, so that neighbouring seeds part at once; the state must not be 0.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { state: state.max(1) }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A time below `end`.
    pub fn below(&mut self, end: Duration) -> Duration {
        let micros = u64::try_from(end.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.number() % micros)
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.number().to_be_bytes()).flatten().take(len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_choices_and_others_differ() {
        let bytes = |seed| Chance::new(seed).bytes(100);
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        assert_eq!(bytes(7).len(), 100);
        let mut chance = Chance::new(0);
        let end = Duration::from_millis(3);
        assert!((0..1_000).all(|_| chance.below(end) < end));
    }
}
