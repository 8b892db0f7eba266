//! The ledger of a spool: what became of every reading (DESIGN, promise 4). Its counters change in the transaction that
//! moves the readings, so they survive what the readings survive.

/// Counters of one spool since it was made; unit: reading. Session records are not readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Taken in, whatever became of them later.
    pub received: u64,
    /// In the log, by the broker's own word.
    pub delivered: u64,
    /// Copies of readings that were stored already.
    pub deduplicated: u64,
    /// QoS 0 readings that came while the spool was full: no protocol means to refuse them.
    pub dropped_full: u64,
    /// Readings that devices say their own queues dropped; not part of the balance, they were never received.
    pub lost_by_devices: u64,
}

impl Ledger {
    /// Whether the ledger balances with `spooled` readings on disk.
    #[must_use]
    pub fn balances(&self, spooled: u64) -> bool {
        self.received == self.delivered + spooled + self.dropped_full + self.deduplicated
    }
}
