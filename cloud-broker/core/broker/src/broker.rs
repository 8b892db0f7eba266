//! The broker: log, metadata, sessions and whoever waits, put together.

mod storage;
mod topics;
mod undurable;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use broker_coordinator::{GroupSettings, Now};
use broker_log::{Log, PartitionKey, SlotNo, SlotToWrite, TopicNo};
use bytes::Bytes;
use thiserror::Error;
use wire::ids::{GatewayId, Incarnation, Partition};
use wire::time::{MonoMs, UnixMs};
use wire::uplink::GoodbyeReason;

use crate::event::{Answer, Asker, ClientId, Effect, Event, SessionId};
use crate::groups::Groups;
use crate::handlers::admin::WaitingAdmin;
use crate::handlers::find_coordinator::CoordinatorQuery;
use crate::handlers::metadata::{Outcome, WaitingMetadata};
use crate::handlers::produce::{ProduceAnswer, Produced};
use crate::handlers::{DeleteRecordsAnswer, FetchQuery, KafkaRequest, MetadataQuery};
use crate::ids::{IdSource, public_life};
use crate::ingest::{
    AppendRequest, HelloRefused, HelloRequest, Ingest, ParkedState, UplinkAnswer, UplinkRequest,
    Verdict, check_hello, welcome,
};
use crate::keyed_topics::KeyedTopics;
use crate::metadata::{Image, Metadata, NewTopic, Ticket, Topic, TopicRefused, Wish};
use crate::pending::{ParkedAnswers, ParkedFetches, ParkedForCheckpoint};
use crate::topic_config::RetentionDefaults;
use undurable::Undurable;

pub use storage::DiskSpace;

/// Settings of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Host that Kafka clients are told to connect to.
    pub advertised_host: String,
    /// Port that Kafka clients are told to connect to.
    pub advertised_port: u16,
    /// What the place of the log is called, for administrators.
    pub log_dir: String,
    /// Whether a Metadata request may make topics, as Kafka's `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// Partitions of topics made that way, as Kafka's `num.partitions`. Each costs memory for as long as it exists.
    pub default_partitions: u32,
    /// Largest replication factor that a client may ask for. It says nothing here, and tools ask for what they are used to.
    pub replication_factor_max: i16,
    /// Topics that gateways may append to, besides the control topic.
    pub uplink_topics: BTreeSet<String>,
    /// Partitions that `__consumer_offsets` is made with, as Kafka's `offsets.topic.num.partitions`.
    pub offsets_partitions: u32,
    /// Settings of the group coordinator.
    pub groups: GroupSettings,
    /// How long records are kept of topics that set nothing else.
    pub retention: RetentionDefaults,
}

/// Bytes of batches that wait for the disk beyond which [`Broker::wants_appends`] says no. The log turns batches away
/// only at twice this, so that a request which was let in finds room.
pub const APPENDS_PAUSED_BYTES: usize = 32 << 20;

/// Who this life of the broker is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The incarnation that the log was opened as.
    pub incarnation: Incarnation,
    /// Random bits that ids are made from; never used before.
    pub id_seed: [u8; 32],
}

/// Why a broker cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BrokerError {
    /// The log holds topics that the metadata does not know: the metadata file is missing or older than the log. Restore
    /// it; going on would give their numbers to new topics.
    #[error(
        "the log holds topics that the metadata does not know (next number {log} in the log, {metadata} there)"
    )]
    MetadataBehindLog {
        /// The next topic number by the log.
        log: u32,
        /// The next topic number by the metadata.
        metadata: u32,
    },
    /// The log cannot hold the partitions of the metadata.
    #[error("the log cannot hold all partitions of the metadata")]
    TooManyPartitions,
}

/// What is going on, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BrokerStats {
    /// Batches and answers that wait until they are durable.
    pub parked_answers: usize,
    /// Fetches that wait for data.
    pub parked_fetches: usize,
    /// Uplink sessions.
    pub uplink_sessions: usize,
    /// Topics.
    pub topics: usize,
}

/// The deterministic broker.
///
/// Call [`Broker::handle`] for each event and [`Broker::handle_deadlines`] when [`Broker::next_deadline`] has come; carry
/// out the effects. After each batch of events, call [`Broker::take_slot`]; write and sync what it yields, then call
/// [`Broker::slot_synced`], [`Broker::take_slot`] again, and [`Broker::slot_durable`]. Before the first slot is durable,
/// nothing may be served. Then call [`Broker::take_job`] until there is none; run each beside the engine, and call
/// [`Broker::job_done`].
#[derive(Debug)]
pub struct Broker {
    settings: BrokerSettings,
    /// This life, as gateways are told.
    life: Incarnation,
    ids: IdSource,
    groups: Groups,
    /// Producer ids that are reserved and not given out.
    producer_ids: Range<u64>,
    log: Log,
    metadata: Metadata,
    ingest: Ingest,
    answers: ParkedAnswers<ParkedAnswer>,
    fetches: ParkedFetches<FetchQuery>,
    deletions: ParkedForCheckpoint<DeleteRecordsAnswer>,
    disk_space: Option<DiskSpace>,
    keyed_topics: Arc<KeyedTopics>,
    waiting: BTreeMap<Ticket, Vec<WaitingForTopics>>,
    undurable: Undurable,
}

/// An answer that waits until it is durable.
#[derive(Debug)]
enum ParkedAnswer {
    Group(Asker, Box<broker_kafka::Response>),
    Produce(Asker, ProduceAnswer),
    Uplink(ParkedState),
}

/// An answer that waits until topics are stored.
#[derive(Debug)]
enum WaitingForTopics {
    Admin(Asker, WaitingAdmin),
    Coordinator(Asker, CoordinatorQuery),
    Hello(Box<WaitingHello>),
    Metadata(Asker, WaitingMetadata),
}

#[derive(Debug)]
struct WaitingHello {
    asker: Asker,
    session: SessionId,
    identity: GatewayId,
    hello: HelloRequest,
}

impl Broker {
    /// Puts a broker together from an open log and the stored metadata.
    ///
    /// # Errors
    /// [`BrokerError`]: the two do not belong together.
    pub fn new(
        settings: BrokerSettings,
        identity: &Identity,
        mut log: Log,
        image: Image,
    ) -> Result<Self, BrokerError> {
        let (in_log, in_metadata) = (log.next_topic_no().0, image.next_topic_no());
        if in_log > in_metadata {
            return Err(BrokerError::MetadataBehindLog { log: in_log, metadata: in_metadata });
        }
        // What the log holds of topics that were deleted since.
        let gone: Vec<TopicNo> = log.topic_nos().filter(|no| image.by_no(no.0).is_none()).collect();
        for topic_no in gone {
            log.remove_topic(topic_no);
        }
        for topic in image.topics() {
            register(&mut log, topic).ok_or(BrokerError::TooManyPartitions)?;
            log.set_policy(TopicNo(topic.no), topic.configs.policy(&settings.retention));
        }
        let keyed_topics = Arc::new(KeyedTopics::of(&image, &settings.retention));
        Ok(Self {
            groups: Groups::new(settings.groups),
            settings,
            life: public_life(identity.incarnation),
            ids: IdSource::new(identity.id_seed),
            producer_ids: 0..0,
            log,
            metadata: Metadata::new(image),
            ingest: Ingest::new(),
            answers: ParkedAnswers::new(),
            fetches: ParkedFetches::new(),
            deletions: ParkedForCheckpoint::new(),
            disk_space: None,
            keyed_topics,
            waiting: BTreeMap::new(),
            undurable: Undurable::default(),
        })
    }

    /// Takes an event.
    pub fn handle(&mut self, mono: MonoMs, wall: UnixMs, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::ClientGone(client) => self.forget(client),
            Event::ControlStored(version) => self.control_stored(wall, version, out),
            Event::GroupsRead(chunk) => self.groups.take_chunk(Now { mono, wall }, chunk),
            Event::ControlNotStored => self.control_not_stored(wall, out),
            Event::Kafka(asker, request) => self.kafka(mono, wall, asker, request, out),
            Event::SessionGone(session) => self.end_session(session),
            Event::Uplink { asker, session, identity, request } => match request {
                UplinkRequest::Hello(hello) => {
                    let waiting = WaitingHello { asker, session, identity, hello };
                    self.hello(wall, waiting, out);
                }
                UplinkRequest::Append(append) => {
                    self.uplink_append(wall, (asker, session), append, out);
                }
                UplinkRequest::Reset(reset) => {
                    let image = self.metadata.image();
                    let verdict = self.ingest.reset(&self.log, image, (asker, session), &reset);
                    self.give(asker, verdict, out);
                }
            },
        }
        if let Some(write) = self.metadata.poll_write() {
            out.push(Effect::StoreControl(write));
        }
        self.settle_groups(Now { mono, wall }, out);
    }

    /// Answers those whose wait is over, with what there is; carries out what is due in groups and in the log.
    pub fn handle_deadlines(&mut self, mono: MonoMs, wall: UnixMs, out: &mut Vec<Effect>) {
        while let Some(asker) = self.fetches.due(mono) {
            let Some(query) = self.fetches.take(asker) else {
                break;
            };
            let answer = query.plan(&self.log, self.metadata.image());
            out.push(Effect::Answer(asker, Answer::Fetch(answer)));
        }
        self.deletions_due(mono, out);
        self.maintain(mono, wall);
        self.groups.handle_deadlines(Now { mono, wall });
        self.settle_groups(Now { mono, wall }, out);
    }

    /// When [`Broker::handle_deadlines`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        let groups = self.groups.next_deadline(self.metadata.image());
        let fetches = self.fetches.next_deadline();
        let deletions = self.deletions.next_deadline();
        let log = self.log.next_maintenance();
        [fetches, deletions, log, groups].into_iter().flatten().min()
    }

    /// Whether events that append should be taken: not while too much waits for the disk.
    #[must_use]
    pub fn wants_appends(&self) -> bool {
        self.undurable.bytes < APPENDS_PAUSED_BYTES
    }

    /// The next slot to write and sync; `None` while one is in flight or nothing waits.
    pub fn take_slot(&mut self) -> Option<SlotToWrite> {
        self.log.take_slot()
    }

    /// For when there is nothing else to do: see [`Log::lay_out_ahead`].
    pub fn lay_out_ahead(&mut self) {
        self.log.lay_out_ahead();
    }

    /// The slot in flight is on disk: [`Broker::take_slot`] yields the next one. [`Broker::slot_durable`] has to follow.
    ///
    /// # Panics
    /// As [`broker_log::Log::slot_synced`].
    pub fn slot_synced(&mut self, slot_no: SlotNo) {
        self.log.slot_synced(slot_no);
    }

    /// The slot in flight, or the one that [`Broker::slot_synced`] was told of, is durable: answers leave, parked fetches wake.
    pub fn slot_durable(&mut self, slot_no: SlotNo, out: &mut Vec<Effect>) {
        let durable = self.log.slot_durable(slot_no);
        self.undurable.durable(slot_no);
        self.groups.slot_durable(slot_no);
        for parked in self.answers.release(durable.slot_no) {
            out.push(match parked {
                ParkedAnswer::Group(asker, response) => {
                    Effect::Answer(asker, Answer::Group(response))
                }
                ParkedAnswer::Produce(asker, answer) => {
                    Effect::Answer(asker, Answer::Produce(answer))
                }
                ParkedAnswer::Uplink(parked) => {
                    let image = self.metadata.image();
                    Effect::Answer(parked.asker, Answer::Uplink(parked.answer(&self.log, image)))
                }
            });
        }
        let moved = durable.moved.iter().map(|moved| moved.key);
        for asker in self.fetches.watching(moved) {
            let Some(query) = self.fetches.fetch(asker) else {
                continue;
            };
            let answer = query.plan(&self.log, self.metadata.image());
            if query.is_satisfied(&answer) {
                self.fetches.take(asker);
                out.push(Effect::Answer(asker, Answer::Fetch(answer)));
            }
        }
    }

    /// What is going on.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        BrokerStats {
            parked_answers: self.answers.len() + self.deletions.len(),
            parked_fetches: self.fetches.len(),
            uplink_sessions: self.ingest.len(),
            topics: self.metadata.image().len(),
        }
    }

    fn kafka(
        &mut self,
        mono: MonoMs,
        wall: UnixMs,
        asker: Asker,
        request: KafkaRequest,
        out: &mut Vec<Effect>,
    ) {
        match request {
            KafkaRequest::Admin(request) => self.admin(mono, asker, request, out),
            KafkaRequest::Fetch(query) => self.fetch(mono, asker, query, out),
            KafkaRequest::Group(request) => self.group(Now { mono, wall }, asker, request, out),
            KafkaRequest::Lookup(query) => {
                let answer = query.look(&self.log, self.metadata.image());
                out.push(Effect::Answer(asker, Answer::Lookup(answer)));
            }
            KafkaRequest::Metadata(query) => self.describe(asker, query, out),
            KafkaRequest::Produce(produce) => {
                let bytes = produce.bytes();
                let produced = produce.append(wall, &mut self.log, self.metadata.image());
                if let Some(slot_no) = self.log.slot_for_answer() {
                    self.undurable.add(slot_no, bytes);
                }
                match produced {
                    Produced::Now(answer) => {
                        out.push(Effect::Answer(asker, Answer::Produce(answer)));
                    }
                    Produced::WhenDurable(slot_no, answer) => {
                        let parked = ParkedAnswer::Produce(asker, answer);
                        self.answers.park(slot_no, parked);
                    }
                }
            }
        }
    }

    fn fetch(&mut self, mono: MonoMs, asker: Asker, query: FetchQuery, out: &mut Vec<Effect>) {
        let image = self.metadata.image();
        let answer = query.plan(&self.log, image);
        if query.is_satisfied(&answer) {
            out.push(Effect::Answer(asker, Answer::Fetch(answer)));
        } else {
            let watched = query.partitions(image);
            let deadline = mono + query.wait_ms();
            self.fetches.park(asker, deadline, watched, query);
        }
    }

    fn describe(&mut self, asker: Asker, query: MetadataQuery, out: &mut Vec<Effect>) {
        match query.begin(&self.settings, &mut self.metadata, &mut self.ids) {
            Outcome::Now(query) => self.answer_metadata(asker, &query, out),
            Outcome::After(ticket, query) => {
                self.wait(ticket, WaitingForTopics::Metadata(asker, query));
            }
        }
    }

    fn answer_metadata(&self, asker: Asker, query: &WaitingMetadata, out: &mut Vec<Effect>) {
        let image = self.metadata.image();
        let response = query.response(&self.settings, image, self.log.leader_epoch());
        out.push(Effect::Answer(asker, Answer::Metadata(Box::new(response))));
    }

    fn uplink_append(
        &mut self,
        wall: UnixMs,
        (asker, session): (Asker, SessionId),
        append: AppendRequest,
        out: &mut Vec<Effect>,
    ) {
        let image = self.metadata.image();
        let log = &mut self.log;
        let bytes = append.intact.as_ref().map_or(0, Bytes::len);
        let verdict = self.ingest.append(wall, log, image, (asker, session), append);
        if let Some(slot_no) = self.log.slot_for_answer() {
            self.undurable.add(slot_no, bytes);
        }
        self.give(asker, verdict, out);
    }

    /// Answers a frame for a stream, now or when that is durable which came before it.
    fn give(&mut self, asker: Asker, verdict: Verdict, out: &mut Vec<Effect>) {
        match verdict {
            Verdict::Answer(answer) => out.push(Effect::Answer(asker, Answer::Uplink(answer))),
            Verdict::Park(slot_no, parked) => {
                self.answers.park(slot_no, ParkedAnswer::Uplink(parked));
            }
        }
    }

    fn hello(&mut self, wall: UnixMs, waiting: WaitingHello, out: &mut Vec<Effect>) {
        match self.ensure_topics(&waiting) {
            Ok(None) => self.welcome(wall, waiting, out),
            Ok(Some(ticket)) => self.wait(ticket, WaitingForTopics::Hello(Box::new(waiting))),
            Err(refused) => {
                let answer = Answer::Uplink(refused.answer());
                out.push(Effect::Answer(waiting.asker, answer));
            }
        }
    }

    fn ensure_topics(&mut self, waiting: &WaitingHello) -> Result<Option<Ticket>, HelloRefused> {
        let allowed = &self.settings.uplink_topics;
        let topics = check_hello(&waiting.identity, &waiting.hello, allowed)?;
        let mut last = None;
        for (name, partitions) in topics {
            let topic = NewTopic { name: name.to_owned(), id: self.ids.topic_id(), partitions };
            match self.metadata.ensure(topic) {
                Ok(Wish::Exists) => {}
                Ok(Wish::Staged(ticket)) => last = last.max(Some(ticket)),
                Err(error) => return Err(not_made(name, error)),
            }
        }
        Ok(last)
    }

    fn welcome(&mut self, wall: UnixMs, waiting: WaitingHello, out: &mut Vec<Effect>) {
        let known = (self.metadata.image(), &self.log);
        let WaitingHello { asker, session, identity, hello } = waiting;
        let answer = match welcome(wall, self.life, &identity, &hello, known) {
            Some((begun, answer)) => {
                self.ingest.begin(session, begun);
                answer
            }
            None => UplinkAnswer::goodbye(
                GoodbyeReason::Stopping,
                "the topics could not be stored; come back",
            ),
        };
        out.push(Effect::Answer(asker, Answer::Uplink(answer)));
    }

    fn wait(&mut self, ticket: Ticket, waiting: WaitingForTopics) {
        self.waiting.entry(ticket).or_default().push(waiting);
    }

    fn end_session(&mut self, session: SessionId) {
        self.ingest.end(session);
        // A HELLO that waits for its topics must not bring the session back.
        for waiting in self.waiting.values_mut() {
            waiting.retain(|waiting| match waiting {
                WaitingForTopics::Hello(hello) => hello.session != session,
                WaitingForTopics::Admin(..)
                | WaitingForTopics::Coordinator(..)
                | WaitingForTopics::Metadata(..) => true,
            });
        }
    }

    fn forget(&mut self, client: ClientId) {
        self.fetches.forget(client);
        self.deletions.forget(client);
    }
}

const _: () = assert!(crate::metadata::PARTITIONS_MAX <= broker_log::PARTITIONS_MAX as u64);

fn register(log: &mut Log, topic: &Topic) -> Option<()> {
    for index in 0..topic.partitions {
        let key = PartitionKey { topic_no: TopicNo(topic.no), partition: Partition(index) };
        log.register_partition(key).ok()?;
    }
    Some(())
}

fn not_made(name: &str, error: TopicRefused) -> HelloRefused {
    HelloRefused {
        reason: GoodbyeReason::Unauthorized,
        detail: format!("topic {name:?} cannot be made: {error}"),
    }
}

mod groups;

#[cfg(test)]
mod tests;
