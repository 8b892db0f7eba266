//! Two kinds of time that must never be mixed: a monotonic clock for waiting, wall time for people.

use core::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds of a monotonic clock since some fixed point of this process. Never goes back; means nothing elsewhere.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct MonoMs(pub u64);

impl Add<u64> for MonoMs {
    type Output = Self;

    /// This time plus `ms` milliseconds.
    fn add(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub for MonoMs {
    type Output = u64;

    /// Milliseconds from `earlier` to this time; 0 if that lies ahead.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds since 1970-01-01 UTC by a wall clock, which may jump either way. 64 bits on every target, so that a
/// 32-bit gateway outlives 2038.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct UnixMs(pub i64);
