//! What the end-to-end tests stand on: real processes, and the foreign clients that people use with them.
//!
//! Every test plays on a [`Stage`]: a temporary folder and a loopback address of its own, so that tests run side by side
//! and a process that is killed comes back on the same ports. Nothing here links Culvert's code: what is tested is what
//! is shipped, through the sockets that users have.

mod board;
mod certificates;
mod chance;
mod consumer;
mod device;
mod device_batch;
mod http;
mod kcat;
mod ledger;
mod log_dump;
mod mosquitto;
mod mqtt;
mod process;
mod proxy;
mod settings;
mod shim;
mod site;
mod small_disk;
mod stage;
mod storage_load;
mod tools;
mod wait;

pub use board::{Board, BoardPlan};
pub use certificates::{Authority, Identity};
pub use chance::Chance;
pub use consumer::{ClientKind, Consumer, ConsumerPlan};
pub use device::{Device, DevicePlan, DeviceReport};
pub use device_batch::{BatchReading, BatchValue, DeviceBatch};
pub use http::{Answer, get, metric, request};
pub use kcat::{Record, produce, read_topic};
pub use ledger::{check_dense, check_device, check_present};
pub use log_dump::dump_log;
pub use mosquitto::{Publisher, PublisherReport, Subscriber, publish};
pub use mqtt::{Client, Connect, Packet, Publish, Version, connect_packet, publish_packet};
pub use process::{Launch, Process};
pub use proxy::{Cut, Proxy};
pub use settings::{Settings, Tested};
pub use shim::SyncShim;
pub use site::{Site, up, wait_until_delivered};
pub use small_disk::{SmallDisk, used};
pub use stage::{Stage, scenario};
pub use storage_load::{LoadTopic, StorageLedger, StorageLoad};
pub use tools::{CONFLUENT_KAFKA_CLIENT, Tool, confluent_kafka, kafka_tool, run_tool};
pub use wait::{PATIENCE, until};
