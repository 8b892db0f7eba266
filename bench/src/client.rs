//! A Kafka client that does as it is told, one connection and one request at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker_kafka::frame::{decode_budget, encode_request, parse_response};
use broker_kafka::generated::create_topics::{CreatableTopic, CreateTopicsRequest};
use broker_kafka::generated::fetch::{FetchPartition, FetchRequest, FetchTopic};
use broker_kafka::generated::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use broker_kafka::runtime::Text;
use broker_kafka::{Request, RequestHeader, Response};
use bytes::Bytes;

use crate::broker::kafka_address;

/// A broker that says nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Versions that every broker of the last years knows, and that name topics.
const CREATE_TOPICS_VERSION: i16 = 4;
const FETCH_VERSION: i16 = 11;
const PRODUCE_VERSION: i16 = 8;

/// A connection to our broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects.
    pub fn connect() -> Result<Self> {
        let stream = TcpStream::connect(kafka_address()).context("cannot connect")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, correlation_id: 0 })
    }

    /// Makes a topic.
    pub fn create_topic(&mut self, name: &'static str, partitions: u32) -> Result<()> {
        let topic = CreatableTopic {
            name: Text::from_static(name),
            num_partitions: i32::try_from(partitions)?,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let response = self.call(CREATE_TOPICS_VERSION, &Request::from(request))?;
        let Response::CreateTopics(response) = response else { bail!("{response:?}") };
        ensure!(response.topics.iter().all(|topic| topic.error_code == 0), "{response:?}");
        Ok(())
    }

    /// Appends `batch` to each of `partitions`; returns when they are durable.
    pub fn produce(
        &mut self,
        topic: &'static str,
        partitions: impl Iterator<Item = u32>,
        batch: &Bytes,
    ) -> Result<()> {
        let data = partitions.map(|partition| PartitionProduceData {
            index: i32::try_from(partition).unwrap_or(i32::MAX),
            records: Some(batch.clone()),
        });
        let topic = TopicProduceData {
            name: Text::from_static(topic),
            partition_data: data.collect(),
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: i32::try_from(PATIENCE.as_millis())?,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let response = self.call(PRODUCE_VERSION, &Request::from(request))?;
        let Response::Produce(response) = response else { bail!("{response:?}") };
        let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let refused = answers.find(|answer| answer.error_code != 0);
        ensure!(refused.is_none(), "{refused:?}");
        Ok(())
    }

    /// Asks for at most `bytes` of a partition, from its first record on; returns how many are to come.
    pub fn begin_fetch(
        &mut self,
        topic: &'static str,
        partition: u32,
        bytes: u32,
    ) -> Result<usize> {
        let bytes = i32::try_from(bytes)?;
        let partition = FetchPartition {
            partition: i32::try_from(partition)?,
            partition_max_bytes: bytes,
            ..FetchPartition::default()
        };
        let topic = FetchTopic {
            topic: Text::from_static(topic),
            partitions: vec![partition],
            ..FetchTopic::default()
        };
        let request =
            FetchRequest { max_bytes: bytes, topics: vec![topic], ..FetchRequest::default() };
        self.send(FETCH_VERSION, &Request::from(request))?;
        self.length()
    }

    /// Reads `bytes` of what is to come, and forgets them.
    pub fn skip(&mut self, bytes: usize) -> Result<()> {
        let mut part = vec![0; bytes];
        self.stream.read_exact(&mut part)?;
        Ok(())
    }

    fn call(&mut self, version: i16, request: &Request) -> Result<Response> {
        self.send(version, request)?;
        let mut frame = vec![0; self.length()?];
        self.stream.read_exact(&mut frame)?;
        let budget = decode_budget(frame.len());
        let parsed = parse_response(&Bytes::from(frame), budget, request.api(), version);
        let (_, response) = parsed.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(response)
    }

    fn send(&mut self, version: i16, request: &Request) -> Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: self.correlation_id,
            client_id: Some(Text::from_static("bench")),
        };
        for chunk in encode_request(&header, request)? {
            self.stream.write_all(&chunk)?;
        }
        Ok(())
    }

    fn length(&mut self) -> Result<usize> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        Ok(usize::try_from(i32::from_be_bytes(length))?)
    }
}
