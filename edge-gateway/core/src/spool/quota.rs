//! How much a spool may hold, and what happens when it is full. For now `reject`: a reading that does not fit is not
//! acknowledged, so its sender keeps it.

/// The spool's byte budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    budget_bytes: u64,
}

impl Quota {
    /// Kept free of readings, so that a full spool can still be drained: deleting and assigning write pages too.
    pub const RESERVE_BYTES: u64 = 4 << 20;

    /// Smallest budget: the reserve and room for a few of the largest packets.
    pub const BUDGET_BYTES_MIN: u64 = 32 << 20;

    /// A budget of this many bytes, at least [`Self::BUDGET_BYTES_MIN`].
    #[must_use]
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget_bytes: budget_bytes.max(Self::BUDGET_BYTES_MIN) }
    }

    /// The budget.
    #[must_use]
    pub fn budget_bytes(self) -> u64 {
        self.budget_bytes
    }

    /// Whether `more` bytes of readings fit beside `used`.
    #[must_use]
    pub fn admits(self, used: u64, more: u64) -> bool {
        used.saturating_add(more).saturating_add(Self::RESERVE_BYTES) <= self.budget_bytes
    }
}

const _: () = assert!(
    Quota::BUDGET_BYTES_MIN
        >= 2 * Quota::RESERVE_BYTES + 4 * wire::limits::MQTT_PACKET_BYTES_MAX as u64
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_not_for_readings() {
        let quota = Quota::new(100 << 20);
        assert!(quota.admits(0, 96 << 20));
        assert!(!quota.admits(0, (96 << 20) + 1));
        assert!(!quota.admits(u64::MAX, 1));
        assert_eq!(Quota::new(1).budget_bytes(), Quota::BUDGET_BYTES_MIN);
    }
}
