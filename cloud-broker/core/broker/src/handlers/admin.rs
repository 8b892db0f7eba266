//! What the administrative APIs have in common: each is a request that the broker answers by itself or after a change of
//! the metadata, and an answer that the connection makes into a response (which may be large, and is small until then).

use broker_kafka::generated::Request;
use broker_kafka::runtime::Text;
use broker_kafka::{ErrorCode, Response};

use super::alter_configs::{AlterConfigsAnswer, AlterConfigsQuery, WaitingAlter};
use super::create_partitions::{CreatePartitionsAnswer, CreatePartitionsQuery, WaitingPartitions};
use super::create_topics::{CreateTopicsAnswer, CreateTopicsQuery, WaitingCreate};
use super::delete_records::{DeleteRecordsAnswer, DeleteRecordsQuery};
use super::delete_topics::{DeleteTopicsAnswer, DeleteTopicsQuery, WaitingDelete};
use super::describe_configs::{DescribeConfigsAnswer, DescribeConfigsQuery};
use super::incremental_alter_configs;
use super::init_producer_id::{InitProducerIdAnswer, InitProducerIdQuery};

/// A request of an administrative API.
#[derive(Debug)]
pub enum AdminRequest {
    /// AlterConfigs or IncrementalAlterConfigs.
    AlterConfigs(AlterConfigsQuery),
    /// CreatePartitions.
    CreatePartitions(CreatePartitionsQuery),
    /// CreateTopics.
    CreateTopics(CreateTopicsQuery),
    /// DeleteRecords.
    DeleteRecords(DeleteRecordsQuery),
    /// DeleteTopics.
    DeleteTopics(DeleteTopicsQuery),
    /// DescribeConfigs.
    DescribeConfigs(DescribeConfigsQuery),
    /// InitProducerId.
    InitProducerId(InitProducerIdQuery),
}

/// The answer to one.
#[derive(Debug)]
pub enum AdminAnswer {
    /// To AlterConfigs or IncrementalAlterConfigs.
    AlterConfigs(AlterConfigsAnswer),
    /// To CreatePartitions.
    CreatePartitions(CreatePartitionsAnswer),
    /// To CreateTopics.
    CreateTopics(CreateTopicsAnswer),
    /// To DeleteRecords.
    DeleteRecords(DeleteRecordsAnswer),
    /// To DeleteTopics.
    DeleteTopics(DeleteTopicsAnswer),
    /// To DescribeConfigs.
    DescribeConfigs(DescribeConfigsAnswer),
    /// To InitProducerId.
    InitProducerId(InitProducerIdAnswer),
}

/// A request that waits until a change of the metadata is stored.
#[derive(Debug)]
pub(crate) enum WaitingAdmin {
    AlterConfigs(WaitingAlter),
    CreatePartitions(WaitingPartitions),
    CreateTopics(WaitingCreate),
    DeleteTopics(WaitingDelete),
    InitProducerId,
}

/// What has become of a change of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    NotStored,
    Stored,
}

impl Settled {
    pub(crate) fn outcome(self) -> Result<(), Failure> {
        match self {
            Self::NotStored => Err(Failure::not_stored()),
            Self::Stored => Ok(()),
        }
    }
}

impl AdminRequest {
    /// Takes what matters from a request of this version; `None` for another API.
    pub(super) fn new(version: i16, request: &Request) -> Option<Self> {
        Some(match request {
            Request::AlterConfigs(alter) => Self::AlterConfigs(AlterConfigsQuery::new(alter)),
            Request::CreatePartitions(create) => {
                Self::CreatePartitions(CreatePartitionsQuery::new(create))
            }
            Request::CreateTopics(create) => Self::CreateTopics(CreateTopicsQuery::new(create)),
            Request::DeleteRecords(delete) => Self::DeleteRecords(DeleteRecordsQuery::new(delete)),
            Request::DeleteTopics(delete) => {
                Self::DeleteTopics(DeleteTopicsQuery::new(version, delete))
            }
            Request::DescribeConfigs(describe) => {
                Self::DescribeConfigs(DescribeConfigsQuery::new(describe))
            }
            Request::IncrementalAlterConfigs(alter) => {
                Self::AlterConfigs(incremental_alter_configs::query(alter))
            }
            Request::InitProducerId(init) => Self::InitProducerId(InitProducerIdQuery::new(init)),
            _ => return None,
        })
    }

    /// The API's name, for metrics.
    #[must_use]
    pub fn api_name(&self) -> &'static str {
        match self {
            Self::AlterConfigs(query) => query.api_name(),
            Self::CreatePartitions(_) => "CreatePartitions",
            Self::CreateTopics(_) => "CreateTopics",
            Self::DeleteRecords(_) => "DeleteRecords",
            Self::DeleteTopics(_) => "DeleteTopics",
            Self::DescribeConfigs(_) => "DescribeConfigs",
            Self::InitProducerId(_) => "InitProducerId",
        }
    }
}

impl AdminAnswer {
    /// The response.
    #[must_use]
    pub fn into_response(self) -> Response {
        match self {
            Self::AlterConfigs(answer) => answer.into_response(),
            Self::CreatePartitions(answer) => answer.into_response().into(),
            Self::CreateTopics(answer) => answer.into_response().into(),
            Self::DeleteRecords(answer) => answer.into_response().into(),
            Self::DeleteTopics(answer) => answer.into_response().into(),
            Self::DescribeConfigs(answer) => answer.into_response().into(),
            Self::InitProducerId(answer) => answer.into_response().into(),
        }
    }
}

/// An error for one of the things that a request asks for, with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) why: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    /// The change was staged, and then not stored.
    pub(crate) fn not_stored() -> Self {
        Self::new(ErrorCode::KafkaStorageError, "the change could not be stored; try again")
    }

    pub(crate) fn text(&self) -> Option<Text> {
        Some(Text::from(self.why.as_str()))
    }
}
