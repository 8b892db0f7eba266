//! Random numbers that a seed repeats: one stream per subsystem, so that one that draws more often than before does not
//! change what the others see.

use gateway_core::gateway::Entropy;

/// One stream of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `subsystem` in the run of `seed`.
    #[must_use]
    pub fn new(seed: u64, subsystem: &str) -> Self {
        // FNV-1a, then one step of SplitMix64: neighbouring seeds and names part at once.
        let name = subsystem.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut rng = Self(seed ^ name);
        let first = rng.number();
        Self(first)
    }

    /// 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A place in a list of `len`, which is at least 1.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Entropy for Rng {
    fn random(&mut self) -> u64 {
        self.number()
    }
}

/// The streams of one run.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) adversary: Rng,
    pub(crate) broker: Rng,
    pub(crate) devices: Rng,
    pub(crate) disk: Rng,
    pub(crate) faults: Rng,
    pub(crate) gateways: Rng,
    pub(crate) jobs: Rng,
    pub(crate) network: Rng,
}

impl Streams {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            adversary: Rng::new(seed, "adversary"),
            broker: Rng::new(seed, "broker"),
            devices: Rng::new(seed, "devices"),
            disk: Rng::new(seed, "disk"),
            faults: Rng::new(seed, "faults"),
            gateways: Rng::new(seed, "gateways"),
            jobs: Rng::new(seed, "jobs"),
            network: Rng::new(seed, "network"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_seed_and_name() {
        let numbers = |seed, name| {
            let mut rng = Rng::new(seed, name);
            [rng.number(), rng.number(), rng.number()]
        };
        assert_eq!(numbers(1, "disk"), numbers(1, "disk"));
        assert_ne!(numbers(1, "disk"), numbers(2, "disk"));
        assert_ne!(numbers(1, "disk"), numbers(1, "network"));
    }
}
