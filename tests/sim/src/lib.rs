//! The whole way of a reading on virtual time: devices, gateways and a broker, all of them shipped cores, on one event
//! heap, with everything going wrong that a seed draws (docs/simulation.md).
//!
//! Invariants: a seed alone decides a run, to the byte of its trace; frames travel as bytes; nothing is acknowledged by
//! the simulator that a core did not acknowledge.
//!
//! Deliberately missing: sockets, files, threads, and the shells' own code, for which `tests/e2e` has real processes.

#[cfg(feature = "mutants")]
mod broken;
mod clock;
mod describe;
mod device;
mod event;
mod fault;
mod oracle;
mod pipe;
mod read_log;
mod rng;
mod run;
mod schedule;
mod trace;
mod world;

#[cfg(feature = "mutants")]
pub use broken::Broken;
pub use run::{Keep, Outcome, command, run};
pub use world::Violation;
