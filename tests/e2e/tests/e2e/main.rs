//! The promises, tried with real processes and the clients that people use. Each module is one of them; each test's name
//! says what holds.

mod bad_input;
mod compaction;
mod consumer_groups;
mod device_batches;
mod disk_full;
mod firmware;
mod idempotence;
mod kafka_admin;
mod kafka_clients;
mod kill;
mod log_dump;
mod mqtt_local;
mod mqtt_protocol;
mod operations;
mod outage;
mod settings;
mod shutdown;
mod spool_full;
mod storage_damage;
mod storage_kill;
mod sync_faults;
mod tail;
mod up;
mod uplink_alarm;
