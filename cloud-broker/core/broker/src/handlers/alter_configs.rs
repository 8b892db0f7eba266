//! AlterConfigs, versions 0 to 2: all configs of a topic are replaced by those in the request. What it has in common with
//! IncrementalAlterConfigs is here too.
//!
//! Only topics can be changed: what the broker itself is set to, its operator decides.

use std::collections::BTreeMap;

use broker_kafka::generated::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use broker_kafka::runtime::Text;
use broker_kafka::{ErrorCode, Response};
use wire::ids::TopicId;
use wire::limits::is_topic_name;

use super::admin::{Failure, Settled};
use super::create_topics::failure;
use super::describe_configs::{BROKER, RESOURCES_PER_REQUEST_MAX, TOPIC};
use super::incremental_alter_configs;
use crate::broker::BrokerSettings;
use crate::groups::is_internal;
use crate::metadata::{Metadata, Ticket};
use crate::topic_config::{Amendment, ConfigRefused, TopicConfigs};

/// An AlterConfigs or IncrementalAlterConfigs request.
#[derive(Debug)]
pub struct AlterConfigsQuery {
    api: AlterApi,
    resources: Vec<(ConfigResource, Result<Wanted, Failure>)>,
    validate_only: bool,
}

/// Which of the two APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlterApi {
    Incremental,
    Whole,
}

/// What a request names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigResource {
    pub(super) kind: i8,
    pub(super) name: Text,
}

/// What is wanted of a resource.
#[derive(Debug)]
pub(super) enum Wanted {
    /// These changes.
    Amended(Vec<Amendment>),
    /// These and no others.
    Whole(TopicConfigs),
}

/// A query whose changes are staged.
#[derive(Debug)]
pub(crate) struct WaitingAlter {
    api: AlterApi,
    resources: Vec<(ConfigResource, Result<(), Failure>)>,
}

/// The answer.
#[derive(Debug)]
pub struct AlterConfigsAnswer {
    api: AlterApi,
    pub(super) resources: Vec<(ConfigResource, Result<(), Failure>)>,
}

/// What such a request gets.
pub(crate) enum Outcome {
    Now(AlterConfigsAnswer),
    After(Ticket, WaitingAlter),
}

impl AlterConfigsQuery {
    /// Takes what matters from a request.
    pub(super) fn new(request: &AlterConfigsRequest) -> Self {
        let resources = request.resources.iter().map(|resource| {
            let configs = resource.configs.iter();
            let configs = configs.map(|config| (&*config.name, config.value.as_deref()));
            let configs = TopicConfigs::parse(configs).map_err(refused);
            (resource.resource_type, &resource.resource_name, configs.map(Wanted::Whole))
        });
        Self::of(AlterApi::Whole, request.validate_only, resources)
    }

    pub(super) fn api_name(&self) -> &'static str {
        match self.api {
            AlterApi::Incremental => "IncrementalAlterConfigs",
            AlterApi::Whole => "AlterConfigs",
        }
    }

    /// Holds the resources of a request against what is common to both APIs.
    pub(super) fn of<'a>(
        api: AlterApi,
        validate_only: bool,
        resources: impl ExactSizeIterator<Item = (i8, &'a Text, Result<Wanted, Failure>)>,
    ) -> Self {
        let are_too_many = resources.len() > RESOURCES_PER_REQUEST_MAX;
        let mut wanted: Vec<(ConfigResource, Result<Wanted, Failure>)> = Vec::new();
        let mut places: BTreeMap<ConfigResource, usize> = BTreeMap::new();
        for (kind, name, changes) in resources {
            let resource = ConfigResource { kind, name: name.detached() };
            let changes = if are_too_many {
                let why = format!("at most {RESOURCES_PER_REQUEST_MAX} resources in one request");
                Err(Failure::new(ErrorCode::PolicyViolation, why))
            } else {
                changes
            };
            let place = *places.entry(resource.clone()).or_insert(wanted.len());
            match wanted.get_mut(place) {
                None => wanted.push((resource, changes)),
                Some((_, first)) => {
                    let why = "each resource must appear at most once";
                    *first = Err(Failure::new(ErrorCode::InvalidRequest, why));
                }
            }
        }
        Self { api, resources: wanted, validate_only }
    }

    /// Stages what can be changed, or only looks whether it could.
    pub(crate) fn begin(self, settings: &BrokerSettings, metadata: &mut Metadata) -> Outcome {
        let mut last = None;
        let mut resources = Vec::with_capacity(self.resources.len());
        for (resource, wanted) in self.resources {
            let staged = wanted.and_then(|wanted| {
                let (id, configs) = resource.configs(wanted, settings, metadata)?;
                if self.validate_only {
                    return metadata.check_alter(id, &configs).map_err(failure);
                }
                last = last.max(Some(metadata.alter(id, configs).map_err(failure)?));
                Ok(())
            });
            resources.push((resource, staged));
        }
        match last {
            Some(ticket) => Outcome::After(ticket, WaitingAlter { api: self.api, resources }),
            None => Outcome::Now(AlterConfigsAnswer { api: self.api, resources }),
        }
    }
}

impl ConfigResource {
    /// The topic that is meant, and the configs that it gets.
    fn configs(
        &self,
        wanted: Wanted,
        settings: &BrokerSettings,
        metadata: &Metadata,
    ) -> Result<(TopicId, TopicConfigs), Failure> {
        let invalid = |why: &str| Err(Failure::new(ErrorCode::InvalidRequest, why));
        match self.kind {
            TOPIC => {}
            BROKER => return invalid("the broker is set by its own settings, not by clients"),
            _ => return invalid("only topics have configs that can be changed"),
        }
        // Changes of others that are on their way count: they will be there first.
        let Some(topic) = metadata.latest().by_name(&self.name) else {
            return Err(if is_topic_name(&self.name) {
                let why = "this broker has no such topic";
                Failure::new(ErrorCode::UnknownTopicOrPartition, why)
            } else {
                Failure::new(ErrorCode::InvalidTopicException, "not a topic name")
            });
        };
        let defaults = &settings.retention;
        let mut configs = match wanted {
            Wanted::Whole(configs) => configs,
            Wanted::Amended(changes) => {
                topic.configs.amended(&changes, defaults).map_err(refused)?
            }
        };
        configs.complete(&self.name);
        if is_internal(&self.name)
            && (configs.cleans_by("delete", defaults) || !configs.cleans_by("compact", defaults))
        {
            // Offsets that were committed long ago would be forgotten.
            let why = "the coordinator's topic is compacted, and nothing else";
            return Err(Failure::new(ErrorCode::InvalidConfig, why));
        }
        Ok((topic.id, configs))
    }
}

/// The error for configs that are not taken.
pub(super) fn refused(refused: ConfigRefused) -> Failure {
    let code = match refused {
        ConfigRefused::Null(_) | ConfigRefused::Twice(_) => ErrorCode::InvalidRequest,
        ConfigRefused::Lags { .. }
        | ConfigRefused::NotAList(_)
        | ConfigRefused::Unknown(_)
        | ConfigRefused::Value { .. } => ErrorCode::InvalidConfig,
    };
    Failure::new(code, refused.to_string())
}

impl WaitingAlter {
    /// The answer, now that the changes are settled.
    pub(crate) fn answer(self, settled: Settled) -> AlterConfigsAnswer {
        let resources = self.resources.into_iter();
        let resources =
            resources.map(|(resource, staged)| (resource, staged.and(settled.outcome())));
        AlterConfigsAnswer { api: self.api, resources: resources.collect() }
    }
}

impl AlterConfigsAnswer {
    pub(super) fn into_response(self) -> Response {
        if self.api == AlterApi::Incremental {
            return incremental_alter_configs::response(self).into();
        }
        let responses = self.resources.into_iter().map(|(resource, altered)| {
            let failure = altered.err();
            AlterConfigsResourceResponse {
                error_code: failure.as_ref().map_or(0, |failure| i16::from(failure.code)),
                error_message: failure.as_ref().and_then(Failure::text),
                resource_type: resource.kind,
                resource_name: resource.name,
            }
        });
        AlterConfigsResponse { responses: responses.collect(), ..AlterConfigsResponse::default() }
            .into()
    }
}
