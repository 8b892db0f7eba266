//! A disk that is full: what appends is refused, everything else goes on, and it passes.

use broker_kafka::generated::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use broker_kafka::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::{ErrorCode, Request, Response};
use broker_log::Room;
use wire::ids::ProducerId;
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};

use super::{OK, lookups, values};
use crate::DiskSpace;
use crate::event::Answer;
use crate::sim::{Sim, batch, batch_of, fetch, produce};

const STORAGE: i16 = ErrorCode::KafkaStorageError as i16;

impl Sim {
    pub(crate) fn set_room(&mut self, ready_files: usize, below_floor: bool) {
        let space = DiskSpace { total_bytes: 0, usable_bytes: 0 };
        self.broker.set_room(Room { ready_files, below_floor, ..Room::ENDLESS }, space);
    }
}

fn idempotent(base: i32) -> bytes::Bytes {
    let producer = BatchProducer {
        id: ProducerId(7),
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::new(base).unwrap(),
    };
    batch_of(producer, &["i"], 1)
}

/// The error of a batch, and its offset.
fn stores(sim: &mut Sim, batch: bytes::Bytes) -> (i16, i64) {
    let asker = sim.produce("t", 0, batch);
    sim.commit();
    let produced = sim.produced(asker);
    (produced.error_code, produced.base_offset)
}

#[test]
fn appends_are_refused_until_there_is_space_and_reads_go_on() {
    let mut sim = Sim::with_topic(0, "t");
    sim.set_room(3, false);
    assert_eq!(stores(&mut sim, batch(&["a"], 1)), (OK, 0));
    assert_eq!(stores(&mut sim, idempotent(0)), (OK, 1));
    sim.set_room(3, true);
    assert_eq!(stores(&mut sim, batch(&["b"], 1)), (STORAGE, -1));
    assert_eq!(stores(&mut sim, idempotent(1)), (STORAGE, -1));
    assert_eq!(stores(&mut sim, idempotent(0)), (OK, 1), "a copy needs no space");
    // Who wants no answer notices by the end of the connection.
    let request = produce("t", 0, 0, batch(&["b"], 1));
    let asker = sim.request(9, Request::from(request));
    assert!(matches!(sim.answers.remove(&asker), Some(Answer::Produce(a)) if a.failed));

    let asker = sim.request(12, Request::from(fetch("t", 0, 0)));
    assert_eq!(values(&sim.fetched(asker)), ["a", "i"]);
    assert_eq!(lookups::look_up(&mut sim, 10, -1).offset, 2);
    sim.set_room(3, false);
    assert_eq!(stores(&mut sim, idempotent(1)), (OK, 2), "its sequence has no hole");
    assert_eq!(stores(&mut sim, batch(&["b"], 1)), (OK, 3));
}

#[test]
fn only_what_surely_fits_is_taken() {
    let mut sim = Sim::with_topic(0, "t");
    sim.set_room(0, false);
    // The file at hand has 256 KiB.
    let value = "x".repeat(60 << 10);
    let stored = (0..9).take_while(|_| stores(&mut sim, batch(&[&value], 1)).0 == OK).count();
    assert!((2..=4).contains(&stored), "{stored} times 60 KiB");
    assert_eq!(stores(&mut sim, batch(&[&value], 1)).0, STORAGE);
    sim.set_room(1, false);
    assert_eq!(stores(&mut sim, batch(&[&value], 1)).0, OK);
}

#[test]
fn space_can_be_given_back_while_the_disk_is_full() {
    let mut sim = Sim::with_topic(0, "t");
    let made = sim.metadata(13, &["u"]);
    sim.store_control();
    sim.metadata_answer(made);
    assert_eq!(stores(&mut sim, batch(&["a"], 1)).0, OK);
    sim.set_room(0, true);
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Text::from("t"),
            partitions: vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }],
        }],
        timeout_ms: 30_000,
    };
    let asker = sim.request(2, delete.into());
    sim.run_jobs();
    let Response::DeleteRecords(response) = sim.admin_answer(asker) else {
        panic!("not the answer");
    };
    assert_eq!(response.topics[0].partitions[0].low_watermark, 1);
    let topics = vec![DeleteTopicState { name: Some(Text::from("u")), topic_id: Uuid::ZERO }];
    let delete = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
    let Response::DeleteTopics(response) = sim.admin(6, delete.into()) else {
        panic!("not the answer");
    };
    assert_eq!(response.responses[0].error_code, OK);
}
