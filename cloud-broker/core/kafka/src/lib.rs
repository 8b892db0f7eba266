//! Kafka's wire protocol for the broker: the messages of Kafka 4.1 as values, their frames, which versions are served,
//! and the records inside a batch.
//!
//! Invariants: no input makes it panic; memory taken for a message is bounded by its frame's size and a constant before
//! it is allocated; record batches pass through as bytes and are decoded only to find a time
//! and for compaction by key.
//!
//! Deliberately missing: sockets, what any request does, and the header of a record batch, which `wire` has.

pub mod error_code;
pub mod frame;
pub mod generated;
pub mod records;
pub mod runtime;
pub mod versions;

pub use error_code::ErrorCode;
pub use frame::{Incoming, RequestHeader, Stage};
pub use generated::{ApiKey, Request, Response};
