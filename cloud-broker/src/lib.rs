//! The broker's process: sockets, disk and clock around `broker-core`, which decides.
//!
//! Used by the `cloud-broker` binary, and by `culvert up`, which runs it beside a gateway.
//!
//! Deliberately missing: anything that could be decided without I/O.

mod cold_reader;
mod config;
mod control_store;
mod data_folder;
mod engine;
mod health;
mod ingest_quic;
pub mod job_threads;
mod kafka_tcp;
pub mod log_folder;
mod memory;
mod metrics;
mod quic_keys;
mod runtime;
mod sync_latency;
mod tls;

pub use config::{Config, HostPort, Settings, SettingsError, StorageSettings};
pub use log_folder::{StoreError, WalError};
pub use metrics::{METRICS, Metric, MetricKind};
pub use quic_keys::QuicKeysError;
pub use runtime::{Running, StartError, check, start};
pub use sync_latency::SyncLatency;
pub use tls::{TlsError, TlsFiles};
