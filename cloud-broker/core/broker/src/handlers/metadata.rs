//! Metadata, versions 0 to 13, with creation of topics that are asked for by name.
//!
//! A topic is made with the default number of partitions where both the client and the settings allow it, and the answer
//! waits until it is stored: what a client sees once, it finds again. A topic that gateways append to gets as many
//! partitions as if a gateway had asked for it: a consumer that comes first must not fix another number for ever.

use std::collections::{BTreeMap, BTreeSet};

use broker_kafka::ErrorCode;
use broker_kafka::generated::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use broker_kafka::runtime::{Text, Uuid};
use wire::ids::TopicId;
use wire::limits::is_topic_name;
use wire::offset::LeaderEpoch;

use crate::broker::BrokerSettings;
use crate::groups::is_internal;
use crate::ids::IdSource;
use crate::ingest::uplink_partitions;
use crate::metadata::{Image, Metadata, NewTopic, Ticket, Topic, TopicRefused, Wish, is_reserved};

/// The only broker, and so leader of everything and controller.
pub const NODE_ID: i32 = 1;

/// "Not asked for" in the fields of authorized operations.
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// What anybody may do with a topic as long as there are no ACLs, one bit for each of Kafka's `AclOperation` codes:
/// READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

/// The same for the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS,
/// IDEMPOTENT_WRITE.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The first version whose topics may lack a name.
const NAME_NULLABLE_FROM: i16 = 12;

/// A Metadata request.
#[derive(Debug)]
pub struct MetadataQuery {
    /// Its version.
    pub version: i16,
    /// The request.
    pub request: MetadataRequest,
}

/// A query whose answer waits for topics to be stored.
#[derive(Debug)]
pub(crate) struct WaitingMetadata {
    query: MetadataQuery,
    /// Names that were staged (then this is what is said should they not get stored) or turned down.
    unmade: BTreeMap<String, ErrorCode>,
}

/// What a Metadata request gets.
pub(crate) enum Outcome {
    Now(WaitingMetadata),
    After(Ticket, WaitingMetadata),
}

impl MetadataQuery {
    /// Stages the topics that have to be made.
    pub(crate) fn begin(
        self,
        settings: &BrokerSettings,
        metadata: &mut Metadata,
        ids: &mut IdSource,
    ) -> Outcome {
        let mut last = None;
        let mut unmade = BTreeMap::new();
        if settings.auto_create_topics && self.request.allow_auto_topic_creation {
            for name in self.missing(metadata.image()) {
                let Some(partitions) = partitions_of_new(name, settings) else {
                    unmade.insert(name.to_owned(), ErrorCode::InvalidTopicException);
                    continue;
                };
                let topic = NewTopic { name: name.to_owned(), id: ids.topic_id(), partitions };
                let code = match metadata.ensure(topic) {
                    Ok(Wish::Exists) => continue,
                    Ok(Wish::Staged(ticket)) => {
                        last = last.max(Some(ticket));
                        ErrorCode::LeaderNotAvailable
                    }
                    Err(error) => code_of(error),
                };
                unmade.insert(name.to_owned(), code);
            }
        }
        let waiting = WaitingMetadata { query: self, unmade };
        match last {
            None => Outcome::Now(waiting),
            Some(ticket) => Outcome::After(ticket, waiting),
        }
    }

    fn missing(&self, image: &Image) -> BTreeSet<&str> {
        let topics = self.request.topics.iter().flatten();
        let names = topics.filter_map(|topic| topic.name.as_deref());
        names.filter(|name| image.by_name(name).is_none()).collect()
    }

    fn wants_all(&self) -> bool {
        match &self.request.topics {
            None => true,
            Some(topics) => self.version == 0 && topics.is_empty(),
        }
    }
}

impl WaitingMetadata {
    /// The response as the image stands now.
    pub(crate) fn response(
        &self,
        settings: &BrokerSettings,
        image: &Image,
        epoch: LeaderEpoch,
    ) -> MetadataResponse {
        let query = &self.query;
        let operations = if query.request.include_topic_authorized_operations {
            TOPIC_OPERATIONS
        } else {
            OPERATIONS_UNKNOWN
        };
        let describe = |topic: &Topic| describe(topic, epoch, operations);
        let topics = if query.wants_all() {
            image.topics().map(describe).collect()
        } else {
            self.asked_for(image, &describe)
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE_ID,
                host: Text::from(settings.advertised_host.as_str()),
                port: i32::from(settings.advertised_port),
                rack: None,
            }],
            cluster_id: Some(Text::from(image.cluster_id())),
            controller_id: NODE_ID,
            topics,
            cluster_authorized_operations: if query.request.include_cluster_authorized_operations {
                CLUSTER_OPERATIONS
            } else {
                OPERATIONS_UNKNOWN
            },
            ..MetadataResponse::default()
        }
    }

    /// The topics that the request names, each once.
    fn asked_for(
        &self,
        image: &Image,
        describe: &dyn Fn(&Topic) -> MetadataResponseTopic,
    ) -> Vec<MetadataResponseTopic> {
        let mut seen = BTreeSet::new();
        let mut topics = Vec::new();
        for asked in self.query.request.topics.iter().flatten() {
            if !seen.insert((asked.name.as_deref(), asked.topic_id)) {
                continue;
            }
            topics.push(match &asked.name {
                Some(name) => match image.by_name(name) {
                    Some(topic) => describe(topic),
                    None => self.missing(Some(name.detached()), Uuid::ZERO, self.code(name)),
                },
                None => match image.by_id(TopicId::from(asked.topic_id)) {
                    Some(topic) => describe(topic),
                    None => self.missing(None, asked.topic_id, ErrorCode::UnknownTopicId),
                },
            });
        }
        topics
    }

    /// Why a topic is not there.
    fn code(&self, name: &str) -> ErrorCode {
        match self.unmade.get(name) {
            Some(code) => *code,
            None if is_topic_name(name) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::InvalidTopicException,
        }
    }

    fn missing(
        &self,
        name: Option<Text>,
        topic_id: Uuid,
        code: ErrorCode,
    ) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: i16::from(code),
            name: name.or_else(|| (self.query.version < NAME_NULLABLE_FROM).then(Text::default)),
            topic_id,
            ..MetadataResponseTopic::default()
        }
    }
}

/// How many partitions a topic gets that is made because somebody asked for it; `None`: nobody may. A later release that needs
/// a topic of its own must not find one with any number of partitions under its name.
fn partitions_of_new(name: &str, settings: &BrokerSettings) -> Option<u32> {
    if is_internal(name) {
        return Some(settings.offsets_partitions);
    }
    let of_uplink = uplink_partitions(name, &settings.uplink_topics);
    of_uplink.or_else(|| (!is_reserved(name)).then_some(settings.default_partitions))
}

fn describe(topic: &Topic, epoch: LeaderEpoch, operations: i32) -> MetadataResponseTopic {
    let partitions = (0..topic.partitions).map(|index| MetadataResponsePartition {
        partition_index: i32::try_from(index).unwrap_or(i32::MAX),
        leader_id: NODE_ID,
        leader_epoch: epoch.0,
        replica_nodes: vec![NODE_ID],
        isr_nodes: vec![NODE_ID],
        ..MetadataResponsePartition::default()
    });
    MetadataResponseTopic {
        name: Some(Text::from(topic.name.as_str())),
        topic_id: Uuid::from(topic.id),
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
        ..MetadataResponseTopic::default()
    }
}

fn code_of(error: TopicRefused) -> ErrorCode {
    match error {
        // It is there now: the client finds it when it asks again.
        TopicRefused::Exists => ErrorCode::LeaderNotAvailable,
        TopicRefused::Name => ErrorCode::InvalidTopicException,
        TopicRefused::Partitions => ErrorCode::InvalidPartitions,
        TopicRefused::Full => ErrorCode::PolicyViolation,
    }
}
