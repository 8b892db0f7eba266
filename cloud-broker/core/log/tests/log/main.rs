//! The engine at its boundary: batches in, slots out, files back in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
mod checkpoint;
mod corruption;
mod crash;
mod disk;
mod engine;
mod golden;
mod producers;
mod reads;
mod uplink;
