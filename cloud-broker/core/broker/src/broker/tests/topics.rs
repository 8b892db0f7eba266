//! CreateTopics, DeleteTopics, DescribeConfigs, and what becomes of what somebody has of a deleted topic.

use broker_kafka::generated::Request;
use broker_kafka::generated::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use broker_kafka::generated::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest,
};
use broker_kafka::generated::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResult,
};
use broker_kafka::generated::init_producer_id::InitProducerIdRequest;
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::{ApiKey, ErrorCode, Response};
use broker_log::{PartitionKey, TopicNo};
use wire::ids::{Incarnation, Partition};
use wire::record_batch::RecordBatchHeader;

use super::{OK, lookups};
use crate::broker::{Broker, Identity};
use crate::event::Event;
use crate::metadata::{Image, TOPIC_PARTITIONS_MAX};
use crate::sim::{Sim, batch, empty_log, fetch, settings};
use crate::{RESOURCES_PER_REQUEST_MAX, RetentionDefaults, TOPICS_PER_REQUEST_MAX};

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: Text::from(name),
        num_partitions: -1,
        replication_factor: -1,
        ..CreatableTopic::default()
    }
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest { topics, ..CreateTopicsRequest::default() }
}

fn created(sim: &mut Sim, request: CreateTopicsRequest) -> Vec<CreatableTopicResult> {
    match sim.admin(7, Request::from(request)) {
        Response::CreateTopics(response) => response.topics,
        other => panic!("not the answer: {other:?}"),
    }
}

fn by_name(names: &[&str]) -> DeleteTopicsRequest {
    let topics = names
        .iter()
        .map(|&name| DeleteTopicState { name: Some(Text::from(name)), topic_id: Uuid::ZERO });
    DeleteTopicsRequest { topics: topics.collect(), ..DeleteTopicsRequest::default() }
}

fn deleted(sim: &mut Sim, request: DeleteTopicsRequest) -> Vec<DeletableTopicResult> {
    match sim.admin(6, Request::from(request)) {
        Response::DeleteTopics(response) => response.responses,
        other => panic!("not the answer: {other:?}"),
    }
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource {
        resource_type: kind,
        resource_name: Text::from(name),
        configuration_keys: keys.map(|keys| keys.iter().map(|&key| Text::from(key)).collect()),
    }
}

fn described(sim: &mut Sim, resources: Vec<DescribeConfigsResource>) -> Vec<DescribeConfigsResult> {
    let request =
        DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: true };
    match sim.admin(4, Request::from(request)) {
        Response::DescribeConfigs(response) => response.results,
        other => panic!("not the answer: {other:?}"),
    }
}

/// Answers of these APIs that hold what they can hold.
pub(super) fn answers_of(sim: &mut Sim, api: ApiKey, version: i16) -> Vec<Response> {
    let topics = |names: &[&str]| names.iter().map(|name| topic(name)).collect::<Vec<_>>();
    let requests: Vec<Request> = match api {
        ApiKey::CreateTopics => {
            vec![create(topics(&["new", "t", "a b"])).into(), create(Vec::new()).into()]
        }
        ApiKey::DeleteTopics => ["t", "unknown"]
            .map(|name| match version {
                6.. => by_name(&[name]).into(),
                _ => DeleteTopicsRequest {
                    topic_names: vec![Text::from(name)],
                    ..DeleteTopicsRequest::default()
                }
                .into(),
            })
            .into(),
        ApiKey::DescribeConfigs => {
            let resources =
                vec![resource(2, "t", None), resource(2, "u", None), resource(4, "1", None)];
            vec![
                DescribeConfigsRequest {
                    resources,
                    include_synonyms: true,
                    include_documentation: version >= 3,
                }
                .into(),
            ]
        }
        ApiKey::InitProducerId => [None, Some(Text::from("tx"))]
            .map(|transactional_id| {
                InitProducerIdRequest { transactional_id, ..InitProducerIdRequest::default() }
                    .into()
            })
            .into(),
        _ => Vec::new(),
    };
    requests.into_iter().map(|request| sim.admin(version, request)).collect()
}

#[test]
fn a_topic_is_made_as_it_was_asked_for() {
    let mut sim = Sim::new(1 << 20);
    let mut wanted = topic("t");
    wanted.num_partitions = 5;
    wanted.replication_factor = 3;
    wanted.configs = vec![CreatableTopicConfig {
        name: Text::from("retention.ms"),
        value: Some(Text::from("5000")),
    }];
    let asked = sim.request(7, Request::from(create(vec![wanted, topic("u")])));
    assert!(sim.answers.is_empty(), "not stored yet");
    sim.store_control();
    let Response::CreateTopics(response) = sim.admin_answer(asked) else {
        panic!("not the answer");
    };
    let [t, u] = &response.topics[..] else {
        panic!("two topics were asked for");
    };
    assert_eq!((t.error_code, t.num_partitions, t.replication_factor), (OK, 5, 1));
    assert_eq!((u.error_code, u.num_partitions, u.replication_factor), (OK, 2, 1));
    let policy = t.configs.iter().flatten().find(|c| &*c.name == "retention.ms").unwrap();
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("5000"), 1));
    let asked = sim.metadata(13, &["t"]);
    let metadata = sim.metadata_answer(asked);
    assert_eq!(metadata.topics[0].topic_id, t.topic_id);
    assert_eq!(metadata.topics[0].partitions.len(), 5);
    assert_eq!(metadata.topics[0].partitions[0].replica_nodes, [1]);
    let producing = sim.produce("t", 4, batch(&["a"], 1));
    sim.commit();
    assert_eq!(sim.produced(producing).error_code, OK);
}

#[test]
fn what_a_topic_is_refused_for() {
    use ErrorCode as E;
    let with = |name: &str, partitions, replication| CreatableTopic {
        num_partitions: partitions,
        replication_factor: replication,
        ..topic(name)
    };
    let config = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: Text::from(name),
            value: value.map(Text::from),
        }],
        ..topic("n")
    };
    let assigned = |partitions, lists: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: partitions,
        assignments: lists
            .iter()
            .map(|&(partition_index, brokers)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..topic("n")
    };
    let most = i32::try_from(TOPIC_PARTITIONS_MAX).unwrap();
    let cases = [
        (with("n", 1, 1), E::None),
        (with("n", most, 3), E::None),
        (with("n", 0, 1), E::InvalidPartitions),
        (with("n", -2, 1), E::InvalidPartitions),
        (with("n", most + 1, 1), E::InvalidPartitions),
        (with("n", 1, 0), E::InvalidReplicationFactor),
        (with("n", 1, -2), E::InvalidReplicationFactor),
        (with("n", 1, 4), E::InvalidReplicationFactor),
        (topic("t"), E::TopicAlreadyExists),
        (topic(""), E::InvalidTopicException),
        (topic("a b"), E::InvalidTopicException),
        (topic("culvert.gateways"), E::InvalidTopicException),
        (topic("__consumer_offsets"), E::InvalidTopicException),
        (config("retention.ms", Some("1000")), E::None),
        (config("retention.ms", Some("soon")), E::InvalidConfig),
        (config("retention.ms", None), E::InvalidConfig),
        (config("retention", Some("1000")), E::InvalidConfig),
        (assigned(-1, &[(1, &[1]), (0, &[1])]), E::None),
        (assigned(2, &[(0, &[1]), (1, &[1])]), E::InvalidRequest),
        (assigned(-1, &[(0, &[1]), (2, &[1])]), E::InvalidReplicaAssignment),
        (assigned(-1, &[(0, &[1]), (0, &[1])]), E::InvalidReplicaAssignment),
        (assigned(-1, &[(0, &[1, 2])]), E::InvalidReplicaAssignment),
        (assigned(-1, &[(0, &[])]), E::InvalidReplicaAssignment),
    ];
    for (wanted, error) in cases {
        for validate_only in [true, false] {
            let mut sim = Sim::with_topic(0, "t");
            let request = CreateTopicsRequest { validate_only, ..create(vec![wanted.clone()]) };
            let results = created(&mut sim, request);
            assert_eq!(results[0].error_code, i16::from(error), "{wanted:?}");
            assert_eq!(results[0].error_message.is_some(), error != E::None);
            let is_made = error == E::None && !validate_only;
            assert_eq!(sim.broker.metadata.image().len(), 1 + usize::from(is_made));
        }
    }
}

#[test]
fn each_name_gets_one_result() {
    let mut sim = Sim::new(0);
    let results = created(&mut sim, create(vec![topic("a"), topic("b"), topic("a")]));
    let told: Vec<_> = results.iter().map(|r| (&*r.name, r.error_code)).collect();
    assert_eq!(told, [("a", i16::from(ErrorCode::InvalidRequest)), ("b", OK)]);
    let many = (0..=TOPICS_PER_REQUEST_MAX).map(|i| topic(&format!("many{i}")));
    let results = created(&mut sim, create(many.collect()));
    let too_many = i16::from(ErrorCode::PolicyViolation);
    assert!(results.iter().all(|result| result.error_code == too_many));
    assert_eq!(results.len(), TOPICS_PER_REQUEST_MAX + 1);
}

#[test]
fn a_change_that_is_not_stored_is_not_made() {
    let mut sim = Sim::with_topic(0, "t");
    let storage = i16::from(ErrorCode::KafkaStorageError);
    let asked = sim.request(7, Request::from(create(vec![topic("n")])));
    let behind = sim.request(6, Request::from(by_name(&["t"])));
    sim.writes.clear();
    sim.handle(Event::ControlNotStored);
    let Response::CreateTopics(response) = sim.admin_answer(asked) else {
        panic!("not the answer");
    };
    assert_eq!(response.topics[0].error_code, storage);
    let Response::DeleteTopics(response) = sim.admin_answer(behind) else {
        panic!("not the answer");
    };
    assert_eq!(response.responses[0].error_code, storage);
    assert!(sim.broker.metadata.image().by_name("t").is_some());
}

#[test]
fn a_deleted_topic_is_gone_for_everybody() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let id = sim.broker.metadata.image().by_name("t").unwrap().id;
    sim.produce("t", 0, batch(&["a"], 1));
    sim.commit();
    let waiting = sim.request(12, Request::from(fetch("t", 0, 1)));
    // On its way to the disk when the topic goes.
    let late = sim.produce("t", 0, batch(&["b"], 1));
    let asked = sim.request(6, Request::from(by_name(&["t"])));
    assert!(!sim.answers.contains_key(&waiting));
    sim.store_control();
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    let response = sim.fetched(waiting);
    assert_eq!(response.responses[0].partitions[0].error_code, unknown);
    let Response::DeleteTopics(response) = sim.admin_answer(asked) else {
        panic!("not the answer");
    };
    assert_eq!(response.responses[0].error_code, OK);
    assert_eq!(response.responses[0].topic_id, Uuid::from(id));
    sim.commit();
    assert_eq!(sim.produced(late).error_code, OK);
    let producing = sim.produce("t", 0, batch(&["c"], 1));
    assert_eq!(sim.produced(producing).error_code, unknown);

    // Another topic of the name is another topic.
    let again = created(&mut sim, create(vec![topic("t")]));
    assert_ne!(again[0].topic_id, Uuid::from(id));
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    assert!(!sim.answers.contains_key(&fetching), "it is empty");
}

#[test]
fn topics_are_deleted_by_name_or_by_id() {
    let mut sim = Sim::with_topic(0, "t");
    let id = Uuid::from(sim.broker.metadata.image().by_name("t").unwrap().id);
    let made = created(&mut sim, create(vec![topic("u"), topic("v")]));
    let twice = made[1].topic_id;
    let asker = sim.metadata(13, &["culvert.gateways"]);
    sim.store_control();
    sim.metadata_answer(asker);
    let named =
        |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(Text::from), topic_id };
    let request = DeleteTopicsRequest {
        topics: vec![
            named(None, id),
            named(Some("v"), Uuid::ZERO),
            named(None, twice),
            named(Some("u"), id),
            named(None, Uuid::ZERO),
            named(None, Uuid([9; 16])),
            named(Some("x"), Uuid::ZERO),
            named(Some("culvert.gateways"), Uuid::ZERO),
        ],
        ..DeleteTopicsRequest::default()
    };
    let results = deleted(&mut sim, request);
    let codes: Vec<i16> = results.iter().map(|result| result.error_code).collect();
    use ErrorCode as E;
    let expected = [
        E::None,
        E::InvalidRequest,
        E::InvalidRequest,
        E::InvalidRequest,
        E::InvalidRequest,
        E::UnknownTopicId,
        E::UnknownTopicOrPartition,
        E::InvalidTopicException,
    ];
    assert_eq!(codes, expected.map(i16::from));
    assert_eq!(results[0].name.as_deref(), Some("t"));
    let image = sim.broker.metadata.image();
    assert!(image.by_name("t").is_none() && image.by_name("u").is_some());
    assert!(image.by_name("v").is_some(), "named twice, it is not deleted at all");
}

#[test]
fn what_the_log_holds_of_deleted_topics_is_not_served_after_a_start() {
    let mut sim = Sim::new(0);
    created(&mut sim, create(vec![topic("t"), topic("u")]));
    sim.request(6, Request::from(by_name(&["t"])));
    let write = sim.writes.remove(0);
    let image = Image::load(3, &write.bytes).unwrap();
    let mut log = empty_log(0);
    for no in [1, 2] {
        let key = PartitionKey { topic_no: TopicNo(no), partition: Partition(0) };
        log.register_partition(key).unwrap();
    }
    let identity = Identity { incarnation: Incarnation([1; 16]), id_seed: [0; 32] };
    let broker = Broker::new(settings(), &identity, log, image).unwrap();
    assert_eq!(broker.log.topic_nos().collect::<Vec<_>>(), [TopicNo(2)]);
    assert_eq!(broker.metadata.image().next_topic_no(), 3);
}

fn find<'a>(
    result: &'a DescribeConfigsResult,
    name: &str,
) -> Option<&'a DescribeConfigsResourceResult> {
    result.configs.iter().find(|config| &*config.name == name)
}

#[test]
fn every_config_is_told_with_its_source() {
    let mut sim = Sim::new(0);
    let mut wanted = topic("t");
    wanted.configs = vec![CreatableTopicConfig {
        name: Text::from("retention.ms"),
        value: Some(Text::from("1000")),
    }];
    created(&mut sim, create(vec![wanted]));
    let results = described(
        &mut sim,
        vec![
            resource(2, "t", None),
            resource(2, "t", Some(&["retention.ms", "unknown"])),
            resource(4, "1", None),
            resource(4, "", None),
            resource(2, "t", Some(&[])),
        ],
    );
    let retention = find(&results[0], "retention.ms").unwrap();
    assert_eq!(retention.value.as_deref(), Some("1000"));
    assert_eq!((retention.config_source, retention.config_type), (1, 5));
    let synonyms: Vec<_> =
        retention.synonyms.iter().map(|s| (&*s.name, s.value.as_deref(), s.source)).collect();
    let expected = [("retention.ms", Some("1000"), 1), ("log.retention.ms", Some("604800000"), 5)];
    assert_eq!(synonyms, expected);
    let policy = find(&results[0], "cleanup.policy").unwrap();
    assert_eq!((policy.value.as_deref(), policy.config_source), (Some("delete"), 5));
    assert_eq!(results[0].configs.len(), 33);
    assert_eq!(results[1].configs.len(), 1);
    let partitions = find(&results[2], "num.partitions").unwrap();
    assert_eq!((partitions.value.as_deref(), partitions.read_only), (Some("2"), true));
    let address = find(&results[2], "advertised.listeners").unwrap();
    assert_eq!(address.value.as_deref(), Some("PLAINTEXT://broker.example:9092"));
    assert!(results[2].configs.is_sorted_by(|a, b| *a.name < *b.name), "each once");
    assert_eq!((results[3].error_code, results[3].configs.len()), (OK, 0));
    assert_eq!(results[4].configs.len(), 33, "to name none is to ask for all");
}

#[test]
fn the_operator_s_defaults_are_told_as_such() {
    let mut sim = Sim::with_topic(0, "t");
    sim.broker.settings.retention = RetentionDefaults { ms: None, bytes: Some(5) };
    let results = described(&mut sim, vec![resource(2, "t", None), resource(4, "1", None)]);
    for (name, of_broker, value) in [
        ("retention.ms", "log.retention.ms", "-1"),
        ("retention.bytes", "log.retention.bytes", "5"),
    ] {
        let told = find(&results[0], name).unwrap();
        assert_eq!((told.value.as_deref(), told.config_source), (Some(value), 4));
        let synonyms: Vec<_> =
            told.synonyms.iter().map(|s| (&*s.name, s.value.as_deref(), s.source)).collect();
        assert_eq!(synonyms, [(of_broker, Some(value), 4)]);
        assert_eq!(find(&results[1], of_broker).unwrap().value.as_deref(), Some(value));
    }
}

#[test]
fn what_is_not_described() {
    use ErrorCode as E;
    let mut sim = Sim::with_topic(0, "t");
    for (kind, name, error) in [
        (2, "t", E::None),
        (2, "u", E::UnknownTopicOrPartition),
        (2, "a b", E::InvalidTopicException),
        (4, "2", E::InvalidRequest),
        (4, "one", E::InvalidRequest),
        (8, "1", E::InvalidRequest),
        (-1, "", E::InvalidRequest),
    ] {
        let results = described(&mut sim, vec![resource(kind, name, None)]);
        assert_eq!(results[0].error_code, i16::from(error), "{kind} {name:?}");
        assert_eq!(results[0].error_message.is_some(), error != E::None);
    }
    let many = vec![resource(2, "t", None); RESOURCES_PER_REQUEST_MAX + 1];
    let results = described(&mut sim, many);
    let too_many = i16::from(E::PolicyViolation);
    assert!(results.iter().all(|r| r.error_code == too_many && r.configs.is_empty()));
}

#[test]
fn a_topics_own_limit_and_clock_are_held() {
    let mut sim = Sim::new(1 << 20);
    let len = batch(&["a"], 1).len();
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: Text::from(name),
        value: Some(Text::from(value)),
    };
    let mut wanted = topic("t");
    wanted.configs = vec![
        config("max.message.bytes", &len.to_string()),
        config("message.timestamp.type", "LogAppendTime"),
    ];
    created(&mut sim, create(vec![wanted]));
    let fits = sim.produce("t", 0, batch(&["a"], 1));
    let exceeds = sim.produce("t", 0, batch(&["ab"], 1));
    sim.commit();
    let produced = sim.produced(fits);
    assert_eq!((produced.error_code, produced.log_append_time_ms), (OK, sim.wall.0));
    let too_large = i16::from(ErrorCode::MessageTooLarge);
    assert_eq!(sim.produced(exceeds).error_code, too_large);
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    let response = sim.fetched(fetching);
    let stored = response.responses[0].partitions[0].records.clone().unwrap();
    let header = RecordBatchHeader::parse(&stored).unwrap();
    header.check_crc(&stored).unwrap();
    assert_eq!(header.max_timestamp, sim.wall);
    assert_ne!(header.attributes & RecordBatchHeader::LOG_APPEND_TIME, 0);
    let found = lookups::look_up(&mut sim, 10, 0);
    assert_eq!((found.offset, found.timestamp), (0, sim.wall.0));
}
