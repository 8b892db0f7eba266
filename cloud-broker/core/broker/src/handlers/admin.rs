//! What the administrative APIs have in common: each is a request that the broker answers by itself or after a change of
//! the metadata, and an answer that the connection makes into a response (which may be large, and is small until then).

use broker_kafka::generated::Request;
use broker_kafka::runtime::Text;
use broker_kafka::{ErrorCode, Response};

use super::create_topics::{CreateTopicsAnswer, CreateTopicsQuery, WaitingCreate};
use super::delete_topics::{DeleteTopicsAnswer, DeleteTopicsQuery, WaitingDelete};
use super::describe_configs::{DescribeConfigsAnswer, DescribeConfigsQuery};
use super::init_producer_id::{InitProducerIdAnswer, InitProducerIdQuery};

/// A request of an administrative API.
#[derive(Debug)]
pub enum AdminRequest {
    /// CreateTopics.
    CreateTopics(CreateTopicsQuery),
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
    /// To CreateTopics.
    CreateTopics(CreateTopicsAnswer),
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
    CreateTopics(WaitingCreate),
    DeleteTopics(WaitingDelete),
    InitProducerId,
}

impl AdminRequest {
    /// Takes what matters from a request of this version; `None` for another API.
    pub(super) fn new(version: i16, request: &Request) -> Option<Self> {
        Some(match request {
            Request::CreateTopics(create) => Self::CreateTopics(CreateTopicsQuery::new(create)),
            Request::DeleteTopics(delete) => {
                Self::DeleteTopics(DeleteTopicsQuery::new(version, delete))
            }
            Request::DescribeConfigs(describe) => {
                Self::DescribeConfigs(DescribeConfigsQuery::new(describe))
            }
            Request::InitProducerId(init) => Self::InitProducerId(InitProducerIdQuery::new(init)),
            _ => return None,
        })
    }

    /// The API's name, for metrics.
    #[must_use]
    pub fn api_name(&self) -> &'static str {
        match self {
            Self::CreateTopics(_) => "CreateTopics",
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
            Self::CreateTopics(answer) => answer.into_response().into(),
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
