//! The whole process in this one: real sockets, real files, real certificates.

#![allow(clippy::unwrap_used, reason = "a test that unwraps an error has found something")]

mod gauge;
mod harness;
mod hostile;
mod kafka;
mod start;
mod storage;
mod topics;
mod uplink;
