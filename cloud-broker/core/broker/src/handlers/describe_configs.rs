//! DescribeConfigs, versions 1 to 4, for topics and the broker.
//!
//! Every config is told, set or not (tools read all and write all back), with what gives its value.

use std::collections::BTreeSet;

use broker_kafka::ErrorCode;
use broker_kafka::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use broker_kafka::runtime::Text;
use broker_log::PRODUCER_EXPIRATION_MS;
use wire::limits::is_topic_name;

use super::admin::Failure;
use super::metadata::NODE_ID;
use crate::broker::BrokerSettings;
use crate::metadata::Image;
use crate::topic_config::{Kind, RetentionDefaults, TOPIC_CONFIGS, TopicConfig, TopicConfigs};

/// Most resources in one request.
pub const RESOURCES_PER_REQUEST_MAX: usize = 2_000;

/// Kafka's `ConfigResource.Type`.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Kafka's `ConfigSource`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Kafka's `ConfigType`.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;

/// A DescribeConfigs request.
#[derive(Debug)]
pub struct DescribeConfigsQuery {
    resources: Vec<Resource>,
    include_synonyms: bool,
}

#[derive(Debug)]
struct Resource {
    kind: i8,
    name: Text,
    /// `None`: all of them, as for Kafka also if a request names none.
    keys: Option<BTreeSet<String>>,
}

/// The answer.
#[derive(Debug)]
pub struct DescribeConfigsAnswer {
    resources: Vec<(Resource, Result<Found, Failure>)>,
    include_synonyms: bool,
    defaults: RetentionDefaults,
}

#[derive(Debug)]
enum Found {
    /// Name, type and value of each.
    Broker(Vec<(&'static str, i8, String)>),
    Topic(TopicConfigs),
}

/// What is told of a topic's config.
pub(super) struct Told {
    pub(super) config: &'static TopicConfig,
    pub(super) value: Text,
    pub(super) source: i8,
}

/// Every config of a topic.
pub(super) fn told(
    configs: &TopicConfigs,
    defaults: &RetentionDefaults,
) -> impl Iterator<Item = Told> {
    TOPIC_CONFIGS.iter().map(|config| match configs.own(config.name) {
        Some(own) => Told { config, value: Text::from(own), source: SOURCE_TOPIC },
        None => {
            let (value, source) = default_of(config, defaults);
            Told { config, value, source }
        }
    })
}

/// What a config is if the topic has not set it, and whether the broker's settings say so.
fn default_of(config: &'static TopicConfig, defaults: &RetentionDefaults) -> (Text, i8) {
    match defaults.of(config) {
        text if text == config.default => (Text::from_static(config.default), SOURCE_DEFAULT),
        text => (Text::from(&*text), SOURCE_BROKER),
    }
}

impl DescribeConfigsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &DescribeConfigsRequest) -> Self {
        let resources = request.resources.iter().map(|resource| {
            let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
            Resource {
                kind: resource.resource_type,
                name: resource.resource_name.detached(),
                keys: keys.map(|keys| keys.iter().map(|key| key.to_string()).collect()),
            }
        });
        Self { resources: resources.collect(), include_synonyms: request.include_synonyms }
    }

    /// The answer as things stand now.
    pub(crate) fn answer(self, settings: &BrokerSettings, image: &Image) -> DescribeConfigsAnswer {
        let are_too_many = self.resources.len() > RESOURCES_PER_REQUEST_MAX;
        let resources = self.resources.into_iter().map(|resource| {
            let found = if are_too_many {
                let why = format!("at most {RESOURCES_PER_REQUEST_MAX} resources in one request");
                Err(Failure::new(ErrorCode::PolicyViolation, why))
            } else {
                resource.find(settings, image)
            };
            (resource, found)
        });
        DescribeConfigsAnswer {
            resources: resources.collect(),
            include_synonyms: self.include_synonyms,
            defaults: settings.retention,
        }
    }
}

impl Resource {
    fn find(&self, settings: &BrokerSettings, image: &Image) -> Result<Found, Failure> {
        let invalid = |why: String| Err(Failure::new(ErrorCode::InvalidRequest, why));
        match self.kind {
            TOPIC => match image.by_name(&self.name) {
                Some(topic) => Ok(Found::Topic(topic.configs.clone())),
                None if is_topic_name(&self.name) => {
                    let why = "this broker has no such topic";
                    Err(Failure::new(ErrorCode::UnknownTopicOrPartition, why))
                }
                None => {
                    let why = "not a topic name";
                    Err(Failure::new(ErrorCode::InvalidTopicException, why))
                }
            },
            // Without a name: what is set for all brokers, which nothing is.
            BROKER if self.name.is_empty() => Ok(Found::Broker(Vec::new())),
            BROKER if self.name.parse() == Ok(NODE_ID) => Ok(Found::Broker(broker(settings))),
            BROKER => invalid(format!("the only broker is {NODE_ID}")),
            _ => invalid("only topics and brokers have configs here".to_owned()),
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.contains(name))
    }
}

/// What clients look at of a broker, under Kafka's names.
fn broker(settings: &BrokerSettings) -> Vec<(&'static str, i8, String)> {
    let address = format!("PLAINTEXT://{}:{}", settings.advertised_host, settings.advertised_port);
    let mut configs = vec![
        ("advertised.listeners", TYPE_LIST, address),
        ("auto.create.topics.enable", TYPE_BOOLEAN, settings.auto_create_topics.to_string()),
        ("broker.id", TYPE_INT, NODE_ID.to_string()),
        ("default.replication.factor", TYPE_INT, "1".to_owned()),
        ("delete.topic.enable", TYPE_BOOLEAN, "true".to_owned()),
        ("node.id", TYPE_INT, NODE_ID.to_string()),
        ("num.partitions", TYPE_INT, settings.default_partitions.to_string()),
        ("producer.id.expiration.ms", TYPE_INT, PRODUCER_EXPIRATION_MS.to_string()),
    ];
    let defaults = TOPIC_CONFIGS.iter();
    configs.extend(defaults.map(|config| {
        let value = settings.retention.of(config).into_owned();
        (config.broker, type_of(config.kind), value)
    }));
    configs.sort_unstable_by_key(|(name, ..)| *name);
    configs
}

fn type_of(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => TYPE_BOOLEAN,
        Kind::Ratio => TYPE_DOUBLE,
        Kind::Int(..) => TYPE_INT,
        Kind::Long(_) => TYPE_LONG,
        Kind::List(_) => TYPE_LIST,
        Kind::OneOf(_) => TYPE_STRING,
    }
}

impl DescribeConfigsAnswer {
    pub(super) fn into_response(self) -> DescribeConfigsResponse {
        let (include_synonyms, defaults) = (self.include_synonyms, self.defaults);
        let results = self.resources.into_iter().map(|(resource, found)| {
            let (configs, failure) = match found {
                Ok(Found::Broker(configs)) => {
                    let wanted = configs.into_iter().filter(|(name, ..)| resource.wants(name));
                    (wanted.map(of_broker).collect(), None)
                }
                Ok(Found::Topic(configs)) => {
                    let wanted =
                        told(&configs, &defaults).filter(|told| resource.wants(told.config.name));
                    let synonyms = include_synonyms.then_some(&defaults);
                    (wanted.map(|told| of_topic(told, synonyms)).collect(), None)
                }
                Err(failure) => (Vec::new(), Some(failure)),
            };
            DescribeConfigsResult {
                error_code: failure.as_ref().map_or(0, |failure| i16::from(failure.code)),
                error_message: failure.as_ref().and_then(Failure::text),
                resource_type: resource.kind,
                resource_name: resource.name,
                configs,
            }
        });
        DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
    }
}

fn of_broker((name, kind, value): (&'static str, i8, String)) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: Text::from_static(name),
        value: Some(Text::from(value.as_str())),
        read_only: true,
        config_source: SOURCE_BROKER,
        config_type: kind,
        documentation: None,
        ..DescribeConfigsResourceResult::default()
    }
}

fn of_topic(told: Told, synonyms_by: Option<&RetentionDefaults>) -> DescribeConfigsResourceResult {
    let config = told.config;
    let mut synonyms = Vec::new();
    if let Some(defaults) = synonyms_by {
        if told.source == SOURCE_TOPIC {
            synonyms.push(DescribeConfigsSynonym {
                name: Text::from_static(config.name),
                value: Some(told.value.clone()),
                source: SOURCE_TOPIC,
            });
        }
        let (value, source) = default_of(config, defaults);
        synonyms.push(DescribeConfigsSynonym {
            name: Text::from_static(config.broker),
            value: Some(value),
            source,
        });
    }
    DescribeConfigsResourceResult {
        name: Text::from_static(config.name),
        value: Some(told.value),
        read_only: false,
        config_source: told.source,
        synonyms,
        config_type: type_of(config.kind),
        documentation: None,
        ..DescribeConfigsResourceResult::default()
    }
}
