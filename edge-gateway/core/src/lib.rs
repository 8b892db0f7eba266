//! What a gateway decides, without doing it: which publish is acknowledged and when, what is a copy, what goes into
//! which batch of the uplink, what the broker's answers mean for the spool.
//!
//! Invariants: no acknowledgement exists before the store has synced ([`gateway::Gateway::commit`] returns the verdicts);
//! a sequence of an uplink stream names one reading for ever; nothing is deleted before the log has it.
//!
//! This crate knows no sockets, files, SQL, clocks, randomness or threads: bytes, times and entropy come in as
//! arguments, decisions go out as values.

pub mod dedupe;
pub mod device_batch;
pub mod gateway;
pub mod hub;
pub mod json;
pub mod ledger;
pub mod mqtt;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod routing;
pub mod spool;
pub mod uplink;
