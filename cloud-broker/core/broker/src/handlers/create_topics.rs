//! CreateTopics, versions 2 to 7.
//!
//! Everything is stored once, in the log of this broker, so a replication factor says nothing here. Tools ask for 3
//! literally; any up to the setting is accepted, and Metadata and the response tell the one replica that there is.

use std::collections::BTreeMap;

use broker_kafka::ErrorCode;
use broker_kafka::generated::create_topics::{
    CreatableReplicaAssignment, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use broker_kafka::runtime::{Text, Uuid};
use wire::ids::TopicId;

use super::admin::Failure;
use super::describe_configs::told;
use super::metadata::NODE_ID;
use crate::broker::BrokerSettings;
use crate::ids::IdSource;
use crate::ingest::uplink_partitions;
use crate::metadata::{Image, Metadata, NewTopic, Ticket, TopicRefused, is_reserved};
use crate::topic_config::{RetentionDefaults, TopicConfigs};

/// Most topics in one request.
pub const TOPICS_PER_REQUEST_MAX: usize = 1_000;

/// "As the broker likes", for partitions and replication factors (KIP-464).
const DEFAULT: i32 = -1;

/// A CreateTopics request.
#[derive(Debug)]
pub struct CreateTopicsQuery {
    /// In the order of the request, each name once.
    topics: Vec<(Text, Result<Wanted, Failure>)>,
    validate_only: bool,
}

#[derive(Debug)]
struct Wanted {
    partitions: i32,
    replication: i16,
    configs: TopicConfigs,
}

/// A query whose topics are staged.
#[derive(Debug)]
pub(crate) struct WaitingCreate {
    topics: Vec<(Text, Result<TopicId, Failure>)>,
    defaults: RetentionDefaults,
}

/// The answer.
#[derive(Debug)]
pub struct CreateTopicsAnswer {
    topics: Vec<(Text, Result<Created, Failure>)>,
    defaults: RetentionDefaults,
}

/// A topic that was made, or could be.
#[derive(Debug)]
struct Created {
    id: TopicId,
    partitions: u32,
    configs: TopicConfigs,
}

/// What a CreateTopics request gets.
pub(crate) enum Outcome {
    Now(CreateTopicsAnswer),
    After(Ticket, WaitingCreate),
}

impl CreateTopicsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &CreateTopicsRequest) -> Self {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &request.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let mut topics = Vec::new();
        for topic in &request.topics {
            let wanted = match times.remove(&*topic.name) {
                None => continue,
                Some(_) if request.topics.len() > TOPICS_PER_REQUEST_MAX => Err(Failure::new(
                    ErrorCode::PolicyViolation,
                    format!("at most {TOPICS_PER_REQUEST_MAX} topics in one request"),
                )),
                Some(1) => {
                    assigned((topic.num_partitions, topic.replication_factor), &topic.assignments)
                        .and_then(|(partitions, replication)| {
                            let configs = topic.configs.iter();
                            let configs = configs.map(|c| (&*c.name, c.value.as_deref()));
                            let configs = TopicConfigs::parse(configs).map_err(|e| {
                                Failure::new(ErrorCode::InvalidConfig, e.to_string())
                            })?;
                            Ok(Wanted { partitions, replication, configs })
                        })
                }
                Some(_) => {
                    Err(Failure::new(ErrorCode::InvalidRequest, "the request names it twice"))
                }
            };
            topics.push((topic.name.detached(), wanted));
        }
        Self { topics, validate_only: request.validate_only }
    }

    /// Stages what can be made, or only looks whether it could.
    pub(crate) fn begin(
        self,
        settings: &BrokerSettings,
        metadata: &mut Metadata,
        ids: &mut IdSource,
    ) -> Outcome {
        if self.validate_only {
            let topics = self.topics.into_iter().map(|(name, wanted)| {
                let created = wanted.and_then(|wanted| {
                    let partitions = wanted.check(&name, settings, metadata)?;
                    Ok(Created { id: TopicId::default(), partitions, configs: wanted.configs })
                });
                (name, created)
            });
            let topics = topics.collect();
            return Outcome::Now(CreateTopicsAnswer { topics, defaults: settings.retention });
        }
        let mut last = None;
        let mut topics = Vec::with_capacity(self.topics.len());
        for (name, wanted) in self.topics {
            let staged = wanted.and_then(|wanted| {
                let partitions = wanted.check(&name, settings, metadata)?;
                let id = ids.topic_id();
                let topic = NewTopic { name: name.to_string(), id, partitions };
                let ticket = metadata.create(topic, wanted.configs).map_err(failure)?;
                last = last.max(Some(ticket));
                Ok(id)
            });
            topics.push((name, staged));
        }
        let waiting = WaitingCreate { topics, defaults: settings.retention };
        match last {
            Some(ticket) => Outcome::After(ticket, waiting),
            None => Outcome::Now(waiting.answer(metadata.image())),
        }
    }
}

impl Wanted {
    /// Whether this can be made; the number of partitions it gets.
    fn check(
        &self,
        name: &str,
        settings: &BrokerSettings,
        metadata: &Metadata,
    ) -> Result<u32, Failure> {
        if is_reserved(name) {
            let why = "the broker makes this topic itself";
            return Err(Failure::new(ErrorCode::InvalidTopicException, why));
        }
        let partitions = match self.partitions {
            DEFAULT => uplink_partitions(name, &settings.uplink_topics)
                .unwrap_or(settings.default_partitions),
            // Zero is refused with the numbers that are too large.
            number => u32::try_from(number).unwrap_or(0),
        };
        metadata.check(name, partitions, &self.configs).map_err(failure)?;
        let most = settings.replication_factor_max;
        if i32::from(self.replication) != DEFAULT && !(1..=most).contains(&self.replication) {
            let why = format!("the replication factor is 1 to {most}, or -1");
            return Err(Failure::new(ErrorCode::InvalidReplicationFactor, why));
        }
        Ok(partitions)
    }
}

/// Partitions and replication factor, by number or by an assignment: the only one there is has every partition here.
fn assigned(
    (partitions, replication): (i32, i16),
    assignments: &[CreatableReplicaAssignment],
) -> Result<(i32, i16), Failure> {
    if assignments.is_empty() {
        return Ok((partitions, replication));
    }
    if partitions != DEFAULT || i32::from(replication) != DEFAULT {
        let why = "an assignment needs partitions and replication factor of -1";
        return Err(Failure::new(ErrorCode::InvalidRequest, why));
    }
    let mut indexes: Vec<i32> = assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let is_dense = indexes.iter().zip(0..).all(|(&index, at)| index == at);
    let is_here = assignments.iter().all(|a| a.broker_ids == [NODE_ID]);
    match i32::try_from(indexes.len()) {
        Ok(count) if is_dense && is_here => Ok((count, replication)),
        Ok(_) | Err(_) => Err(Failure::new(
            ErrorCode::InvalidReplicaAssignment,
            format!("partitions are numbered from 0 without a gap, and broker {NODE_ID} has each"),
        )),
    }
}

impl WaitingCreate {
    /// The answer as the image stands now.
    pub(crate) fn answer(self, image: &Image) -> CreateTopicsAnswer {
        let topics = self.topics.into_iter().map(|(name, staged)| {
            let created = staged.and_then(|id| {
                let topic = image.by_id(id).ok_or_else(Failure::not_stored)?;
                let configs = topic.configs.clone();
                Ok(Created { id, partitions: topic.partitions, configs })
            });
            (name, created)
        });
        CreateTopicsAnswer { topics: topics.collect(), defaults: self.defaults }
    }
}

impl CreateTopicsAnswer {
    pub(super) fn into_response(self) -> CreateTopicsResponse {
        let topics = self.topics.into_iter().map(|(name, created)| match created {
            Ok(created) => CreatableTopicResult {
                name,
                topic_id: Uuid::from(created.id),
                error_message: None,
                num_partitions: i32::try_from(created.partitions).unwrap_or(i32::MAX),
                replication_factor: 1,
                configs: Some(configs(&created.configs, &self.defaults)),
                ..CreatableTopicResult::default()
            },
            Err(failure) => CreatableTopicResult {
                name,
                error_code: i16::from(failure.code),
                error_message: failure.text(),
                ..CreatableTopicResult::default()
            },
        });
        CreateTopicsResponse { topics: topics.collect(), ..CreateTopicsResponse::default() }
    }
}

fn configs(configs: &TopicConfigs, defaults: &RetentionDefaults) -> Vec<CreatableTopicConfigs> {
    let all = told(configs, defaults).map(|told| CreatableTopicConfigs {
        name: Text::from_static(told.config.name),
        value: Some(told.value),
        read_only: false,
        config_source: told.source,
        is_sensitive: false,
    });
    all.collect()
}

pub(super) fn failure(refused: TopicRefused) -> Failure {
    let code = match refused {
        TopicRefused::Exists => ErrorCode::TopicAlreadyExists,
        TopicRefused::Full => ErrorCode::PolicyViolation,
        TopicRefused::Name => ErrorCode::InvalidTopicException,
        TopicRefused::Partitions => ErrorCode::InvalidPartitions,
    };
    Failure::new(code, refused.to_string())
}
