//! The coordinator on virtual time, driven as the broker drives it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod expiry;
mod fencing;
mod harness;
mod limits;
mod offsets;
mod rebalance;
mod replay;
mod static_members;
