//! AlterConfigs, IncrementalAlterConfigs, CreatePartitions: changes of topics that are there.

use broker_kafka::generated::alter_configs::{self, AlterConfigsRequest};
use broker_kafka::generated::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use broker_kafka::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use broker_kafka::generated::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest,
};
use broker_kafka::runtime::Text;
use broker_kafka::{ApiKey, ErrorCode, Request, Response};

use super::OK;
use crate::event::Event;
use crate::metadata::TOPIC_PARTITIONS_MAX;
use crate::sim::{Sim, batch};
use crate::{RESOURCES_PER_REQUEST_MAX, TOPICS_PER_REQUEST_MAX};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

type Changes<'a> = &'a [(&'a str, i8, Option<&'a str>)];

fn resource(kind: i8, name: &str, changes: Changes<'_>) -> AlterConfigsResource {
    let configs = changes.iter().map(|&(name, config_operation, value)| AlterableConfig {
        name: Text::from(name),
        config_operation,
        value: value.map(Text::from),
    });
    AlterConfigsResource {
        resource_type: kind,
        resource_name: Text::from(name),
        configs: configs.collect(),
    }
}

fn incremental(resources: Vec<AlterConfigsResource>) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest { resources, validate_only: false }
}

fn changed(
    sim: &mut Sim,
    request: IncrementalAlterConfigsRequest,
) -> Vec<AlterConfigsResourceResponse> {
    match sim.admin(1, Request::from(request)) {
        Response::IncrementalAlterConfigs(response) => response.responses,
        other => panic!("not the answer: {other:?}"),
    }
}

fn whole(name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsRequest {
    let configs = configs.iter().map(|&(name, value)| alter_configs::AlterableConfig {
        name: Text::from(name),
        value: value.map(Text::from),
    });
    AlterConfigsRequest {
        resources: vec![alter_configs::AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: Text::from(name),
            configs: configs.collect(),
        }],
        validate_only: false,
    }
}

fn replaced(sim: &mut Sim, request: AlterConfigsRequest) -> i16 {
    match sim.admin(2, Request::from(request)) {
        Response::AlterConfigs(response) => response.responses[0].error_code,
        other => panic!("not the answer: {other:?}"),
    }
}

fn more(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: Text::from(name), count, assignments: None }
}

fn grow(topics: Vec<CreatePartitionsTopic>) -> CreatePartitionsRequest {
    CreatePartitionsRequest { topics, timeout_ms: 1_000, validate_only: false }
}

fn grown(sim: &mut Sim, request: CreatePartitionsRequest) -> Vec<CreatePartitionsTopicResult> {
    match sim.admin(3, Request::from(request)) {
        Response::CreatePartitions(response) => response.results,
        other => panic!("not the answer: {other:?}"),
    }
}

/// What the topic has set, as it is stored.
fn set(sim: &Sim, topic: &str) -> String {
    let image = sim.broker.metadata.image();
    let configs = image.by_name(topic).unwrap().configs.iter();
    configs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A broker with the topic `t` and the coordinator's.
fn with_offsets_topic() -> Sim {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let request = broker_kafka::generated::find_coordinator::FindCoordinatorRequest {
        key: Text::from("group"),
        ..Default::default()
    };
    sim.request(3, Request::from(request));
    sim.store_control();
    sim.answers.clear();
    sim
}

/// Answers of these APIs that hold what they can hold.
pub(super) fn answers_of(sim: &mut Sim, api: ApiKey, version: i16) -> Vec<Response> {
    let requests: Vec<Request> = match api {
        ApiKey::AlterConfigs => ["t", "u"].map(|name| whole(name, &[]).into()).into(),
        ApiKey::IncrementalAlterConfigs => {
            ["t", "u"].map(|name| incremental(vec![resource(TOPIC, name, &[])]).into()).into()
        }
        ApiKey::CreatePartitions => ["t", "u"].map(|name| grow(vec![more(name, 9)]).into()).into(),
        _ => Vec::new(),
    };
    requests.into_iter().map(|request| sim.admin(version, request)).collect()
}

#[test]
fn a_topic_has_other_configs_once_they_are_stored() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let len = batch(&["a"], 1).len().to_string();
    let changes = [("max.message.bytes", SET, Some(&len[..])), ("retention.ms", SET, Some("5"))];
    let asked = sim.request(1, Request::from(incremental(vec![resource(TOPIC, "t", &changes)])));
    assert_eq!(set(&sim, "t"), "", "not stored yet");
    // What is on its way counts already for the next change.
    let changes = [("retention.ms", DELETE, None), ("cleanup.policy", APPEND, Some("compact"))];
    let next = sim.request(1, Request::from(incremental(vec![resource(TOPIC, "t", &changes)])));
    sim.store_control();
    assert_eq!(set(&sim, "t"), format!("max.message.bytes={len} retention.ms=5"));
    assert!(!sim.answers.contains_key(&next), "it is in the next write");
    sim.store_control();
    assert_eq!(set(&sim, "t"), format!("cleanup.policy=delete,compact max.message.bytes={len}"));
    for asker in [asked, next] {
        let Response::IncrementalAlterConfigs(response) = sim.admin_answer(asker) else {
            panic!("not the answer");
        };
        let told = &response.responses[0];
        assert_eq!((told.error_code, told.resource_type, &*told.resource_name), (OK, TOPIC, "t"));
    }
    let exceeds = sim.produce("t", 0, batch(&["ab"], 1));
    let too_large = i16::from(ErrorCode::MessageTooLarge);
    assert_eq!(sim.produced(exceeds).error_code, too_large);
    sim.restart();
    assert_eq!(set(&sim, "t"), format!("cleanup.policy=delete,compact max.message.bytes={len}"));
}

#[test]
fn alter_configs_leaves_only_what_it_names() {
    let mut sim = with_offsets_topic();
    let codes = [
        replaced(
            &mut sim,
            whole("t", &[("retention.ms", Some("5")), ("preallocate", Some("true"))]),
        ),
        replaced(&mut sim, whole("t", &[("retention.ms", Some("6"))])),
    ];
    assert_eq!((codes, &set(&sim, "t")[..]), ([OK, OK], "retention.ms=6"));
    for (name, configs, error) in [
        ("t", &[("retention.ms", Some("soon"))][..], ErrorCode::InvalidConfig),
        ("t", &[("retention.ms", None)], ErrorCode::InvalidRequest),
        ("t", &[("retention", Some("1"))], ErrorCode::InvalidConfig),
        ("u", &[], ErrorCode::UnknownTopicOrPartition),
        ("__consumer_offsets", &[("cleanup.policy", Some("delete"))], ErrorCode::InvalidConfig),
        ("__consumer_offsets", &[("segment.bytes", Some("99"))], ErrorCode::None),
    ] {
        let code = replaced(&mut sim, whole(name, configs));
        assert_eq!(code, i16::from(error), "{name} {configs:?}");
    }
    assert_eq!(set(&sim, "t"), "retention.ms=6");
    assert_eq!(set(&sim, "__consumer_offsets"), "cleanup.policy=compact segment.bytes=99");
}

#[test]
fn what_is_not_changed() {
    use ErrorCode as E;
    let ms = "retention.ms";
    let cases: [(i8, &str, Changes<'_>, E); 13] = [
        (TOPIC, "t", &[(ms, SET, Some("1"))], E::None),
        (TOPIC, "t", &[], E::None),
        (TOPIC, "t", &[(ms, SET, None)], E::InvalidRequest),
        (TOPIC, "t", &[(ms, SET, Some("-2"))], E::InvalidConfig),
        (TOPIC, "t", &[(ms, APPEND, Some("1"))], E::InvalidConfig),
        (TOPIC, "t", &[(ms, 4, Some("1"))], E::InvalidRequest),
        (TOPIC, "t", &[(ms, SET, Some("1")), (ms, SET, Some("2"))], E::InvalidRequest),
        (TOPIC, "u", &[(ms, SET, Some("1"))], E::UnknownTopicOrPartition),
        (TOPIC, "a b", &[], E::InvalidTopicException),
        (
            TOPIC,
            "__consumer_offsets",
            &[("cleanup.policy", APPEND, Some("delete"))],
            E::InvalidConfig,
        ),
        (BROKER, "1", &[("log.retention.ms", SET, Some("1"))], E::InvalidRequest),
        (8, "1", &[], E::InvalidRequest),
        (-1, "", &[], E::InvalidRequest),
    ];
    for (kind, name, changes, error) in cases {
        for validate_only in [true, false] {
            let mut sim = with_offsets_topic();
            let resources = vec![resource(kind, name, changes)];
            let request = IncrementalAlterConfigsRequest { resources, validate_only };
            let results = changed(&mut sim, request);
            assert_eq!(results[0].error_code, i16::from(error), "{kind} {name} {changes:?}");
            assert_eq!(results[0].error_message.is_some(), error != E::None);
            let is_set = !validate_only && error == E::None && !changes.is_empty();
            assert_eq!(set(&sim, "t").is_empty(), !is_set, "{changes:?}");
        }
    }
    let mut sim = Sim::with_topic(0, "t");
    let twice =
        vec![resource(TOPIC, "t", &[]), resource(BROKER, "t", &[]), resource(TOPIC, "t", &[])];
    let results = changed(&mut sim, incremental(twice));
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [i16::from(E::InvalidRequest); 2]);
    let many = (0..=RESOURCES_PER_REQUEST_MAX).map(|i| resource(TOPIC, &format!("t{i}"), &[]));
    let results = changed(&mut sim, incremental(many.collect()));
    let too_many = i16::from(E::PolicyViolation);
    assert!(results.iter().all(|result| result.error_code == too_many));
    assert_eq!(results.len(), RESOURCES_PER_REQUEST_MAX + 1);
}

#[test]
fn a_topic_gets_more_partitions() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    let asked = sim.request(3, Request::from(grow(vec![more("t", 4)])));
    let early = sim.produce("t", 3, batch(&["a"], 1));
    assert_eq!(sim.produced(early).error_code, unknown, "not stored yet");
    sim.store_control();
    let Response::CreatePartitions(response) = sim.admin_answer(asked) else {
        panic!("not the answer");
    };
    assert_eq!((response.results[0].error_code, &*response.results[0].name), (OK, "t"));
    for life in 0..2 {
        let producing = sim.produce("t", 3, batch(&["a"], 1));
        sim.commit();
        assert_eq!((sim.produced(producing).error_code, life), (OK, life));
        let asked = sim.metadata(13, &["t"]);
        assert_eq!(sim.metadata_answer(asked).topics[0].partitions.len(), 4);
        sim.restart();
    }
}

#[test]
fn what_a_topic_is_not_grown_by() {
    use ErrorCode as E;
    let most = i32::try_from(TOPIC_PARTITIONS_MAX).unwrap();
    let assigned = |count, lists: &[&[i32]]| CreatePartitionsTopic {
        assignments: Some(
            lists
                .iter()
                .map(|list| CreatePartitionsAssignment { broker_ids: list.to_vec() })
                .collect(),
        ),
        ..more("t", count)
    };
    let cases = [
        (more("t", 3), E::None),
        (more("t", most), E::None),
        (more("t", most + 1), E::InvalidPartitions),
        (more("t", 2), E::InvalidPartitions),
        (more("t", 1), E::InvalidPartitions),
        (more("t", -1), E::InvalidPartitions),
        (more("u", 3), E::UnknownTopicOrPartition),
        (more("__consumer_offsets", 9), E::InvalidTopicException),
        (more("culvert.gateways", 9), E::InvalidTopicException),
        (assigned(4, &[&[1], &[1]]), E::None),
        (assigned(4, &[&[1]]), E::InvalidReplicaAssignment),
        (assigned(3, &[&[2]]), E::InvalidReplicaAssignment),
        (assigned(3, &[&[1, 1]]), E::InvalidReplicaAssignment),
    ];
    for (wanted, error) in cases {
        for validate_only in [true, false] {
            let mut sim = with_offsets_topic();
            let topics = vec![wanted.clone()];
            let results =
                grown(&mut sim, CreatePartitionsRequest { validate_only, ..grow(topics) });
            assert_eq!(results[0].error_code, i16::from(error), "{wanted:?}");
            assert_eq!(results[0].error_message.is_some(), error != E::None);
            let has = sim.broker.metadata.image().by_name("t").unwrap().partitions;
            assert_eq!(has > 2, error == E::None && !validate_only, "{wanted:?}");
        }
    }
    let mut sim = Sim::with_topic(0, "t");
    let results = grown(&mut sim, grow(vec![more("t", 3), more("t", 4)]));
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [i16::from(E::InvalidRequest)]);
    let many = (0..=TOPICS_PER_REQUEST_MAX).map(|i| more(&format!("t{i}"), 2));
    let results = grown(&mut sim, grow(many.collect()));
    let too_many = i16::from(E::PolicyViolation);
    assert!(results.iter().all(|result| result.error_code == too_many));
}

#[test]
fn the_cluster_has_no_more_partitions_than_it_can_hold() {
    let mut sim = Sim::with_topic(0, "t");
    let topics = (0..10).map(|i| CreatableTopic {
        name: Text::from(&format!("n{i}")[..]),
        num_partitions: if i == 0 { 1 } else { 10_000 },
        replication_factor: 1,
        ..CreatableTopic::default()
    });
    let topics = topics.collect();
    sim.admin(7, Request::from(CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }));
    let results = grown(&mut sim, grow(vec![more("t", 9_999), more("n0", 2)]));
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [OK, i16::from(ErrorCode::PolicyViolation)]);
}

#[test]
fn a_change_that_is_not_stored_is_said_to_have_failed() {
    let mut sim = Sim::with_topic(0, "t");
    let changes = [("retention.ms", SET, Some("1"))];
    let altered = sim.request(1, Request::from(incremental(vec![resource(TOPIC, "t", &changes)])));
    let grown = sim.request(3, Request::from(grow(vec![more("t", 9)])));
    sim.writes.clear();
    sim.handle(Event::ControlNotStored);
    let storage = i16::from(ErrorCode::KafkaStorageError);
    let Response::IncrementalAlterConfigs(response) = sim.admin_answer(altered) else {
        panic!("not the answer");
    };
    assert_eq!(response.responses[0].error_code, storage);
    let Response::CreatePartitions(response) = sim.admin_answer(grown) else {
        panic!("not the answer");
    };
    assert_eq!(response.results[0].error_code, storage);
    assert_eq!(set(&sim, "t"), "");
    assert_eq!(sim.broker.metadata.image().by_name("t").unwrap().partitions, 2);
}
