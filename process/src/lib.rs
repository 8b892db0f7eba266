//! What every Culvert process does the same way: clocks, an orderly end, listeners, settings, logs, metrics and probes.
//!
//! Knows nothing of gateways or brokers, holds no product state, and decides nothing about data.

mod admin_http;
mod clock;
mod config;
mod limits;
mod listen;
mod shutdown;
mod telemetry;

pub use admin_http::{Probe, serve};
pub use clock::Clock;
pub use config::{CONFIG_FILE_BYTES_MAX, ConfigError, Layer, read_toml};
pub use limits::raise_file_limit;
pub use listen::{
    ListenError, ListenerSpec, Protection, announce, bind_tcp, bind_udp, require_safe,
};
pub use shutdown::{FatalError, Shutdown, ShutdownTrigger, Vital, watch_signals};
pub use telemetry::{LOG_ENV, Metrics, init_logging, install_metrics};
