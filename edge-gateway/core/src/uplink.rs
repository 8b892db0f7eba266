//! The gateway's side of the uplink protocol (docs/protocols/uplink.md).

pub mod backoff;
pub mod batch;
pub mod window;
