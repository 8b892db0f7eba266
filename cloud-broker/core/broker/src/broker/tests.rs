mod changes;
mod damage;
mod full_disk;
mod hostile;
mod idempotence;
mod keyed;
mod lookups;
mod records;
mod topics;

use broker_kafka::frame::encode_response;
use broker_kafka::generated::Request;
use broker_kafka::generated::fetch::{FetchPartition, FetchRequest, FetchResponse};
use broker_kafka::generated::metadata::{MetadataRequest, MetadataRequestTopic};
use broker_kafka::generated::produce::PartitionProduceResponse;
use broker_kafka::records::Records;
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::versions::ADVERTISED;
use broker_kafka::{ApiKey, ErrorCode, Response};
use bytes::Bytes;
use wire::ids::ProducerId;
use wire::record_batch::{BatchProducer, RecordBatchHeader, crc32c};
use wire::seq::{StreamEpoch, StreamSeq};

use super::*;
use crate::event::Event;
use crate::sim::{Sim, batch, batch_of, empty_log, fetch, produce, settings};

const OK: i16 = 0;

fn values(response: &FetchResponse) -> Vec<String> {
    let partitions = response.responses.iter().flat_map(|t| &t.partitions);
    let mut found = Vec::new();
    for mut run in partitions.map(|p| p.records.clone().unwrap()) {
        while !run.is_empty() {
            let mut records = Records::new(&run).unwrap();
            let length = records.header().total_len;
            while let Some(record) = records.next_record().unwrap() {
                let value = record.value.unwrap();
                found.push(String::from_utf8(value.to_vec()).unwrap());
            }
            run = run.slice(length..);
        }
    }
    found
}

#[test]
fn produce_is_answered_when_durable_and_wakes_a_fetch() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    assert!(!sim.answers.contains_key(&fetching), "there is nothing yet");

    let first = sim.produce("t", 0, batch(&["a", "b"], 1));
    sim.begin_write();
    let second = sim.produce("t", 0, batch(&["c"], 2));
    assert!(sim.answers.is_empty(), "nothing is durable");

    sim.end_write();
    let produced = sim.produced(first);
    assert_eq!((produced.error_code, produced.base_offset), (OK, 0));
    let response = sim.fetched(fetching);
    assert_eq!(values(&response), ["a", "b"]);
    assert_eq!(response.responses[0].partitions[0].high_watermark, 2);
    assert!(!sim.answers.contains_key(&second), "it is in the next slot");

    sim.commit();
    assert_eq!(sim.produced(second).base_offset, 2);
    assert_eq!(sim.broker.stats().parked_answers, 0);
    assert_eq!(sim.broker.fetches.next_deadline(), None);
}

#[test]
fn a_fetch_waits_no_longer_than_it_said() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    let deadline = sim.broker.fetches.next_deadline().unwrap();
    assert_eq!(deadline, sim.now + 500);
    // Another partition of the topic is none of its business.
    let other = sim.produce("t", 1, batch(&["x"], 1));
    sim.commit();
    assert_eq!(sim.produced(other).error_code, OK);
    sim.wait_ms(499);
    assert!(sim.answers.is_empty());
    sim.wait_ms(1);
    let response = sim.fetched(fetching);
    assert_eq!(response.responses[0].partitions[0].error_code, OK);
    assert!(values(&response).is_empty());
    let wants_nothing = FetchRequest { min_bytes: 0, ..fetch("t", 0, 0) };
    let fetching = sim.request(12, Request::from(wants_nothing));
    assert!(values(&sim.fetched(fetching)).is_empty(), "nothing is there at once");
}

#[test]
fn a_fetch_waits_for_the_bytes_it_wants() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let one = batch(&["a"], 1);
    let wants_two = FetchRequest { min_bytes: 2 * one.len() as i32, ..fetch("t", 0, 0) };
    let fetching = sim.request(12, Request::from(wants_two));
    sim.produce("t", 0, one.clone());
    sim.commit();
    assert!(!sim.answers.contains_key(&fetching));
    sim.produce("t", 0, one);
    sim.commit();
    assert_eq!(values(&sim.fetched(fetching)), ["a", "a"]);
}

#[test]
fn a_small_limit_still_gets_a_batch() {
    for tail_bytes in [0, 1 << 20] {
        let mut sim = Sim::with_topic(tail_bytes, "t");
        for value in ["a", "b", "c"] {
            sim.produce("t", 0, batch(&[value], 1));
            sim.commit();
        }
        sim.answers.clear();
        let mut request = fetch("t", 0, 1);
        request.max_bytes = 1;
        request.topics[0].partitions[0].partition_max_bytes = 1;
        let fetching = sim.request(12, Request::from(request));
        assert_eq!(values(&sim.fetched(fetching)), ["b"], "tail {tail_bytes}");
        let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
        assert_eq!(values(&sim.fetched(fetching)), ["a", "b", "c"]);
        // One byte less than the second batch needs.
        let len = batch(&["a"], 1).len();
        let mut request = fetch("t", 0, 0);
        request.max_bytes = 2 * len as i32 - 1;
        let fetching = sim.request(12, Request::from(request));
        assert_eq!(values(&sim.fetched(fetching)), ["a"]);
    }
}

#[test]
fn an_answer_that_is_cut_short_still_gets_on() {
    let len = batch(&["a"], 1).len();
    for tail_bytes in [0, 1 << 20] {
        let mut sim = Sim::with_topic(tail_bytes, "t");
        for (partition, value) in [(0, "a"), (0, "b"), (1, "c")] {
            sim.produce("t", partition, batch(&[value], 1));
            sim.commit();
        }
        let mut request = fetch("t", 0, 0);
        let first = request.topics[0].partitions[0].clone();
        request.topics[0].partitions.push(FetchPartition { partition: 1, ..first });
        for (max_bytes, expected) in [
            (0, &["a"][..]),
            (2 * len - 1, &["a"]),
            (2 * len, &["a", "b"]),
            (usize::MAX, &["a", "b", "c"]),
        ] {
            let fetching = sim.request(12, Request::from(request.clone()));
            let Some(Answer::Fetch(answer)) = sim.answers.get_mut(&fetching) else {
                panic!("it was not answered");
            };
            answer.shorten(max_bytes);
            assert!(answer.gathered_bytes() <= max_bytes.max(len));
            assert_eq!(values(&sim.fetched(fetching)), expected, "{max_bytes} {tail_bytes}");
        }
    }
}

#[test]
fn an_offset_inside_a_batch_gets_the_whole_batch() {
    let mut sim = Sim::with_topic(0, "t");
    sim.produce("t", 0, batch(&["a", "b", "c"], 1));
    sim.commit();
    let fetching = sim.request(12, Request::from(fetch("t", 0, 2)));
    assert_eq!(values(&sim.fetched(fetching)), ["a", "b", "c"]);
}

#[test]
fn what_a_fetch_is_refused() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let epoch = sim.broker.log.leader_epoch().0;
    let with_epoch = |claimed| {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = claimed;
        request
    };
    let cases = [
        (12, fetch("t", 0, 1), ErrorCode::OffsetOutOfRange),
        (12, fetch("t", 0, -1), ErrorCode::OffsetOutOfRange),
        (12, fetch("t", 2, 0), ErrorCode::UnknownTopicOrPartition),
        (12, fetch("t", -1, 0), ErrorCode::UnknownTopicOrPartition),
        (12, fetch("other", 0, 0), ErrorCode::UnknownTopicOrPartition),
        (13, fetch("t", 0, 0), ErrorCode::UnknownTopicId),
        (12, with_epoch(epoch + 1), ErrorCode::UnknownLeaderEpoch),
    ];
    for (version, request, error) in cases {
        let fetching = sim.request(version, Request::from(request));
        let response = sim.fetched(fetching);
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, i16::from(error), "{error:?}");
        assert_eq!(partition.high_watermark, -1);
    }
    let session = FetchRequest { session_id: 4, session_epoch: 2, ..fetch("t", 0, 0) };
    let fetching = sim.request(12, Request::from(session));
    let code = i16::from(ErrorCode::FetchSessionIdNotFound);
    assert_eq!(sim.fetched(fetching).error_code, code);
}

#[test]
fn topics_are_found_by_id_where_versions_say_so() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let id = Uuid::from(sim.broker.metadata.image().by_name("t").unwrap().id);
    let mut request = produce("", 0, -1, batch(&["a"], 1));
    request.topic_data[0].topic_id = id;
    let producing = sim.request(13, Request::from(request));
    sim.commit();
    assert_eq!(sim.produced(producing).error_code, OK);
    let mut request = fetch("", 0, 0);
    request.topics[0].topic_id = id;
    let fetching = sim.request(18, Request::from(request));
    let response = sim.fetched(fetching);
    assert_eq!(response.responses[0].topic_id, id);
    assert_eq!(values(&response), ["a"]);
}

#[test]
fn a_client_that_left_waits_for_nothing() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    sim.handle(Event::ClientGone(fetching.client));
    assert_eq!(sim.broker.stats().parked_fetches, 0);
    sim.produce("t", 0, batch(&["a"], 1));
    sim.commit();
    assert!(!sim.answers.contains_key(&fetching));
}

#[test]
fn acks_0_is_answered_at_once_and_still_stored() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let request = produce("t", 0, 0, batch(&["a"], 1));
    let producing = sim.request(9, Request::from(request));
    assert_eq!(sim.produced(producing).error_code, OK);
    sim.commit();
    let fetching = sim.request(12, Request::from(fetch("t", 0, 0)));
    assert_eq!(values(&sim.fetched(fetching)), ["a"]);
}

/// A copy of `batch` with `change` made to it and its CRC mended.
fn changed(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn what_a_produce_request_is_refused() {
    use ErrorCode as E;
    let good = batch(&["a", "b"], 1);
    let attributes = |bits: i16| changed(&good, |b| b[21..23].copy_from_slice(&bits.to_be_bytes()));
    let with_pid = |id| {
        let producer =
            BatchProducer { id: ProducerId(id), epoch: StreamEpoch(0), base: StreamSeq::ZERO };
        batch_of(producer, &["a"], 1)
    };
    let mut broken = good.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let two = Bytes::from([&good[..], &good[..]].concat());
    let cases: Vec<(i16, Bytes, E)> = vec![
        (9, good.clone(), E::None),
        (9, Bytes::new(), E::InvalidRecord),
        (9, Bytes::from(broken), E::CorruptMessage),
        (9, good.slice(..good.len() - 1), E::CorruptMessage),
        (9, good.slice(..20), E::CorruptMessage),
        (9, two, E::InvalidRecord),
        (9, changed(&good, |b| b[16] = 1), E::InvalidRecord),
        (9, changed(&good, |b| b[26] = 7), E::InvalidRecord),
        (9, changed(&good, |b| b[60] = 0), E::InvalidRecord),
        (9, attributes(7), E::UnsupportedCompressionType),
        (6, attributes(4), E::UnsupportedCompressionType),
        (7, attributes(4), E::None),
        (9, attributes(RecordBatchHeader::CONTROL), E::InvalidRecord),
        (9, attributes(RecordBatchHeader::TRANSACTIONAL), E::InvalidTxnState),
        (9, attributes(RecordBatchHeader::LOG_APPEND_TIME), E::InvalidTimestamp),
        (9, attributes(RecordBatchHeader::DELETE_HORIZON), E::InvalidRecord),
        (9, with_pid(0), E::None),
        (9, with_pid(1 << 62), E::InvalidProducerIdMapping),
        (9, changed(&with_pid(1), |b| b[51] = 0x80), E::InvalidRecord),
        (9, changed(&with_pid(1), |b| b[53] = 0x80), E::InvalidRecord),
    ];
    let mut sim = Sim::with_topic(1 << 20, "t");
    for (at, (version, batch, error)) in cases.into_iter().enumerate() {
        let request = produce("t", 0, -1, batch);
        let producing = sim.request(version, Request::from(request));
        sim.commit();
        let produced = sim.produced(producing);
        assert_eq!(produced.error_code, i16::from(error), "case {at}");
        assert_eq!(produced.base_offset < 0, error != E::None);
        assert_eq!(produced.error_message.is_some(), error != E::None);
    }
}

#[test]
fn what_is_wrong_with_a_whole_produce_request() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let good = || produce("t", 0, -1, batch(&["a"], 1));
    let mut acks = good();
    acks.acks = 2;
    let mut transactional = good();
    transactional.transactional_id = Some(Text::from("tx"));
    let mut unknown = good();
    unknown.topic_data[0].partition_data[0].index = 2;
    for (request, error) in [
        (acks, ErrorCode::InvalidRequiredAcks),
        (transactional, ErrorCode::InvalidTxnState),
        (unknown, ErrorCode::UnknownTopicOrPartition),
    ] {
        let producing = sim.request(9, Request::from(request));
        let produced = sim.produced(producing);
        assert_eq!(produced.error_code, i16::from(error));
    }
}

#[test]
fn appends_are_paused_before_the_log_turns_them_away() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let large = "x".repeat(1 << 20);
    let mut asked = Vec::new();
    while sim.broker.wants_appends() {
        asked.push(sim.produce("t", 0, batch(&[&large], 1)));
        assert!(asked.len() < 100, "the pause comes");
    }
    assert!(asked.len() > 30);
    // Who does not listen is turned away in the end, with an error that says to try again.
    let mut refused = 0;
    while refused == 0 {
        let asker = sim.produce("t", 0, batch(&[&large], 1));
        assert!(asked.len() < 100, "the log's limit comes");
        if sim.answers.contains_key(&asker) {
            let code = sim.produced(asker).error_code;
            assert_eq!(code, i16::from(ErrorCode::NotEnoughReplicas));
            refused += 1;
        } else {
            asked.push(asker);
        }
    }
    sim.commit();
    assert!(sim.broker.wants_appends());
    for asker in asked {
        assert_eq!(sim.produced(asker).error_code, OK);
    }
}

#[test]
fn a_topic_is_made_when_it_is_asked_for_and_shown_when_it_is_stored() {
    let mut sim = Sim::new(1 << 20);
    let asking = sim.metadata(13, &["t", "bad name"]);
    assert!(sim.answers.is_empty(), "not stored yet");
    let meanwhile = sim.metadata(13, &["t"]);
    let unnamed = sim
        .request(13, Request::from(MetadataRequest { topics: None, ..MetadataRequest::default() }));
    assert!(sim.metadata_answer(unnamed).topics.is_empty());

    sim.store_control();
    let response = sim.metadata_answer(asking);
    let [topic, bad] = &response.topics[..] else {
        panic!("two topics were asked for");
    };
    assert_eq!((topic.error_code, topic.partitions.len()), (OK, 2));
    assert_eq!(topic.partitions[1].leader_id, response.brokers[0].node_id);
    assert_eq!(topic.partitions[1].isr_nodes, topic.partitions[1].replica_nodes);
    let invalid = i16::from(ErrorCode::InvalidTopicException);
    assert_eq!(bad.error_code, invalid);
    assert_eq!(response.cluster_id.as_deref(), Some(&*"07".repeat(16)));
    assert_eq!(response.controller_id, response.brokers[0].node_id);
    let again = sim.metadata_answer(meanwhile);
    assert_eq!(again.topics[0].topic_id, topic.topic_id);
    assert!(sim.writes.is_empty(), "one topic, one write");

    let by_id = MetadataRequest {
        topics: Some(vec![
            MetadataRequestTopic { topic_id: topic.topic_id, name: None },
            MetadataRequestTopic { topic_id: Uuid([9; 16]), name: None },
        ]),
        ..MetadataRequest::default()
    };
    let asking = sim.request(13, Request::from(by_id));
    let response = sim.metadata_answer(asking);
    assert_eq!(response.topics[0].name.as_deref(), Some("t"));
    let unknown = i16::from(ErrorCode::UnknownTopicId);
    assert_eq!(response.topics[1].error_code, unknown);
}

#[test]
fn a_topic_that_is_not_made_is_not_there() {
    let mut sim = Sim::new(1 << 20);
    let asking = sim.metadata(13, &["t"]);
    sim.writes.clear();
    sim.handle(Event::ControlNotStored);
    let response = sim.metadata_answer(asking);
    let later = i16::from(ErrorCode::LeaderNotAvailable);
    assert_eq!(response.topics[0].error_code, later);

    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Text::from("t")),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let asking = sim.request(13, Request::from(request));
    let response = sim.metadata_answer(asking);
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(response.topics[0].error_code, unknown);
    assert!(sim.writes.is_empty());
}

#[test]
fn what_the_broker_makes_itself_is_not_made_by_asking() {
    let mut sim = Sim::new(1 << 20);
    let names = ["__transaction_state", "culvert.later", "culvert.gateways", "telemetry", "t"];
    let asking = sim.metadata(13, &names);
    sim.store_control();
    let response = sim.metadata_answer(asking);
    let invalid = i16::from(ErrorCode::InvalidTopicException);
    let told = response.topics.iter().map(|topic| (topic.error_code, topic.partitions.len()));
    assert_eq!(told.collect::<Vec<_>>(), [(invalid, 0), (invalid, 0), (OK, 1), (OK, 12), (OK, 2)]);
    assert_eq!(sim.broker.stats().topics, 3);
}

/// Requests of each API whose answers hold what answers can hold: data, and every kind of error.
fn answers_of(api: ApiKey, version: i16) -> Vec<Response> {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.produce("t", 0, batch(&["a"], 1));
    sim.commit();
    match api {
        ApiKey::Produce => ["t", "unknown"]
            .map(|topic| {
                let request = produce(topic, 0, -1, batch(&["b"], 1));
                let asker = sim.request(version, Request::from(request));
                sim.commit();
                match sim.answers.remove(&asker) {
                    Some(Answer::Produce(answer)) => Response::from(answer.response),
                    other => panic!("not a produce answer: {other:?}"),
                }
            })
            .into(),
        ApiKey::Fetch => [("t", 0), ("t", 9), ("unknown", 0)]
            .map(|(topic, offset)| {
                let request = FetchRequest { isolation_level: 1, ..fetch(topic, 0, offset) };
                let asker = sim.request(version, Request::from(request));
                Response::from(sim.fetched(asker))
            })
            .into(),
        ApiKey::ListOffsets => [-1, -2, -3, -4, -5, 1, 99]
            .map(|timestamp| {
                let asker = sim.request(version, Request::from(lookups::list(timestamp)));
                Response::from(sim.looked_up(asker))
            })
            .into(),
        ApiKey::Metadata => {
            let asker = sim.metadata(version, &["t", "no topic"]);
            let named = sim.metadata_answer(asker);
            let all = MetadataRequest {
                topics: if version == 0 { Some(Vec::new()) } else { None },
                include_cluster_authorized_operations: (8..=10).contains(&version),
                include_topic_authorized_operations: version >= 8,
                ..MetadataRequest::default()
            };
            let asker = sim.request(version, Request::from(all));
            let all = sim.metadata_answer(asker);
            assert_eq!(all.topics.len(), 1, "version {version}");
            vec![Response::from(named), Response::from(all)]
        }
        _ => {
            let mut answers = topics::answers_of(&mut sim, api, version);
            answers.extend(changes::answers_of(&mut sim, api, version));
            answers.extend(records::answers_of(&mut sim, api, version));
            answers
        }
    }
}

#[test]
fn every_answer_can_be_said_in_every_version() {
    let mut said = 0;
    for range in ADVERTISED {
        for version in range.first.max(range.api.schema().first)..=range.last {
            for response in answers_of(range.api, version) {
                let encoded = encode_response(1, version, &response);
                assert!(encoded.is_ok(), "{:?} {version}: {response:?}", range.api);
                said += 1;
            }
        }
    }
    assert_eq!(
        said,
        11 * 2
            + 15 * 3
            + 10 * 7
            + 14 * 2
            + 6 * 2
            + 6 * 2
            + 6 * 2
            + 4
            + 9 * 2
            + 3 * 2
            + 3 * 3
            + 4 * 2
    );
}

#[test]
fn metadata_that_is_older_than_the_log_is_refused() {
    let mut log = empty_log(0);
    let key = PartitionKey { topic_no: TopicNo(3), partition: Partition(0) };
    log.register_partition(key).unwrap();
    let image = Image::load(1, &Image::first([7; 16])).unwrap();
    let identity = Identity { incarnation: Incarnation([1; 16]), id_seed: [0; 32] };
    let refused = Broker::new(settings(), &identity, log, image).unwrap_err();
    let expected = BrokerError::MetadataBehindLog { log: 4, metadata: 1 };
    assert_eq!(refused, expected);
}

#[test]
fn the_same_events_have_the_same_effects() {
    let run = || {
        let mut sim = Sim::with_topic(0, "t");
        let mut trace = String::new();
        for i in 0..50 {
            let asker = if i % 3 == 0 {
                sim.request(12, Request::from(fetch("t", i % 2, 0)))
            } else {
                sim.produce("t", i % 2, batch(&["a", "b"], i64::from(i)))
            };
            if i % 4 == 0 {
                sim.commit();
            }
            sim.wait_ms(100);
            trace.push_str(&format!("{asker:?} {:?}\n", sim.answers));
        }
        trace
    };
    assert_eq!(run(), run());
}

#[test]
fn one_request_may_name_many_partitions() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    let mut request = produce("t", 0, -1, batch(&["a"], 1));
    for (index, records) in [(1, batch(&["b"], 1)), (7, batch(&["c"], 1))] {
        let data = broker_kafka::generated::produce::PartitionProduceData {
            index,
            records: Some(records),
        };
        request.topic_data[0].partition_data.push(data);
    }
    let asker = sim.request(9, Request::from(request));
    assert!(sim.answers.is_empty(), "two partitions wait for the disk");
    sim.commit();
    let Some(Answer::Produce(answer)) = sim.answers.remove(&asker) else {
        panic!("not a produce answer");
    };
    assert!(answer.failed);
    let of = |p: &PartitionProduceResponse| (p.index, p.error_code);
    let responses = &answer.response.responses[0].partition_responses;
    let found: Vec<_> = responses.iter().map(of).collect();
    let unknown = i16::from(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(found, [(0, OK), (1, OK), (7, unknown)]);
}
