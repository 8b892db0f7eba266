//! The engine at its boundary: batches in, slots out, files back in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
mod checkpoint;
mod compaction;
mod corruption;
mod crash;
mod disk;
mod engine;
mod exact;
mod golden;
mod job_room;
mod life;
mod model;
mod producers;
mod reads;
mod retention;
mod units;
mod upkeep;
mod uplink;
mod world;
