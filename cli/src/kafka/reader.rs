//! Follows all partitions of a topic.
//!
//! Call [`TopicReader::next`] again and again: each call gives records or a notice, and waits where there is neither.
//! A call that is dropped half-way costs the connection, never a record: positions move only with what was given out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use broker_kafka::generated::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use broker_kafka::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use broker_kafka::generated::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic,
};
use broker_kafka::runtime::{Text, Uuid};
use broker_kafka::{ErrorCode, Request, Response};
use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::connection::{Connection, FETCH_BYTES, KafkaError, error_name};
use super::decode::{LogRecord, decode_batch};
use super::notice::Notice;

/// Versions that Culvert's broker serves since its first release; Fetch is the last that names topics.
const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 6;
const METADATA_VERSION: i16 = 12;

/// Record bytes that a fetch asks for of one partition.
const FETCH_PARTITION_BYTES: i32 = 1 << 20;

/// How long the broker may wait for new records before it answers that there are none.
const FETCH_WAIT: Duration = Duration::from_millis(500);

/// How long an answer may take beyond what the broker was asked to wait.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// How often new partitions are looked for.
const METADATA_INTERVAL: Duration = Duration::from_secs(5);

/// How often a topic that does not exist is looked for.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);

/// Waits between attempts to reach the broker double from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The special times of ListOffsets.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record.
    Beginning,
    /// With the first record that comes after the reader has found the topic.
    End,
}

/// What a call of [`TopicReader::next`] gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Something to tell.
    Notice(Notice),
    /// Records of one partition, in their order; never empty.
    Records(Vec<LogRecord>),
}

/// Reads a topic; see the module.
#[derive(Debug)]
pub struct TopicReader {
    address: String,
    topic: Text,
    connection: Option<Connection>,
    state: TopicState,
    /// Where partitions that are found next begin.
    start: Start,
    positions: BTreeMap<i32, Position>,
    fetched: VecDeque<Fetched>,
    notices: VecDeque<Notice>,
    metadata_due: Instant,
    /// The next wait, while the broker is lost.
    retry: Option<Duration>,
    /// Fetches so far.
    turns: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TopicState {
    Known(Uuid),
    Missing,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    At(i64),
    /// To be asked for.
    From(Start),
    /// This offset was not in the log; what there is has to be asked for.
    Lost(i64),
}

/// Batches of one partition that were fetched and not given out.
#[derive(Debug)]
struct Fetched {
    partition: i32,
    batches: Bytes,
}

impl TopicReader {
    /// A reader of `topic` at the broker `address`, `host:port`. Nothing is connected yet.
    pub fn new(address: String, topic: &str, start: Start) -> Result<Self, KafkaError> {
        let topic = Text::from_utf8(Bytes::copy_from_slice(topic.as_bytes()))?;
        Ok(Self {
            address,
            topic,
            connection: None,
            state: TopicState::Unknown,
            start,
            positions: BTreeMap::new(),
            fetched: VecDeque::new(),
            notices: VecDeque::new(),
            metadata_due: Instant::now(),
            retry: None,
            turns: 0,
        })
    }

    /// The next records or notice, as soon as there is one.
    ///
    /// # Errors
    /// [`KafkaError::Corrupt`] or `Refused`: what passes with time is told as a notice and tried again.
    pub async fn next(&mut self) -> Result<Step, KafkaError> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Ok(Step::Notice(notice));
            }
            if let Some(records) = self.take_fetched()? {
                return Ok(Step::Records(records));
            }
            if let Err(error) = self.turn().await {
                self.failed(error).await?;
            }
        }
    }

    /// Reads what is in the log now, to its end, and gives every record to `take`.
    ///
    /// # Errors
    /// [`KafkaError`]; nothing is tried again.
    pub async fn read_to_end(&mut self, mut take: impl FnMut(LogRecord)) -> Result<(), KafkaError> {
        let mut connection = Connection::open(&self.address).await?;
        self.refresh(&mut connection).await?;
        let partitions: Vec<_> = self.positions.keys().copied().collect();
        let ends = self.ask_offsets(&mut connection, &partitions, LATEST).await?;
        self.place(&mut connection).await?;
        let is_behind = |reader: &Self| {
            ends.iter().any(|(partition, end)| match reader.positions.get(partition) {
                Some(Position::At(at)) => at < end,
                _ => true,
            })
        };
        while is_behind(self) {
            self.fetch(&mut connection).await?;
            self.place(&mut connection).await?;
            while let Some(records) = self.take_fetched()? {
                records.into_iter().for_each(&mut take);
            }
        }
        Ok(())
    }

    /// One exchange with the broker: whatever is due.
    async fn turn(&mut self) -> Result<(), KafkaError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        let mut is_well = false;
        if self.metadata_due <= Instant::now() {
            self.refresh(&mut connection).await?;
            is_well = self.state == TopicState::Missing;
        } else if self.positions.is_empty() {
            tokio::time::sleep_until(self.metadata_due).await;
        } else if self.positions.values().all(|position| matches!(position, Position::At(_))) {
            self.fetch(&mut connection).await?;
            is_well = true;
        } else {
            self.place(&mut connection).await?;
        }
        self.connection = Some(connection);
        // A broker that knows the topic and yet gives no records is not back.
        if is_well && self.retry.take().is_some() {
            self.notices.push_back(Notice::Back);
        }
        Ok(())
    }

    /// Waits before the next attempt, longer every time.
    async fn failed(&mut self, error: KafkaError) -> Result<(), KafkaError> {
        if !error.is_passing() {
            return Err(error);
        }
        self.metadata_due = Instant::now();
        match self.retry {
            None => {
                let reason = error.to_string();
                self.notices.push_back(Notice::Lost { address: self.address.clone(), reason });
            }
            Some(wait) => tokio::time::sleep(wait).await,
        }
        self.retry = Some(next_wait(self.retry));
        Ok(())
    }

    /// Looks for the topic and its partitions. It is never made by being looked for.
    async fn refresh(&mut self, connection: &mut Connection) -> Result<(), KafkaError> {
        let wanted = MetadataRequestTopic { name: Some(self.topic.clone()), topic_id: Uuid::ZERO };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = connection.call(METADATA_VERSION, request.into(), ANSWER_PATIENCE).await?;
        let Response::Metadata(metadata) = response else { return Err(foreign()) };
        let found = metadata.topics.into_iter().next().ok_or_else(foreign)?;
        self.metadata_due = Instant::now() + METADATA_INTERVAL;
        match ErrorCode::from_wire(found.error_code) {
            Some(ErrorCode::None) => self.found(&found),
            Some(ErrorCode::UnknownTopicOrPartition) => self.missing(),
            Some(ErrorCode::LeaderNotAvailable) => {
                return Err(KafkaError::Unavailable(error_name(found.error_code)));
            }
            _ => return Err(KafkaError::Refused(error_name(found.error_code))),
        }
        Ok(())
    }

    fn missing(&mut self) {
        self.metadata_due = Instant::now() + MISSING_INTERVAL;
        if self.state != TopicState::Missing {
            self.state = TopicState::Missing;
            self.notices.push_back(Notice::TopicMissing { topic: self.topic.to_string() });
        }
        self.positions.clear();
        // Whatever it will hold has come after the reader.
        self.start = Start::Beginning;
    }

    fn found(&mut self, topic: &MetadataResponseTopic) {
        if let TopicState::Known(id) = self.state
            && id != topic.topic_id
        {
            self.notices.push_back(Notice::TopicNew { topic: self.topic.to_string() });
            self.positions.clear();
        }
        self.state = TopicState::Known(topic.topic_id);
        let known = self.positions.len();
        for partition in &topic.partitions {
            self.positions.entry(partition.partition_index).or_insert(Position::From(self.start));
        }
        let count = self.positions.len();
        if count != known {
            let topic = self.topic.to_string();
            self.notices.push_back(Notice::Partitions { topic, count });
        }
        // Partitions that come later are new, and so is all that they hold.
        self.start = Start::Beginning;
    }

    /// Asks where the partitions begin whose position is not known.
    async fn place(&mut self, connection: &mut Connection) -> Result<(), KafkaError> {
        let unplaced = |wanted: fn(Position) -> bool| {
            let found = self.positions.iter().filter(|(_, position)| wanted(**position));
            found.map(|(partition, _)| *partition).collect::<Vec<_>>()
        };
        let first = unplaced(|position| matches!(position, Position::From(Start::Beginning)));
        let last = unplaced(|position| matches!(position, Position::From(Start::End)));
        let lost = unplaced(|position| matches!(position, Position::Lost(_)));
        let from_first = [first, lost.clone()].concat();
        let from_last = [last, lost].concat();
        let earliest = self.ask_offsets(connection, &from_first, EARLIEST).await?;
        let latest = self.ask_offsets(connection, &from_last, LATEST).await?;
        for (partition, position) in &mut self.positions {
            let range = (earliest.get(partition), latest.get(partition));
            match (*position, range) {
                (Position::From(Start::Beginning), (Some(at), _))
                | (Position::From(Start::End), (_, Some(at))) => *position = Position::At(*at),
                (Position::Lost(from), (Some(earliest), Some(latest))) => {
                    let to = from.clamp(*earliest, *latest.max(earliest));
                    let partition = *partition;
                    self.notices.push_back(Notice::Skipped { partition, from, to });
                    *position = Position::At(to);
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn ask_offsets(
        &self,
        connection: &mut Connection,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, KafkaError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let wanted = partitions.iter().map(|partition| ListOffsetsPartition {
            partition_index: *partition,
            timestamp,
            ..ListOffsetsPartition::default()
        });
        let topic = ListOffsetsTopic { name: self.topic.clone(), partitions: wanted.collect() };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response =
            connection.call(LIST_OFFSETS_VERSION, request.into(), ANSWER_PATIENCE).await?;
        let Response::ListOffsets(listed) = response else { return Err(foreign()) };
        let mut offsets = BTreeMap::new();
        for found in listed.topics.into_iter().flat_map(|topic| topic.partitions) {
            if found.error_code != i16::from(ErrorCode::None) {
                return Err(KafkaError::Unavailable(error_name(found.error_code)));
            }
            offsets.insert(found.partition_index, found.offset);
        }
        if partitions.iter().any(|partition| !offsets.contains_key(partition)) {
            return Err(foreign());
        }
        Ok(offsets)
    }

    /// Fetches what comes next in all partitions; the answer may hold nothing.
    async fn fetch(&mut self, connection: &mut Connection) -> Result<(), KafkaError> {
        let request = self.fetch_request();
        let patience = FETCH_WAIT + ANSWER_PATIENCE;
        let response = connection.call(FETCH_VERSION, request, patience).await?;
        let Response::Fetch(fetched) = response else { return Err(foreign()) };
        if fetched.error_code != i16::from(ErrorCode::None) {
            return Err(KafkaError::Unavailable(error_name(fetched.error_code)));
        }
        let mut trouble = None;
        for data in fetched.responses.into_iter().flat_map(|topic| topic.partitions) {
            if let Err(error) = self.take_data(data) {
                trouble = Some(error);
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn fetch_request(&mut self) -> Request {
        let mut partitions: Vec<_> = self
            .positions
            .iter()
            .filter_map(|(partition, position)| match position {
                Position::At(offset) => Some(FetchPartition {
                    partition: *partition,
                    fetch_offset: *offset,
                    partition_max_bytes: FETCH_PARTITION_BYTES,
                    ..FetchPartition::default()
                }),
                Position::From(_) | Position::Lost(_) => None,
            })
            .collect();
        // The broker fills the answer in this order: each comes first in turn, or the first would starve the others.
        self.turns = self.turns.wrapping_add(1);
        let first = self.turns % partitions.len().max(1);
        partitions.rotate_left(first);
        let topic = FetchTopic { topic: self.topic.clone(), partitions, ..Default::default() };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(FETCH_WAIT.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: i32::try_from(FETCH_BYTES).unwrap_or(i32::MAX),
            topics: vec![topic],
            ..FetchRequest::default()
        };
        request.into()
    }

    fn take_data(&mut self, data: PartitionData) -> Result<(), KafkaError> {
        let partition = data.partition_index;
        match ErrorCode::from_wire(data.error_code) {
            Some(ErrorCode::None) => {
                let batches = data.records.unwrap_or_default();
                if !batches.is_empty() && self.positions.contains_key(&partition) {
                    self.fetched.push_back(Fetched { partition, batches });
                }
                Ok(())
            }
            Some(ErrorCode::OffsetOutOfRange) => {
                if let Some(position) = self.positions.get_mut(&partition)
                    && let Position::At(offset) = *position
                {
                    *position = Position::Lost(offset);
                }
                Ok(())
            }
            _ => Err(KafkaError::Unavailable(error_name(data.error_code))),
        }
    }

    /// Decodes the next batch that was fetched and moves its partition's position behind it.
    fn take_fetched(&mut self) -> Result<Option<Vec<LogRecord>>, KafkaError> {
        while let Some(mut fetched) = self.fetched.pop_front() {
            let partition = fetched.partition;
            let Some(Position::At(offset)) = self.positions.get(&partition).copied() else {
                continue;
            };
            let decoded = decode_batch(partition, offset, &fetched.batches)
                .map_err(|error| KafkaError::Corrupt { partition, offset, error })?;
            self.positions.insert(partition, Position::At(decoded.next_offset));
            fetched.batches.advance(decoded.length);
            if !fetched.batches.is_empty() {
                self.fetched.push_front(fetched);
            }
            if !decoded.records.is_empty() {
                return Ok(Some(decoded.records));
            }
        }
        Ok(None)
    }
}

fn next_wait(last: Option<Duration>) -> Duration {
    last.map_or(RETRY_FIRST, |wait| (wait * 2).min(RETRY_MAX))
}

fn foreign() -> KafkaError {
    KafkaError::Protocol("something else than was asked for".to_owned())
}

#[cfg(test)]
mod tests;
