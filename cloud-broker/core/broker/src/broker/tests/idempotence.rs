//! InitProducerId and what idempotent producers are answered.

use broker_kafka::generated::Request;
use broker_kafka::generated::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use broker_kafka::generated::produce::PartitionProduceResponse;
use broker_kafka::runtime::Text;
use broker_kafka::{ErrorCode, Response};
use bytes::Bytes;
use wire::ids::ProducerId;
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};

use super::OK;
use crate::event::{Asker, Event};
use crate::sim::{Sim, batch_of};

fn init(pid: i64, epoch: i16) -> Request {
    Request::from(InitProducerIdRequest {
        transactional_id: None,
        producer_id: pid,
        producer_epoch: epoch,
        ..InitProducerIdRequest::default()
    })
}

fn of(response: Response) -> InitProducerIdResponse {
    match response {
        Response::InitProducerId(response) => response,
        other => panic!("not the answer: {other:?}"),
    }
}

/// Error, id and epoch.
fn told(response: &InitProducerIdResponse) -> (i16, i64, i16) {
    (response.error_code, response.producer_id, response.producer_epoch)
}

#[test]
fn producer_ids_are_reserved_before_they_are_given_out() {
    let mut sim = Sim::new(0);
    let first = sim.request(5, init(-1, -1));
    let second = sim.request(0, init(-1, -1));
    assert!(sim.answers.is_empty(), "the reservation is not stored");
    assert_eq!(sim.writes.len(), 1, "one reservation for both");
    sim.store_control();
    assert_eq!(told(&of(sim.admin_answer(first))), (OK, 0, 0));
    assert_eq!(told(&of(sim.admin_answer(second))), (OK, 1, 0));
    for pid in 2..1_000 {
        let response = of(sim.admin(4, init(-1, -1)));
        assert_eq!(told(&response), (OK, pid, 0));
    }
    assert!(sim.writes.is_empty());
    let next = sim.request(4, init(-1, -1));
    sim.store_control();
    assert_eq!(told(&of(sim.admin_answer(next))), (OK, 1_000, 0));
}

#[test]
fn a_reservation_that_is_not_stored_gives_nothing_out() {
    let mut sim = Sim::new(0);
    let asked = sim.request(4, init(-1, -1));
    sim.writes.clear();
    sim.handle(Event::ControlNotStored);
    let later = i16::from(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(told(&of(sim.admin_answer(asked))), (later, -1, -1));
    assert_eq!(told(&of(sim.admin(4, init(-1, -1)))), (OK, 0, 0));
}

#[test]
fn more_may_wait_than_are_reserved() {
    let mut sim = Sim::new(0);
    let asked: Vec<Asker> = (0..1_003).map(|_| sim.request(4, init(-1, -1))).collect();
    sim.store_control();
    let later = i16::from(ErrorCode::CoordinatorLoadInProgress);
    for (asker, pid) in asked.into_iter().zip(0..) {
        let expected = if pid < 1_000 { (OK, pid, 0) } else { (later, -1, -1) };
        assert_eq!(told(&of(sim.admin_answer(asker))), expected);
    }
    assert_eq!(told(&of(sim.admin(4, init(-1, -1)))), (OK, 1_000, 0));
}

#[test]
fn a_producer_may_ask_for_its_next_epoch() {
    let mut sim = Sim::new(0);
    assert_eq!(told(&of(sim.admin(4, init(-1, -1)))), (OK, 0, 0));
    let invalid = i16::from(ErrorCode::InvalidRequest);
    for (pid, epoch, expected) in [
        (0, 0, (OK, 0, 1)),
        // The answer was lost.
        (0, 0, (OK, 0, 1)),
        (0, 7, (OK, 0, 8)),
        (0, i16::MAX - 2, (OK, 0, i16::MAX - 1)),
        // Its epochs are used up; and an id that nobody was given.
        (0, i16::MAX - 1, (OK, 1, 0)),
        (0, i16::MAX, (OK, 2, 0)),
        (3, 0, (OK, 3, 0)),
        (i64::MAX, 0, (OK, 4, 0)),
        (-1, 0, (invalid, -1, -1)),
        (0, -1, (invalid, -1, -1)),
        (-2, -2, (invalid, -1, -1)),
    ] {
        let response = of(sim.admin(5, init(pid, epoch)));
        assert_eq!(told(&response), expected, "id {pid}, epoch {epoch}");
    }
}

#[test]
fn an_id_of_an_earlier_life_keeps_its_epochs() {
    let mut sim = Sim::new(0);
    sim.request(4, init(-1, -1));
    let write = sim.writes.remove(0);
    let image = crate::Image::load(2, &write.bytes).unwrap();
    let mut next = Sim::of(image);
    assert_eq!(told(&of(next.admin(4, init(17, 3)))), (OK, 17, 4));
    assert_eq!(told(&of(next.admin(4, init(-1, -1)))), (OK, 1_000, 0));
}

#[test]
fn transactions_are_refused_for_good() {
    let mut sim = Sim::new(0);
    for (id, code) in [("tx", ErrorCode::UnsupportedVersion), ("", ErrorCode::InvalidRequest)] {
        let request = InitProducerIdRequest {
            transactional_id: Some(Text::from(id)),
            transaction_timeout_ms: 1_000,
            ..InitProducerIdRequest::default()
        };
        let response = of(sim.admin(4, Request::from(request)));
        assert_eq!(told(&response), (i16::from(code), -1, -1));
    }
    assert!(sim.writes.is_empty());
}

/// A batch of producer 3.
fn numbered(epoch: i16, base: i32, values: &[&str]) -> Bytes {
    let base = StreamSeq::new(base).unwrap();
    let producer = BatchProducer { id: ProducerId(3), epoch: StreamEpoch(epoch), base };
    batch_of(producer, values, 1)
}

fn error_and_offset(produced: &PartitionProduceResponse) -> (i16, i64) {
    (produced.error_code, produced.base_offset)
}

#[test]
fn a_copy_is_answered_as_the_original_and_not_before_it() {
    let mut sim = Sim::with_topic(1 << 20, "t");
    sim.produce("t", 0, crate::sim::batch(&["x"], 1));
    let first = sim.produce("t", 0, numbered(0, 0, &["a", "b"]));
    sim.begin_write();
    let copy = sim.produce("t", 0, numbered(0, 0, &["a", "b"]));
    assert!(!sim.answers.contains_key(&copy), "the original is not durable");
    sim.end_write();
    assert_eq!(error_and_offset(&sim.produced(first)), (OK, 1));
    assert_eq!(error_and_offset(&sim.produced(copy)), (OK, 1));
    // Once nothing waits for the disk, at once.
    let copy = sim.produce("t", 0, numbered(0, 0, &["a", "b"]));
    assert_eq!(error_and_offset(&sim.produced(copy)), (OK, 1));

    let hole = sim.produce("t", 0, numbered(0, 3, &["d"]));
    let out_of_order = i16::from(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(error_and_offset(&sim.produced(hole)), (out_of_order, -1));
    let bumped = sim.produce("t", 0, numbered(1, 0, &["c"]));
    sim.commit();
    assert_eq!(error_and_offset(&sim.produced(bumped)), (OK, 3));
    let old = sim.produce("t", 0, numbered(0, 2, &["c"]));
    let fenced = i16::from(ErrorCode::InvalidProducerEpoch);
    assert_eq!(error_and_offset(&sim.produced(old)), (fenced, -1));
}
