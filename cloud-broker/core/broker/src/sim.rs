//! A broker on a simulated disk, for tests: a commit happens when a test says so, and so do jobs.

use std::collections::{BTreeMap, BTreeSet};

use broker_coordinator::GroupSettings;
use broker_kafka::Response;
use broker_kafka::generated::Request;
use broker_kafka::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use broker_kafka::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use broker_kafka::generated::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use broker_kafka::runtime::Text;
use broker_log::sim_disk::{SimDisk, start, write};
use broker_log::{Job, Log, LogSettings, Pace, Piece, PieceRead, Proceed, SlotToWrite};
use bytes::Bytes;
use wire::ids::{Incarnation, ProducerId};
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::{MonoMs, UnixMs};

use crate::broker::{Broker, BrokerSettings, Identity};
use crate::event::{Answer, Asker, ClientId, Effect, Event};
use crate::handlers::{KafkaRequest, PieceLost};
use crate::kafka_records::KafkaRecords;
use crate::metadata::{ControlWrite, Image};
use crate::topic_config::RetentionDefaults;

/// The seed of every simulated broker.
const SEED: [u8; 32] = [5; 32];

/// Small, so that a test has several files.
const WAL_FILE_BYTES: u32 = 256 << 10;

/// Short, so that a test need not let much time pass.
const SPACE_CHECKPOINT_MS: u64 = 100;
const MAINTENANCE_MS: u64 = 1_000;

pub(crate) fn empty_log(tail_bytes: usize) -> Log {
    log_on(&mut SimDisk::new(), tail_bytes, 1)
}

/// The log that a life finds on this disk; lives are told apart by their number.
fn log_on(disk: &mut SimDisk, tail_bytes: usize, life: u8) -> Log {
    let settings = LogSettings {
        tail_bytes,
        wal_file_bytes: WAL_FILE_BYTES,
        space_checkpoint_ms: SPACE_CHECKPOINT_MS,
        maintenance_ms: MAINTENANCE_MS,
        ..LogSettings::default()
    };
    let log = start(disk, Incarnation([life; 16]), &settings, UnixMs(1));
    log.expect("this disk is never damaged")
}

pub(crate) fn settings() -> BrokerSettings {
    BrokerSettings {
        advertised_host: "broker.example".to_owned(),
        advertised_port: 9092,
        log_dir: "/log".to_owned(),
        auto_create_topics: true,
        default_partitions: 2,
        replication_factor_max: 3,
        uplink_topics: BTreeSet::from(["telemetry".to_owned()]),
        offsets_partitions: 3,
        groups: GroupSettings::default(),
        retention: RetentionDefaults::default(),
    }
}

pub(crate) struct Sim {
    pub(crate) broker: Broker,
    pub(crate) now: MonoMs,
    pub(crate) wall: UnixMs,
    effects: Vec<Effect>,
    /// Answers that came out and were not looked at.
    pub(crate) answers: BTreeMap<Asker, Answer>,
    pub(crate) writes: Vec<ControlWrite>,
    pub(crate) reads: Vec<crate::GroupsRead>,
    /// Every request, for a test that asks the same in other words.
    pub(crate) asked: Vec<Request>,
    pub(crate) disk: SimDisk,
    in_flight: Option<SlotToWrite>,
    /// `ctl/cluster`: version and content.
    control: (u64, Vec<u8>),
    life: u8,
    next_token: u64,
}

impl Sim {
    /// A broker with an empty log and no topics. With `tail_bytes` 0, reads come from files.
    pub(crate) fn new(tail_bytes: usize) -> Self {
        Self::with(tail_bytes, Image::load(1, &Image::first([7; 16])).unwrap())
    }

    /// A broker with an empty log and what an earlier life has stored.
    pub(crate) fn of(image: Image) -> Self {
        Self::with(0, image)
    }

    fn with(tail_bytes: usize, image: Image) -> Self {
        let identity = Identity { incarnation: Incarnation([1; 16]), id_seed: SEED };
        let mut disk = SimDisk::new();
        let log = log_on(&mut disk, tail_bytes, 1);
        let broker = Broker::new(settings(), &identity, log, image).unwrap();
        let mut sim = Self {
            broker,
            now: MonoMs(1_000),
            wall: UnixMs(1_700_000_000_000),
            effects: Vec::new(),
            answers: BTreeMap::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            asked: Vec::new(),
            disk,
            in_flight: None,
            control: (1, Image::first([7; 16])),
            life: 1,
            next_token: 0,
        };
        sim.commit();
        sim
    }

    /// The next life, on what is durable. The slot that was being written is lost.
    pub(crate) fn restart(&mut self) {
        self.life += 1;
        let (version, bytes) = &self.control;
        let image = Image::load(*version, bytes).unwrap();
        let identity = Identity { incarnation: Incarnation([self.life; 16]), id_seed: SEED };
        let log = log_on(&mut self.disk, 0, self.life);
        self.broker = Broker::new(settings(), &identity, log, image).unwrap();
        self.in_flight = None;
        self.answers.clear();
        self.writes.clear();
        self.reads.clear();
        self.commit();
    }

    /// Carries out the reads of groups, until there are no more. Says how many there were.
    pub(crate) fn read_groups(&mut self) -> usize {
        let mut reads = 0;
        self.wait_ms(0);
        while let Some(read) = self.reads.pop() {
            assert!(self.reads.is_empty(), "one at a time");
            let disk = &mut self.disk;
            let (chunk, skipped) = read.run(&mut |piece| read_piece(disk, piece));
            assert_eq!((chunk.failed(), skipped), (false, 0));
            self.handle(Event::GroupsRead(chunk));
            reads += 1;
        }
        reads
    }

    /// A broker that has this topic already.
    pub(crate) fn with_topic(tail_bytes: usize, name: &str) -> Self {
        let mut sim = Self::new(tail_bytes);
        let asker = sim.metadata(13, &[name]);
        sim.store_control();
        sim.answers.remove(&asker).unwrap();
        sim
    }

    pub(crate) fn asker(&mut self, client: u64) -> Asker {
        self.next_token += 1;
        Asker { client: ClientId(client), token: self.next_token }
    }

    pub(crate) fn handle(&mut self, event: Event) {
        self.broker.handle(self.now, self.wall, event, &mut self.effects);
        self.sort();
    }

    pub(crate) fn request(&mut self, version: i16, request: Request) -> Asker {
        self.asked.push(request.clone());
        let asker = self.asker(1);
        let request = KafkaRequest::prepare(version, request, self.broker.keyed_topics()).unwrap();
        self.handle(Event::Kafka(asker, request));
        asker
    }

    /// Lets time pass.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now + ms;
        self.broker.handle_deadlines(self.now, self.wall, &mut self.effects);
        self.sort();
    }

    /// Hands the next slot to the disk, if one is due.
    pub(crate) fn begin_write(&mut self) {
        if let Some(slot) = self.broker.take_slot() {
            self.in_flight = Some(slot);
        }
    }

    /// The disk has synced what it was handed.
    pub(crate) fn end_write(&mut self) {
        if let Some(slot) = self.in_flight.take() {
            write(&mut self.disk, &slot).expect("this disk never fails");
            self.broker.slot_durable(slot.slot_no, &mut self.effects);
            self.sort();
        }
    }

    /// Makes everything durable.
    pub(crate) fn commit(&mut self) {
        self.end_write();
        self.begin_write();
        while self.in_flight.is_some() {
            self.end_write();
            self.begin_write();
        }
    }

    /// Runs the jobs that are due, and what comes of them. Says what they were.
    pub(crate) fn run_jobs(&mut self) -> Vec<&'static str> {
        let mut done = Vec::new();
        self.commit();
        while let Some(job) = self.broker.take_job(self.now, self.wall) {
            done.push(match &job {
                Job::Seal(_) => "seal",
                Job::Checkpoint(_) => "checkpoint",
                Job::Free(_) => "free",
                Job::Rewrite(_) => "rewrite",
                Job::Compact(_) => "compact",
            });
            let result = job.run(&mut self.disk, &mut Unpaced, &KafkaRecords);
            let applied = self.broker.job_done(self.now, self.wall, result, &mut self.effects);
            assert!(applied.damaged.is_empty() && applied.rejected.is_empty(), "{applied:?}");
            self.sort();
            self.commit();
        }
        done
    }

    /// Stores the metadata that waits to be stored.
    pub(crate) fn store_control(&mut self) {
        let write = self.writes.remove(0);
        self.control = (write.expected_version + 1, write.bytes);
        self.handle(Event::ControlStored(write.expected_version + 1));
    }

    pub(crate) fn metadata(&mut self, version: i16, names: &[&str]) -> Asker {
        let topics = names.iter().map(|&name| MetadataRequestTopic {
            name: Some(Text::from(name)),
            ..MetadataRequestTopic::default()
        });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        self.request(version, Request::from(request))
    }

    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: Bytes) -> Asker {
        self.request(9, Request::from(produce(topic, partition, -1, batch)))
    }

    pub(crate) fn metadata_answer(&mut self, asker: Asker) -> MetadataResponse {
        match self.answers.remove(&asker) {
            Some(Answer::Metadata(response)) => *response,
            other => panic!("not a metadata answer: {other:?}"),
        }
    }

    /// Carries a request of an administrative API through to its response.
    pub(crate) fn admin(&mut self, version: i16, request: Request) -> Response {
        let asker = self.request(version, request);
        while !self.answers.contains_key(&asker) {
            self.store_control();
        }
        self.admin_answer(asker)
    }

    pub(crate) fn admin_answer(&mut self, asker: Asker) -> Response {
        match self.answers.remove(&asker) {
            Some(Answer::Admin(answer)) => answer.into_response(),
            other => panic!("not an answer of an administrative API: {other:?}"),
        }
    }

    /// The only partition's part of a produce answer.
    pub(crate) fn produced(&mut self, asker: Asker) -> PartitionProduceResponse {
        match self.answers.remove(&asker) {
            Some(Answer::Produce(mut answer)) => {
                answer.response.responses[0].partition_responses.remove(0)
            }
            other => panic!("not a produce answer: {other:?}"),
        }
    }

    pub(crate) fn fetched(&mut self, asker: Asker) -> FetchResponse {
        match self.answers.remove(&asker) {
            Some(Answer::Fetch(answer)) => {
                let disk = &mut self.disk;
                answer.into_response(&mut |piece| read_piece(disk, piece))
            }
            other => panic!("not a fetch answer: {other:?}"),
        }
    }

    /// Carries a lookup through to its response; says how often the broker was asked again.
    pub(crate) fn looked_up(
        &mut self,
        asker: Asker,
    ) -> broker_kafka::generated::list_offsets::ListOffsetsResponse {
        loop {
            let Some(Answer::Lookup(answer)) = self.answers.remove(&asker) else {
                panic!("not a lookup answer");
            };
            let disk = &mut self.disk;
            match answer.advance(&mut |piece| read_piece(disk, piece)) {
                crate::LookupProgress::Done(response) => return response,
                crate::LookupProgress::Again(request) => {
                    self.handle(Event::Kafka(asker, request));
                }
            }
        }
    }

    fn sort(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Answer(asker, answer) => {
                    let twice = self.answers.insert(asker, answer);
                    assert!(twice.is_none(), "a request was answered twice");
                }
                Effect::ReadGroups(read) => self.reads.push(read),
                Effect::StoreControl(write) => self.writes.push(write),
            }
        }
    }
}

struct Unpaced;

impl Pace for Unpaced {
    fn wrote(&mut self, _: usize) -> Proceed {
        Proceed::Go
    }
}

fn read_piece(disk: &mut SimDisk, piece: &Piece) -> Result<PieceRead, PieceLost> {
    piece.read(disk).map_err(|failed| PieceLost::from(&failed))
}

/// A batch of plain records with these values; record `i` has the timestamp `first_timestamp + i`.
pub(crate) fn batch(values: &[&str], first_timestamp: i64) -> Bytes {
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    batch_of(producer, values, first_timestamp)
}

pub(crate) fn batch_of(producer: BatchProducer, values: &[&str], first_timestamp: i64) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    for (i, value) in (0..).zip(values) {
        builder.push(&Record {
            timestamp: UnixMs(first_timestamp + i),
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    Bytes::from(builder.seal(producer, Codec::None, builder.records()).unwrap())
}

pub(crate) fn produce(topic: &str, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks,
        topic_data: vec![TopicProduceData {
            name: Text::from(topic),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// A fetch of one partition that waits 500 ms for one byte.
pub(crate) fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Text::from(topic),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 1 << 20,
                current_leader_epoch: -1,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}
