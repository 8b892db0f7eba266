//! Every limit of what is kept for local subscribers. All of it is memory.

/// Subscriptions that one client may have.
pub const SUBSCRIPTIONS_PER_CLIENT_MAX: usize = 1_000;

/// Subscriptions that all clients together may have.
pub const SUBSCRIPTIONS_MAX: usize = 200_000;

/// Retained messages.
pub const RETAINED_MAX: usize = 10_000;

/// What retained messages may take, in bytes.
pub const RETAINED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Messages that may wait for one client: more than are retained, so that a subscription to all of them gets all.
pub const QUEUE_MAX: usize = 16_384;

/// What they may take, in bytes.
pub const QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What all queues together may take, in bytes.
pub const QUEUES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Sessions kept without a connection. Beyond it the one that expires first is given up.
pub const OFFLINE_SESSIONS_MAX: usize = 50_000;

/// The longest that a session is kept without a connection, in seconds: a week. MQTT 5 clients are told.
pub const SESSION_EXPIRY_MAX_S: u32 = 7 * 24 * 3_600;

/// Messages that a connection has taken from its queue and not sent.
pub const WINDOW_MAX: usize = 128;

/// What they may take, in bytes. One may overshoot it.
pub const WINDOW_BYTES_MAX: usize = 128 * 1024;

const _: () = assert!(RETAINED_MAX < QUEUE_MAX);
const _: () = assert!(crate::mqtt::CREDIT_WORTH < WINDOW_MAX);
const _: () = assert!(QUEUE_BYTES_MAX < QUEUES_BYTES_MAX);
