//! IncrementalAlterConfigs, versions 0 and 1: single configs of a topic are set, changed or given their defaults again.

use broker_kafka::ErrorCode;
use broker_kafka::generated::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::admin::Failure;
use super::alter_configs::{AlterApi, AlterConfigsAnswer, AlterConfigsQuery, Wanted};
use crate::topic_config::{Amendment, Operation};

/// Takes what matters from a request.
pub(super) fn query(request: &IncrementalAlterConfigsRequest) -> AlterConfigsQuery {
    let resources = request.resources.iter().map(|resource| {
        let amendments: Result<_, _> = resource.configs.iter().map(amendment).collect();
        (resource.resource_type, &resource.resource_name, amendments.map(Wanted::Amended))
    });
    AlterConfigsQuery::of(AlterApi::Incremental, request.validate_only, resources)
}

/// Reads Kafka's `AlterConfigOp`.
fn amendment(config: &AlterableConfig) -> Result<Amendment, Failure> {
    let operation = match config.config_operation {
        0 => Operation::Set,
        1 => Operation::Delete,
        2 => Operation::Append,
        3 => Operation::Subtract,
        other => {
            let why = format!("unknown operation {other}");
            return Err(Failure::new(ErrorCode::InvalidRequest, why));
        }
    };
    Ok(Amendment {
        name: config.name.to_string(),
        operation,
        value: config.value.as_ref().map(|value| value.to_string()),
    })
}

pub(super) fn response(answer: AlterConfigsAnswer) -> IncrementalAlterConfigsResponse {
    let responses = answer.resources.into_iter().map(|(resource, altered)| {
        let failure = altered.err();
        AlterConfigsResourceResponse {
            error_code: failure.as_ref().map_or(0, |failure| i16::from(failure.code)),
            error_message: failure.as_ref().and_then(Failure::text),
            resource_type: resource.kind,
            resource_name: resource.name,
        }
    });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    }
}
