//! The coordinator on virtual time, driven as the broker drives it.

mod expiry;
mod fencing;
mod harness;
mod limits;
mod offsets;
mod rebalance;
mod replay;
mod static_members;
