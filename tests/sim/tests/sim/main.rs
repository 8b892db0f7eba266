//! Seeds of the whole system, and the simulator itself under test (docs/simulation.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod determinism;
#[cfg(feature = "mutants")]
mod mutants;
mod seeds;
mod settings;
