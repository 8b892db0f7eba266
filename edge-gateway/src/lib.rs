//! The gateway's process: sockets, the spool's database, QUIC, clocks and settings around [`gateway_core`].
//!
//! What is decided lives in the core; this crate moves bytes, and holds two promises by its order of calls: an
//! acknowledgement is sent only after the store thread has answered, and that answers only after the sync.

mod config;
mod entropy;
mod hub_task;
mod metrics;
mod mqtt_tcp;
mod runtime;
mod spool_sqlite;
mod store_thread;
mod tls;
mod uplink_quic;

pub use gateway_core::gateway::Status;

pub use config::{Config, HTTP_LISTEN_FLAG, MQTT_LISTEN_FLAG, SettingError, Settings};
pub use runtime::{Running, STUCK_MS, StartError, start};
pub use spool_sqlite::OpenError;
pub use tls::{TlsError, TlsFiles};
