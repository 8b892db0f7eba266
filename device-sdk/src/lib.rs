//! What a device needs to hand readings to a Culvert gateway: sample, deadband, batch, queue, MQTT 5.
//!
//! Invariants: a reading leaves the queue only after the PUBACK of its batch, or by a declared limit, which is counted
//! in readings and told to the gateway. Readings are numbered once, and sent in order. No allocator; every buffer is
//! the caller's. What is decided ([`outbox`] and below) takes time as an argument and does no I/O; only `client`,
//! which drives it over MQTT (feature `minimq`), waits and reads embassy-time's clock.
//!
//! Deliberately missing: the network (the caller connects), TLS (it is in the caller's transport), a queue in flash.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "mutants"))]
extern crate std;

pub mod backoff;
pub mod batcher;
#[cfg(feature = "minimq")]
pub mod client;
pub mod deadband;
#[cfg(feature = "minimq")]
pub mod device;
pub mod identity;
#[cfg(feature = "minimq")]
pub mod mqtt;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod outbox;
pub mod queue;
pub mod sampler;
mod window;
