//! The log against a model of what it promises, on a disk that loses what was not synced (LOG-ENGINE's tests 2 to 5).
//!
//! A world is one broker's log with its clients; a workload is a list of steps, written down or drawn by a seed. The book
//! knows what was sent, acknowledged and deleted, and every read, restart and answer is compared with it.

mod book;
mod crash_points;
mod flips;
#[cfg(feature = "mutants")]
mod mutants;
mod op;
mod recycled;
mod seeds;
mod settings;
mod space;
mod world;
