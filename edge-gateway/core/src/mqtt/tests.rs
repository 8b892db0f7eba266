//! Tests of the MQTT edge at its boundary: bytes in, outputs out.

mod acknowledgement;
mod connecting;
mod exactly_once;
mod forwarding;
mod fuzz;
mod limits;
mod oracle;
mod publishing;
mod rig;
mod strictness;
mod time;
