//! The hub at its boundary: calls in, effects out.

mod client;
mod clients;
mod desk;
mod matching;
mod queues;
mod retaining;
mod wills;
mod world;
