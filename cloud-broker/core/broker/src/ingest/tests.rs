use broker_kafka::generated::Request;
use broker_kafka::generated::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use broker_kafka::runtime::Text;
use bytes::Bytes;
use wire::ids::{Lane, Partition, ProducerId, SpoolId, TopicId};
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::uplink::{Append, Hello, StreamState, Welcome};

use super::*;
use crate::event::{Answer, Event};
use crate::sim::{Sim, batch_of};

const SPOOL: SpoolId = SpoolId([3; 16]);
const SESSION: SessionId = SessionId(77);

fn gateway() -> GatewayId {
    GatewayId::new("plant-1").unwrap()
}

fn pid() -> ProducerId {
    ProducerId::of_lane(&gateway(), SPOOL, Lane::Live)
}

fn hello<'a>(topics: Vec<&'a str>, streams: Vec<StreamKey>) -> Hello<'a> {
    Hello { version_min: 1, version_max: 1, gateway: "plant-1", spool: SPOOL, topics, streams }
}

/// A simulated broker with what an uplink session does.
struct Uplink {
    sim: Sim,
    topic: TopicId,
}

impl Uplink {
    /// A session that was welcomed, for `telemetry` and the control topic.
    fn welcomed() -> Self {
        let mut uplink = Self { sim: Sim::new(1 << 20), topic: TopicId([0; 16]) };
        let hello = hello(vec!["telemetry", "culvert.gateways"], Vec::new());
        let asker = uplink.send(&Frame::Hello(hello));
        assert!(uplink.sim.answers.is_empty(), "the topics are not stored");
        uplink.sim.store_control();
        let answer = uplink.answer(asker);
        let welcome = welcome_of(&answer);
        assert_eq!(welcome.topics.len(), 2);
        assert_eq!(welcome.topics[0].partitions, 12);
        assert_eq!(welcome.topics[1].partitions, 1);
        uplink.topic = welcome.topics[0].id;
        uplink
    }

    fn send(&mut self, frame: &Frame<'_>) -> Asker {
        let bytes = Bytes::from(frame.encode().unwrap()).slice(4..);
        let asker = self.sim.asker(9);
        self.sim.handle(Event::Uplink {
            asker,
            session: SESSION,
            identity: gateway(),
            request: UplinkRequest::parse(&bytes).unwrap(),
        });
        asker
    }

    fn answer(&mut self, asker: Asker) -> UplinkAnswer {
        match self.sim.answers.remove(&asker) {
            Some(Answer::Uplink(answer)) => answer,
            other => panic!("not an uplink answer: {other:?}"),
        }
    }

    fn stream(&self) -> StreamKey {
        StreamKey { pid: pid(), topic: self.topic, partition: Partition(5) }
    }

    /// Sends an append of two readings.
    fn append(&mut self, base: i32, prev_tag: u64, tag: u64) -> Asker {
        let stream = self.stream();
        let batch = readings(base);
        let append = append_of(stream, base, (prev_tag, tag), &batch);
        self.send(&Frame::Append(append))
    }

    fn state(&mut self, asker: Asker) -> State {
        let answer = self.answer(asker);
        match decode(&answer) {
            Frame::State(state) => state,
            other => panic!("not a STATE: {other:?}"),
        }
    }

    fn refused(&mut self, asker: Asker) -> (RefusedCode, bool, State) {
        let answer = self.answer(asker);
        match decode(&answer) {
            Frame::Refused(refused) => (refused.code, refused.permanent, refused.state),
            other => panic!("not a REFUSED: {other:?}"),
        }
    }
}

fn readings(base: i32) -> Bytes {
    let producer =
        BatchProducer { id: pid(), epoch: StreamEpoch::FIRST, base: StreamSeq::new(base).unwrap() };
    batch_of(producer, &["1", "2"], 5)
}

fn append_of<'a>(
    stream: StreamKey,
    base: i32,
    (prev_tag, tag): (u64, u64),
    batch: &'a [u8],
) -> Append<'a> {
    Append {
        stream,
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::new(base).unwrap(),
        count: 2,
        prev_tag: Tag(prev_tag),
        tag: Tag(tag),
        batch,
    }
}

fn decode(answer: &UplinkAnswer) -> Frame<'_> {
    Frame::decode(&answer.frame[4..]).unwrap()
}

fn welcome_of(answer: &UplinkAnswer) -> Welcome<'_> {
    match decode(answer) {
        Frame::Welcome(welcome) => welcome,
        other => panic!("not a WELCOME: {other:?}"),
    }
}

fn goodbye_of(answer: &UplinkAnswer) -> GoodbyeReason {
    match decode(answer) {
        Frame::Goodbye(reason, _) => {
            assert_eq!(answer.close, Some(reason));
            reason
        }
        other => panic!("not a GOODBYE: {other:?}"),
    }
}

fn stands(last: i32, tag: u64) -> Option<StreamState> {
    Some(StreamState { epoch: StreamEpoch::FIRST, last: StreamSeq::new(last), tag: Tag(tag) })
}

#[test]
fn an_append_is_answered_with_the_durable_state() {
    let mut uplink = Uplink::welcomed();
    let first = uplink.append(0, 0, 10);
    let second = uplink.append(2, 10, 11);
    assert!(uplink.sim.answers.is_empty(), "nothing is durable");
    uplink.sim.begin_write();
    let third = uplink.append(4, 11, 12);
    uplink.sim.end_write();
    let state = uplink.state(first);
    assert_eq!((state.answers, state.state), (Tag(10), stands(3, 11)));
    assert_eq!(uplink.state(second).answers, Tag(11));
    assert!(uplink.sim.answers.is_empty(), "the third is in the next slot");
    uplink.sim.commit();
    assert_eq!(uplink.state(third).state, stands(5, 12));
}

#[test]
fn a_duplicate_is_answered_after_its_original_is_durable() {
    let mut uplink = Uplink::welcomed();
    let original = uplink.append(0, 0, 10);
    let duplicate = uplink.append(0, 0, 10);
    assert!(uplink.sim.answers.is_empty());
    uplink.sim.commit();
    assert_eq!(uplink.state(original).state, stands(1, 10));
    assert_eq!(uplink.state(duplicate).state, stands(1, 10));
    // With nothing under way there is nothing to wait for.
    let late = uplink.append(0, 0, 10);
    assert_eq!(uplink.state(late).state, stands(1, 10));
}

#[test]
fn what_does_not_fit_is_not_stored() {
    let mut uplink = Uplink::welcomed();
    // A stream that nobody knows begins with (0, 0, nil) and nothing else.
    for (base, prev_tag) in [(2, 0), (0, 9)] {
        let asker = uplink.append(base, prev_tag, 10);
        assert_eq!(uplink.state(asker).state, None);
    }
    uplink.append(0, 0, 10);
    uplink.sim.commit();
    for (base, prev_tag) in [(0, 10), (1, 10), (3, 10), (4, 10), (2, 11), (2, 0)] {
        let asker = uplink.append(base, prev_tag, 12);
        assert_eq!(uplink.state(asker).state, stands(1, 10));
    }
    let stream = uplink.stream();
    let batch = readings(2);
    let mut other_epoch = append_of(stream, 2, (10, 12), &batch);
    other_epoch.epoch = StreamEpoch(1);
    let asker = uplink.send(&Frame::Append(other_epoch));
    assert_eq!(uplink.state(asker).state, stands(1, 10));
    let asker = uplink.append(2, 10, 12);
    uplink.sim.commit();
    assert_eq!(uplink.state(asker).state, stands(3, 12));
}

#[test]
fn a_bad_batch_is_refused_for_ever_only_where_it_fits() {
    let mut uplink = Uplink::welcomed();
    uplink.append(0, 0, 10);
    let stream = uplink.stream();
    let mut flipped = readings(2).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let foreign = readings(4);
    let large = vec![0; wire::limits::RECORD_BATCH_BYTES_MAX + 1];
    let bad: [(&[u8], RefusedCode); 4] = [
        (&flipped, RefusedCode::Invalid),
        (b"", RefusedCode::Invalid),
        (&foreign, RefusedCode::Invalid),
        (&large, RefusedCode::TooLarge),
    ];
    let mut fitting = Vec::new();
    for (batch, code) in bad {
        let append = append_of(stream, 2, (10, 11), batch);
        fitting.push((uplink.send(&Frame::Append(append)), code));
    }
    assert!(uplink.sim.answers.is_empty(), "the append before it is not durable");
    uplink.sim.commit();
    for (asker, code) in fitting {
        let (found, permanent, state) = uplink.refused(asker);
        assert_eq!((found, permanent), (code, true));
        assert_eq!((state.answers, state.state), (Tag(11), stands(1, 10)));
    }
    for (batch, _) in bad {
        let append = append_of(stream, 6, (10, 11), batch);
        let asker = uplink.send(&Frame::Append(append));
        assert_eq!(uplink.state(asker).state, stands(1, 10), "B1 comes first");
    }
    let wrong_count = Append { count: 3, ..append_of(stream, 2, (10, 11), &foreign) };
    let asker = uplink.send(&Frame::Append(wrong_count));
    assert_eq!(uplink.refused(asker).0, RefusedCode::Invalid);
}

#[test]
fn streams_of_others_are_not_touched_and_nothing_is_said_of_them() {
    let mut uplink = Uplink::welcomed();
    let mine = uplink.stream();
    let batch = readings(0);
    let cases = [
        (StreamKey { pid: ProducerId(pid().0 ^ 1), ..mine }, RefusedCode::Unauthorized),
        (StreamKey { topic: TopicId([9; 16]), ..mine }, RefusedCode::Unavailable),
        (StreamKey { partition: Partition(12), ..mine }, RefusedCode::Unavailable),
    ];
    for (stream, code) in cases {
        let asker = uplink.send(&Frame::Append(append_of(stream, 0, (0, 10), &batch)));
        let (found, permanent, state) = uplink.refused(asker);
        assert_eq!((found, permanent, state.state), (code, false, None));
        assert_eq!(state.answers, Tag(10));
    }
    // A topic that is there, but that HELLO did not name.
    let asker = uplink.sim.metadata(13, &["other"]);
    uplink.sim.store_control();
    let other = uplink.sim.metadata_answer(asker).topics[0].topic_id;
    let stream = StreamKey { topic: other.into(), ..mine };
    let asker = uplink.send(&Frame::Append(append_of(stream, 0, (0, 10), &batch)));
    assert_eq!(uplink.refused(asker).0, RefusedCode::Unauthorized);
}

#[test]
fn reset_is_refused_aloud_and_changes_nothing() {
    let mut uplink = Uplink::welcomed();
    uplink.append(0, 0, 10);
    uplink.sim.commit();
    let reset = Reset { stream: uplink.stream(), epoch: StreamEpoch(1), tag: Tag(50) };
    let asker = uplink.send(&Frame::Reset(reset));
    let (code, permanent, state) = uplink.refused(asker);
    assert_eq!((code, permanent), (RefusedCode::Unsupported, false));
    assert_eq!((state.answers, state.state), (Tag(50), stands(1, 10)));
    uplink.sim.answers.clear();
    let before = uplink.append(2, 10, 11);
    let asker = uplink.send(&Frame::Reset(reset));
    assert!(uplink.sim.answers.is_empty(), "the append before it is not durable");
    uplink.sim.commit();
    assert_eq!(uplink.state(before).state, stands(3, 11));
    assert_eq!(uplink.refused(asker).2.state, stands(3, 11));
}

#[test]
fn a_full_log_refuses_for_now() {
    let mut uplink = Uplink::welcomed();
    let value = "x".repeat(4 << 20);
    let mut asked = Vec::new();
    for base in 0..20 {
        let producer = BatchProducer {
            id: pid(),
            epoch: StreamEpoch::FIRST,
            base: StreamSeq::new(base).unwrap(),
        };
        let batch = batch_of(producer, &[&value], 5);
        let tag = u64::try_from(base).unwrap();
        let append =
            Append { count: 1, ..append_of(uplink.stream(), base, (tag, tag + 1), &batch) };
        asked.push(uplink.send(&Frame::Append(append)));
    }
    uplink.sim.commit();
    // What fits is stored; the first that does not fit is refused for now; those behind it have a hole before them.
    let is_refused = |uplink: &Uplink, asker| match &uplink.sim.answers[asker] {
        Answer::Uplink(answer) => matches!(decode(answer), Frame::Refused(_)),
        other => panic!("not an uplink answer: {other:?}"),
    };
    let stored = asked.iter().position(|asker| is_refused(&uplink, asker));
    let stored = stored.expect("twenty times 4 MiB are too much");
    assert!((8..20).contains(&stored));
    let (code, permanent, state) = uplink.refused(asked[stored]);
    assert_eq!((code, permanent), (RefusedCode::Unavailable, false));
    let last = i32::try_from(stored).unwrap() - 1;
    assert_eq!(state.state, stands(last, state.answers.0 - 1));
    for asker in asked.drain(stored + 1..) {
        assert_eq!(uplink.state(asker).state, state.state);
    }
}

#[test]
fn a_full_disk_refuses_for_now() {
    let mut uplink = Uplink::welcomed();
    let stored = uplink.append(0, 0, 11);
    uplink.sim.commit();
    assert_eq!(uplink.state(stored).state, stands(1, 11));
    uplink.sim.set_room(3, true);
    let refused = uplink.append(2, 11, 12);
    let (code, permanent, state) = uplink.refused(refused);
    assert_eq!((code, permanent), (RefusedCode::Unavailable, false));
    assert_eq!(state.state, stands(1, 11));
    let copy = uplink.append(0, 0, 11);
    assert_eq!(uplink.state(copy).state, stands(1, 11), "it is stored already");
    uplink.sim.set_room(3, false);
    let again = uplink.append(2, 11, 12);
    uplink.sim.commit();
    assert_eq!(uplink.state(again).state, stands(3, 12));
}

#[test]
fn who_may_not_is_sent_away() {
    let other = |version_min, version_max, gateway, topics| {
        Frame::Hello(Hello { version_min, version_max, gateway, ..hello(topics, Vec::new()) })
    };
    let cases = [
        (other(1, 1, "plant-2", vec![]), GoodbyeReason::Unauthorized),
        (other(1, 1, "plant-1", vec!["secret"]), GoodbyeReason::Unauthorized),
        (other(2, 3, "plant-1", vec![]), GoodbyeReason::Version),
        (other(0, 0, "plant-1", vec![]), GoodbyeReason::Version),
    ];
    let mut uplink = Uplink { sim: Sim::new(0), topic: TopicId([0; 16]) };
    for (frame, reason) in cases {
        let asker = uplink.send(&frame);
        let answer = uplink.answer(asker);
        assert_eq!(goodbye_of(&answer), reason);
        assert!(uplink.sim.writes.is_empty(), "no topic is made for strangers");
    }
    let before_hello = uplink.append(0, 0, 10);
    let answer = uplink.answer(before_hello);
    assert_eq!(goodbye_of(&answer), GoodbyeReason::Protocol);
    let asker = uplink.send(&other(0, 9, "plant-1", vec![]));
    let answer = uplink.answer(asker);
    assert_eq!(welcome_of(&answer).version, 1);
}

#[test]
fn welcome_hints_where_streams_stand() {
    let mut uplink = Uplink::welcomed();
    uplink.append(0, 0, 10);
    uplink.sim.commit();
    uplink.append(2, 10, 11);
    let stream = uplink.stream();
    let foreign = StreamKey { pid: ProducerId(pid().0 ^ 1), ..stream };
    let never_used = StreamKey { partition: Partition(6), ..stream };
    let again = hello(vec!["telemetry"], vec![foreign, never_used, stream]);
    let asker = uplink.send(&Frame::Hello(again));
    let answer = uplink.answer(asker);
    let welcome = welcome_of(&answer);
    assert_eq!(welcome.states, [(stream, stands(1, 10).unwrap())]);
    assert_eq!(welcome.frames_in_flight, SESSION_FRAMES_MAX);
    assert_eq!(welcome.time, uplink.sim.wall);
}

#[test]
fn topics_that_cannot_be_stored_end_the_session() {
    let mut uplink = Uplink { sim: Sim::new(0), topic: TopicId([0; 16]) };
    let asker = uplink.send(&Frame::Hello(hello(vec!["telemetry"], Vec::new())));
    uplink.sim.handle(Event::ControlNotStored);
    let answer = uplink.answer(asker);
    assert_eq!(goodbye_of(&answer), GoodbyeReason::Stopping);
}

#[test]
fn a_session_that_left_before_its_welcome_does_not_come_back() {
    let mut uplink = Uplink { sim: Sim::new(0), topic: TopicId([0; 16]) };
    uplink.send(&Frame::Hello(hello(vec!["telemetry"], Vec::new())));
    uplink.sim.handle(Event::SessionGone(SESSION));
    uplink.sim.store_control();
    assert!(uplink.sim.answers.is_empty());
    assert_eq!(uplink.sim.broker.stats().uplink_sessions, 0);
}

#[test]
fn a_consumer_that_comes_first_makes_the_topics_that_gateways_want() {
    let mut sim = Sim::new(0);
    assert_eq!(sim.broker.stats().topics, 0);
    let asker = sim.metadata(13, &["telemetry", "culvert.gateways", "other"]);
    sim.store_control();
    let topics = sim.metadata_answer(asker).topics;
    let partitions: Vec<usize> = topics.iter().map(|topic| topic.partitions.len()).collect();
    let by_default = crate::sim::settings().default_partitions as usize;
    assert_eq!(partitions, [12, 1, by_default]);
    let mut uplink = Uplink { sim, topic: TopicId([0; 16]) };
    let asker = uplink.send(&Frame::Hello(hello(vec!["telemetry"], Vec::new())));
    let answer = uplink.answer(asker);
    assert_eq!(welcome_of(&answer).topics[0].partitions, 12);
}

#[test]
fn a_deleted_topic_ends_the_session_and_comes_back_as_another() {
    let mut uplink = Uplink::welcomed();
    let stored = uplink.append(0, 0, 11);
    uplink.sim.commit();
    assert_eq!(uplink.state(stored).state, stands(1, 11));
    // On its way to the disk when the topic goes.
    let late = uplink.append(2, 11, 12);
    let topics = vec![DeleteTopicState {
        name: Some(Text::from("telemetry")),
        topic_id: broker_kafka::runtime::Uuid::ZERO,
    }];
    let request = DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() };
    uplink.sim.admin(6, Request::from(request));
    uplink.sim.commit();
    // A state would say that the log has lost what it had acknowledged.
    let answer = uplink.answer(late);
    assert_eq!(answer.close, Some(GoodbyeReason::Stopping));
    let after = uplink.append(4, 12, 13);
    assert_eq!(uplink.answer(after).close, Some(GoodbyeReason::Stopping));

    // The next session's WELCOME has another id under the name, and nothing of the old stream.
    uplink.sim.handle(Event::SessionGone(SESSION));
    let old = uplink.stream();
    let asker = uplink.send(&Frame::Hello(hello(vec!["telemetry"], vec![old])));
    uplink.sim.store_control();
    let answer = uplink.answer(asker);
    let welcome = welcome_of(&answer);
    assert_ne!(welcome.topics[0].id, old.topic);
    assert!(welcome.states.is_empty());
    uplink.topic = welcome.topics[0].id;
    let first = uplink.append(0, 0, 14);
    uplink.sim.commit();
    assert_eq!(uplink.state(first).state, stands(1, 14));
}
