//! A checkpoint says what the log knew at the end of one slot, and nothing of what was staged behind it: wherever it is begun,
//! built, stored or lost, producers and streams stand where their batches say.

use broker_log::{
    IdempotentOutcome, Job, Log, LogSettings, SlotToWrite, UplinkAppend, UplinkOutcome,
    UplinkStream,
};
use bytes::Bytes;
use wire::ids::{ProducerId, Tag};
use wire::offset::Offset;
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::uplink::StreamState;

use crate::batches::{batch_of, key};
use crate::disk::{small, write};
use crate::world::World;

const PRODUCERS: usize = 3;
const STREAMS: usize = 3;

/// One producer and what it has sent: sequence, offset and bytes of each batch.
#[derive(Default)]
struct Sender {
    sent: Vec<(i32, Offset, Bytes)>,
    durable: usize,
}

struct Fleet {
    world: World,
    producers: Vec<Sender>,
    streams: Vec<Vec<StreamState>>,
    durable_states: Vec<usize>,
    in_flight: Option<SlotToWrite>,
    job: Option<Job>,
    name: u64,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let settings = LogSettings {
            checkpoint_bytes_min: 40 << 10,
            space_checkpoint_ms: 1_000,
            l0_bytes_max: 64 << 10,
            rewrite_bytes_min: 64 << 10,
            step_entries: 1,
            ..small()
        };
        let mut world = World::new(settings, &[key(0, 0), key(1, 1)]);
        world.rng.0 = seed;
        Self {
            world,
            producers: (0..PRODUCERS).map(|_| Sender::default()).collect(),
            streams: vec![Vec::new(); STREAMS],
            durable_states: vec![0; STREAMS],
            in_flight: None,
            job: None,
            name: 0,
        }
    }

    fn log(&mut self) -> &mut Log {
        &mut self.world.log
    }

    fn step(&mut self) {
        let now = self.world.now;
        match self.world.rng.below(12) {
            0..4 => self.produce(),
            4..6 => self.send_up(),
            6 => {
                let slot = self.in_flight.is_none().then(|| self.log().take_slot());
                self.in_flight = self.in_flight.take().or(slot.flatten());
            }
            7 | 8 => self.end_write(),
            9 => self.job = self.job.take().or_else(|| self.world.log.take_job(now)),
            10 => self.end_job(),
            _ => {
                self.world.pass(300);
                self.world.maintain();
            }
        }
    }

    fn produce(&mut self) {
        let i = self.world.rng.below(PRODUCERS as u64) as usize;
        self.name += 1;
        let seq = self.producers[i].sent.len() as i32;
        let base = StreamSeq::new(seq).unwrap();
        let producer = BatchProducer { id: ProducerId(50 + i as i64), epoch: StreamEpoch(1), base };
        let batch = batch_of(producer, self.name, 1, 900, 5);
        let now = self.world.now.wall;
        let outcome = self.log().append_idempotent(now, key(0, 0), batch.clone()).unwrap();
        let IdempotentOutcome::Appended(appended) = outcome else { panic!("{outcome:?}") };
        self.producers[i].sent.push((seq, appended.base_offset, batch));
    }

    fn send_up(&mut self) {
        let i = self.world.rng.below(STREAMS as u64) as usize;
        self.name += 1;
        let state = self.streams[i].last().copied().unwrap_or(StreamState::UNKNOWN);
        let pid = ProducerId(ProducerId::UPLINK_MIN.0 + i as i64);
        let append = UplinkAppend {
            stream: UplinkStream { pid, key: key(1, 1) },
            epoch: state.epoch,
            base: state.next(),
            count: 2,
            prev_tag: state.tag,
            tag: Tag(self.name),
        };
        let producer = BatchProducer { id: pid, epoch: state.epoch, base: append.base };
        let batch = batch_of(producer, self.name, 2, 1_200, 5);
        let now = self.world.now.wall;
        let outcome = self.log().append_uplink(now, &append, batch);
        assert!(matches!(outcome, UplinkOutcome::Appended(_)), "{outcome:?}");
        self.streams[i].push(append.state_after());
    }

    fn end_write(&mut self) {
        if let Some(slot) = self.in_flight.take() {
            write(&mut self.world.disk, &slot).unwrap();
            self.log().slot_durable(slot.slot_no);
            self.note_durable();
        }
    }

    fn end_job(&mut self) {
        if let Some(job) = self.job.take() {
            let done = self.world.run(job);
            let now = self.world.now;
            assert_eq!(self.log().job_done(now, done).rejected, []);
        }
    }

    /// What the high watermarks and the streams' states say is durable now.
    fn note_durable(&mut self) {
        let end = self.world.log.offsets(key(0, 0)).unwrap().high_watermark;
        for producer in &mut self.producers {
            producer.durable = producer.sent.iter().filter(|(_, at, _)| *at < end).count();
        }
        for i in 0..STREAMS {
            let state = self.state(i);
            let stands = self.streams[i].iter().position(|known| Some(*known) == state);
            self.durable_states[i] = stands.map_or(0, |at| at + 1);
        }
    }

    fn state(&self, i: usize) -> Option<StreamState> {
        let pid = ProducerId(ProducerId::UPLINK_MIN.0 + i as i64);
        self.world.log.stream_state_durable(&UplinkStream { pid, key: key(1, 1) })
    }

    /// Killed: what was durable is there, and nothing that was not written.
    fn crash(&mut self) {
        let written = self.in_flight.take().filter(|_| self.world.rng.below(2) == 0);
        if let Some(slot) = written {
            write(&mut self.world.disk, &slot).unwrap();
            self.log().slot_durable(slot.slot_no);
            self.note_durable();
        }
        // A job may have been through without anybody hearing of it.
        if let Some(job) = self.job.take().filter(|_| self.world.rng.below(2) == 0) {
            self.world.run(job);
        }
        self.world.restart();
        for i in 0..STREAMS {
            let durable = self.durable_states[i];
            self.streams[i].truncate(durable);
            assert_eq!(self.state(i), self.streams[i].last().copied(), "stream {i}");
        }
        let now = self.world.now.wall;
        for i in 0..PRODUCERS {
            let durable = self.producers[i].durable;
            self.producers[i].sent.truncate(durable);
            let last: Vec<_> = self.producers[i].sent.iter().rev().take(5).cloned().collect();
            for (seq, base_offset, batch) in last {
                let outcome = self.log().append_idempotent(now, key(0, 0), batch).unwrap();
                let IdempotentOutcome::Duplicate { base_offset: original, .. } = outcome else {
                    panic!("producer {i}: batch {seq} is not known any more");
                };
                assert_eq!(original, base_offset);
            }
        }
    }
}

#[test]
fn producers_and_streams_stand_where_their_batches_say() {
    let mut from_checkpoint = 0;
    for seed in 0..40 {
        let mut fleet = Fleet::new(seed);
        for _ in 0..6 {
            for _ in 0..fleet.world.rng.below(200) {
                fleet.step();
            }
            fleet.crash();
            let recovered = broker_log::recover(&mut fleet.world.disk).unwrap();
            from_checkpoint += u64::from(recovered.report.checkpoint.is_some());
        }
    }
    assert!(from_checkpoint > 60, "{from_checkpoint} of 240 starts");
}
