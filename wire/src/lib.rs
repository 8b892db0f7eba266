//! What Culvert's products agree on: identities, sequence numbers, limits, what a device sends, the frames between
//! gateway and broker, and the Kafka record batch that passes through all of them unchanged.
//!
//! Invariants: no I/O, clock, randomness or allocation that a peer can size; every decoder checks lengths before it
//! trusts them. Without the `std` feature this crate builds for devices and holds what a device needs; `std` adds
//! the uplink frames and the record batch.
//!
//! Deliberately missing: sockets, files, any policy (what is dropped, retried or acknowledged is decided by the cores).
#![no_std]

#[cfg(feature = "std")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod batch;
pub mod ids;
pub mod limits;
pub mod offset;
pub mod partition;
pub mod reading;
#[cfg(feature = "std")]
pub mod record_batch;
pub mod schema;
pub mod seq;
pub mod time;
#[cfg(feature = "std")]
pub mod uplink;
