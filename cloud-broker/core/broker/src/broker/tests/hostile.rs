//! Requests that nobody would make by intent: whatever a frame says, it is refused or answered once, and the answer can be said.

use std::collections::BTreeMap;

use broker_kafka::frame::{RequestHeader, encode_request};
use broker_kafka::runtime::Text;
use broker_kafka::versions::ADVERTISED;
use broker_kafka::{ApiKey, Response};
use bytes::Bytes;
use wire::record_batch::{RecordBatchHeader, crc32c};

use super::{changes, lookups, records, topics};
use crate::conn::{Received, Reply, RequestInfo, receive};
use crate::event::{Answer, Asker, Event};
use crate::sim::{Sim, batch, fetch, produce};

const FRAMES: usize = 20_000;

/// Longer than anybody may wait, in milliseconds.
const LONGEST_WAIT_MS: u64 = 1 << 32;

/// Numbers that look random and are the same every time (xorshift).
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % end.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A frame of every request that other tests make, in every version: what follows the length.
fn frames() -> Vec<(ApiKey, Vec<u8>)> {
    let mut frames = Vec::new();
    for range in ADVERTISED {
        for version in range.first.max(range.api.schema().first)..=range.last {
            let mut requests = crate::broker::groups::tests::requests(&Default::default(), version);
            requests.push(produce("t", 0, -1, batch(&["a", "b"], 1)).into());
            requests.push(fetch("t", 0, 0).into());
            requests.push(lookups::list(1).into());
            let mut sim = Sim::with_topic(0, "t");
            sim.metadata(version, &["t", "u"]);
            topics::answers_of(&mut sim, range.api, version);
            changes::answers_of(&mut sim, range.api, version);
            records::answers_of(&mut sim, range.api, version);
            requests.extend(sim.asked);
            requests.retain(|request| request.api() == range.api);
            frames.extend(requests.iter().filter_map(|request| {
                let header = RequestHeader {
                    api: range.api,
                    version,
                    correlation_id: 7,
                    client_id: Some(Text::from("client")),
                };
                let chunks = encode_request(&header, request).ok()?;
                Some((range.api, chunks.concat()[4..].to_vec()))
            }));
        }
    }
    frames
}

/// Changes some bytes behind the key and the version of a request.
fn spoil(frame: &mut Vec<u8>, noise: &mut Noise) {
    for _ in 0..noise.below(5) {
        let at = 4 + noise.below(frame.len() - 4);
        let extreme = noise.one_of(&[i64::MAX, i64::MIN, -1, 0, 1]).to_be_bytes();
        match noise.below(5) {
            0 => frame[at] = noise.below(256) as u8,
            1 => frame[at] ^= 1 << noise.below(8),
            2 => frame.insert(at, noise.below(256) as u8),
            3 if frame.len() > 8 => drop(frame.remove(at)),
            _ => frame[at..].iter_mut().zip(extreme).for_each(|(byte, new)| *byte = new),
        }
    }
}

/// Changes fields of the header of a record batch, and makes its CRC fit.
fn spoil_batch(frame: &mut [u8], noise: &mut Noise) {
    let header_at = |at: usize| {
        let header = RecordBatchHeader::parse(&frame[at..]).ok()?;
        header.check_crc(&frame[at..]).is_ok().then_some((at, header.total_len))
    };
    let Some((at, length)) = (0..frame.len()).find_map(header_at) else {
        return;
    };
    let batch = &mut frame[at..at + length];
    for _ in 0..=noise.below(3) {
        // Attributes, last offset delta, both timestamps, producer id, epoch, sequence, count.
        let (from, bytes) =
            noise.one_of(&[(21, 2), (23, 4), (27, 8), (35, 8), (43, 8), (51, 2), (53, 4), (57, 4)]);
        let value = noise.one_of(&[i64::MAX, i64::MIN, -1, 0, 1, 2, 5, 1 << 31, 1 << 62, 1 << 15]);
        batch[from..from + bytes].copy_from_slice(&value.to_be_bytes()[8 - bytes..]);
    }
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Lets everything happen that can happen by now.
fn settle(sim: &mut Sim) {
    while !sim.writes.is_empty() {
        sim.store_control();
    }
    sim.run_jobs();
    sim.read_groups();
    sim.commit();
}

fn response(sim: &mut Sim, asker: Asker) -> Response {
    match sim.answers.get(&asker) {
        Some(Answer::Fetch(_)) => sim.fetched(asker).into(),
        Some(Answer::Lookup(_)) => sim.looked_up(asker).into(),
        _ => match sim.answers.remove(&asker) {
            Some(Answer::Admin(answer)) => answer.into_response(),
            Some(Answer::Group(response)) => *response,
            Some(Answer::Metadata(response)) => (*response).into(),
            Some(Answer::Produce(answer)) => answer.response.into(),
            other => panic!("not an answer to a Kafka client: {other:?}"),
        },
    }
}

/// Takes the answers that are there; says how many.
fn take_answers(sim: &mut Sim, asked: &mut BTreeMap<Asker, RequestInfo>) -> usize {
    let ready: Vec<Asker> = sim.answers.keys().copied().collect();
    for &asker in &ready {
        let info = asked.remove(&asker).expect("what was asked is answered, and nothing else");
        let response = response(sim, asker);
        if info.reply == Reply::Expected {
            let encoded = info.encode(&response);
            assert!(encoded.is_ok(), "{info:?}: {response:?}");
        }
    }
    ready.len()
}

#[test]
fn whatever_is_asked_is_answered_once() {
    let frames = frames();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut sim = Sim::with_topic(0, "t");
    let mut asked = BTreeMap::new();
    let mut answered = 0;
    for _ in 0..FRAMES {
        let (api, frame) = &frames[noise.below(frames.len())];
        let mut frame = frame.clone();
        if *api == ApiKey::Produce && noise.below(2) == 0 {
            spoil_batch(&mut frame, &mut noise);
        } else {
            spoil(&mut frame, &mut noise);
        }
        let keyed = std::sync::Arc::clone(sim.broker.keyed_topics());
        if let Ok(Received::Ask(info, request)) = receive(&Bytes::from(frame), "/host", &keyed) {
            let asker = sim.asker(1);
            asked.insert(asker, info);
            sim.handle(Event::Kafka(asker, request));
        }
        match noise.below(100) {
            0 => settle(&mut sim),
            1..3 => sim.wait_ms(noise.below(20_000) as u64),
            3..30 => sim.commit(),
            _ => {}
        }
        answered += take_answers(&mut sim, &mut asked);
    }
    // Members that never came back are given up, and others become leaders that do not come back either.
    while !asked.is_empty() {
        let before = asked.len();
        for _ in 0..10 {
            settle(&mut sim);
            sim.wait_ms(LONGEST_WAIT_MS);
        }
        answered += take_answers(&mut sim, &mut asked);
        assert!(asked.len() < before, "never answered: {asked:?}");
    }
    assert!(answered > FRAMES / 4, "{answered}: most are not even understood");
}

#[test]
fn requests_are_what_they_seem() {
    // The noise is in vain if what it is added to is refused already.
    for (_, frame) in frames() {
        let sim = Sim::new(0);
        let received = receive(&Bytes::from(frame), "/host", sim.broker.keyed_topics());
        assert!(received.is_ok(), "{received:?}");
    }
}
