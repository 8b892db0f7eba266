//! The spool: the on-disk queue of a gateway, as rows in the order of their receipt.
//!
//! A *row* is one reading; its [`RowNo`] is a counter over the whole spool, never a clock. Rows lie in *segments*, blobs
//! of the readings of one commit and lane, with a CRC. A segment is deleted only when everything in it is acknowledged.
//!
//! This module knows no files and no SQL: [`store::SpoolStore`] is what a disk must offer, [`memory::MemoryStore`] its
//! twin for tests and simulation.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod memory;
pub mod quota;
pub mod segment;
pub mod store;

use std::fmt;

/// Number of a row in its spool, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RowNo(pub u64);

impl RowNo {
    /// The first row of a new spool.
    pub const FIRST: Self = Self(1);

    /// The row `count` further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for RowNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
