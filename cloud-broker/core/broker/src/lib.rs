//! The broker without its sockets and disks: Kafka's APIs, the uplink's broker side, the metadata, and who waits for what.
//!
//! The shell's connections turn bytes into [`Event`]s ([`receive`], [`UplinkRequest::parse`]: everything that needs the
//! bytes and no state), one task drives the [`Broker`], and what comes out are [`Effect`]s. Answers to fetches and lookups
//! are plans: the connection reads the files and completes them.
//!
//! Invariants: nothing is acknowledged or shown that is not durable, a topic neither; each request gets exactly one answer;
//! given the same events, times and seed, the same effects come out.
//!
//! Deliberately missing: sockets, files, clocks, randomness; transactions; more than one broker.

mod broker;
mod conn;
mod event;
mod groups;
mod handlers;
mod ids;
mod ingest;
mod metadata;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
pub mod mutant;
mod pending;
#[cfg(test)]
mod sim;
mod topic_config;

pub use broker::{Broker, BrokerError, BrokerSettings, BrokerStats, DiskSpace, Identity};
pub use conn::{Received, Reply, RequestInfo, receive};
pub use event::{Answer, Asker, ClientId, Effect, Event, SessionId};
pub use groups::{GroupsChunk, GroupsRead};
pub use handlers::{
    AdminAnswer, AdminRequest, AlterConfigsAnswer, AlterConfigsQuery, CheckedProduce,
    CreatePartitionsAnswer, CreatePartitionsQuery, CreateTopicsAnswer, CreateTopicsQuery,
    DELETE_RECORDS_WAIT_MS_MAX, DeleteRecordsAnswer, DeleteRecordsQuery, DeleteTopicsAnswer,
    DeleteTopicsQuery, DescribeConfigsAnswer, DescribeConfigsQuery, FETCH_BYTES_MAX,
    FETCH_WAIT_MS_MAX, FetchAnswer, FetchQuery, GroupRequest, InitProducerIdAnswer,
    InitProducerIdQuery, KafkaRequest, LOOKUP_RUNS_MAX, LookupAnswer, LookupProgress, LookupQuery,
    MetadataQuery, PieceLost, ProduceAnswer, RESOURCES_PER_REQUEST_MAX, ReadPiece,
    TOPICS_PER_REQUEST_MAX,
};
pub use ingest::{
    AppendRequest, HelloRequest, RequestError, SESSION_BYTES_MAX, SESSION_FRAMES_MAX, SHARDS,
    UplinkAnswer, UplinkRequest,
};
pub use metadata::{
    ControlWrite, DELETED_TOPICS_MAX, IMAGE_BYTES_MAX, Image, PARTITIONS_MAX, StoredError,
    TOPIC_PARTITIONS_MAX, TOPICS_MAX,
};
pub use topic_config::RetentionDefaults;
