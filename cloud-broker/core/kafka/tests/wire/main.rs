//! The codec against another one, and against bytes that no client would send.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod hostile;
mod invent;
mod oracle;
