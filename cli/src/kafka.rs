//! A reader of the log through the Kafka protocol: what any consumer sees, with the codec that the broker has.
//!
//! One connection, to the address given: Culvert's broker serves every partition. Reads follow all partitions of a topic,
//! through restarts of the broker and through topics that come, grow, go and come again; positions are kept here, so
//! nothing is read twice or passed over because a connection broke.
//!
//! Deliberately missing: consumer groups, authentication, and brokers that each lead some of the partitions.

mod connection;
mod decode;
mod notice;
mod reader;

pub use decode::LogRecord;
pub use reader::{Start, Step, TopicReader};
