//! The reader against a scripted broker, which speaks through the codec of the real one.

use std::sync::{Arc, Mutex};

use broker_kafka::frame::{Incoming, decode_budget, encode_response, parse_request};
use broker_kafka::generated::fetch::{FetchResponse, FetchableTopicResponse};
use broker_kafka::generated::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use broker_kafka::generated::metadata::{MetadataResponse, MetadataResponsePartition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::ids::ProducerId;
use wire::offset::{LeaderEpoch, Offset};
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder, assign_place};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;

use super::*;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the broker has; changed by the tests.
#[derive(Debug, Clone, Default)]
struct Topic {
    id: u8,
    /// The first offset that is still there, and the offset behind the last; a record's value is its offset.
    partitions: Vec<(i64, i64)>,
    /// Answered to fetches instead of records, so often.
    errors: Vec<ErrorCode>,
}

struct Broker {
    address: String,
    topic: Arc<Mutex<Option<Topic>>>,
}

impl Broker {
    async fn start(topic: Option<Topic>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let topic = Arc::new(Mutex::new(topic));
        let shared = Arc::clone(&topic);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, topic }
    }

    fn set(&self, topic: Topic) {
        *self.topic.lock().unwrap() = Some(topic);
    }

    fn reader(&self, start: Start) -> TopicReader {
        TopicReader::new(self.address.clone(), "t", start).unwrap()
    }
}

async fn serve(mut stream: TcpStream, topic: Arc<Mutex<Option<Topic>>>) -> std::io::Result<()> {
    loop {
        let length = stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut frame).await?;
        let budget = decode_budget(frame.len());
        let Ok(Incoming::Request(header, request)) = parse_request(&frame.into(), budget) else {
            panic!("a request that no broker serves");
        };
        let response = answer(request, &mut topic.lock().unwrap());
        let chunks = encode_response(header.correlation_id, header.version, &response).unwrap();
        for chunk in chunks {
            stream.write_all(&chunk).await?;
        }
    }
}

fn answer(request: Request, topic: &mut Option<Topic>) -> Response {
    match request {
        Request::Metadata(request) => {
            assert!(!request.allow_auto_topic_creation, "looking for a topic must not make it");
            metadata(topic.as_ref()).into()
        }
        Request::ListOffsets(request) => {
            let topic = topic.as_ref().unwrap();
            list_offsets(&request, topic).into()
        }
        Request::Fetch(request) => fetch(&request, topic.as_mut().unwrap()).into(),
        other => panic!("nobody asks for {other:?}"),
    }
}

fn metadata(topic: Option<&Topic>) -> MetadataResponse {
    let mut found = MetadataResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition.into(),
        name: Some(Text::from_static("t")),
        ..MetadataResponseTopic::default()
    };
    if let Some(topic) = topic {
        found.error_code = 0;
        found.topic_id = Uuid([topic.id; 16]);
        let partitions = (0..topic.partitions.len()).map(|index| MetadataResponsePartition {
            partition_index: index as i32,
            ..MetadataResponsePartition::default()
        });
        found.partitions = partitions.collect();
    }
    MetadataResponse { topics: vec![found], ..MetadataResponse::default() }
}

fn list_offsets(request: &ListOffsetsRequest, topic: &Topic) -> ListOffsetsResponse {
    let asked = request.topics[0].partitions.iter();
    let partitions = asked.map(|partition| {
        let (start, end) = topic.partitions[partition.partition_index as usize];
        let offset = if partition.timestamp == EARLIEST { start } else { end };
        let partition_index = partition.partition_index;
        ListOffsetsPartitionResponse { partition_index, offset, ..Default::default() }
    });
    let name = Text::from_static("t");
    let found = ListOffsetsTopicResponse { name, partitions: partitions.collect() };
    ListOffsetsResponse { topics: vec![found], ..ListOffsetsResponse::default() }
}

fn fetch(request: &FetchRequest, topic: &mut Topic) -> FetchResponse {
    let error = topic.errors.pop();
    let asked = request.topics[0].partitions.iter();
    let partitions = asked.map(|partition| {
        let (start, end) = topic.partitions[partition.partition as usize];
        let offset = partition.fetch_offset;
        let mut data =
            PartitionData { partition_index: partition.partition, ..PartitionData::default() };
        if let Some(error) = error {
            data.error_code = error.into();
        } else if !(start..=end).contains(&offset) {
            data.error_code = ErrorCode::OffsetOutOfRange.into();
        } else if offset < end {
            data.records = Some(batch_of(offset, start, end).into());
        }
        data
    });
    let found = FetchableTopicResponse {
        topic: Text::from_static("t"),
        partitions: partitions.collect(),
        ..FetchableTopicResponse::default()
    };
    FetchResponse { responses: vec![found], ..FetchResponse::default() }
}

/// The batch that holds `offset`: batches have three records, so that a wanted offset may lie within one.
fn batch_of(offset: i64, start: i64, end: i64) -> Vec<u8> {
    let base = (offset - offset % 3).max(start);
    let mut builder = RecordBatchBuilder::new();
    for at in base..(offset - offset % 3 + 3).min(end) {
        builder.push(&Record {
            timestamp: UnixMs(at),
            key: None,
            value: Some(at.to_string().as_bytes()),
            headers: &[],
        });
    }
    let producer = BatchProducer {
        id: ProducerId::UPLINK_MIN,
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::ZERO,
    };
    let mut batch = builder.seal(producer, Codec::None, builder.records()).unwrap();
    assign_place(&mut batch, Offset(base), LeaderEpoch(0));
    batch
}

/// Reads until so many records have come; their partitions and offsets in order, and what was told meanwhile.
async fn read(reader: &mut TopicReader, count: usize) -> (Vec<(i32, i64)>, Vec<Notice>) {
    let (mut places, mut notices) = (Vec::new(), Vec::new());
    while places.len() < count {
        match tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap() {
            Step::Notice(notice) => notices.push(notice),
            Step::Records(records) => {
                for record in records {
                    assert_eq!(record.value, Some(record.offset.to_string().into_bytes()));
                    places.push((record.partition, record.offset));
                }
            }
        }
    }
    places.sort_unstable();
    (places, notices)
}

fn offsets(partition: i32, offsets: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    offsets.map(|offset| (partition, offset)).collect()
}

fn following(count: usize) -> Notice {
    Notice::Partitions { topic: "t".to_owned(), count }
}

fn topic(id: u8, partitions: &[(i64, i64)]) -> Topic {
    Topic { id, partitions: partitions.to_vec(), errors: Vec::new() }
}

#[tokio::test]
async fn all_partitions_are_read_from_their_start_and_new_ones_too() {
    let broker = Broker::start(Some(topic(1, &[(0, 5), (4, 8)]))).await;
    let mut reader = broker.reader(Start::Beginning);
    let (places, notices) = read(&mut reader, 9).await;
    assert_eq!(places, [offsets(0, 0..5), offsets(1, 4..8)].concat());
    assert_eq!(notices, [following(2)]);

    broker.set(topic(1, &[(0, 5), (4, 9), (0, 2)]));
    reader.metadata_due = Instant::now();
    let (places, notices) = read(&mut reader, 3).await;
    assert_eq!(places, [offsets(1, 8..9), offsets(2, 0..2)].concat());
    assert_eq!(notices, [following(3)]);
}

#[tokio::test]
async fn from_the_end_only_what_is_new_comes() {
    let broker = Broker::start(Some(topic(1, &[(0, 5)]))).await;
    let mut reader = broker.reader(Start::End);
    while !matches!(reader.positions.get(&0), Some(Position::At(5))) {
        reader.turn().await.unwrap();
    }
    // What was not there before is read whole.
    broker.set(topic(1, &[(0, 7), (0, 1)]));
    reader.metadata_due = Instant::now();
    let (places, _) = read(&mut reader, 3).await;
    assert_eq!(places, [offsets(0, 5..7), offsets(1, 0..1)].concat());
}

#[tokio::test]
async fn a_topic_that_comes_later_or_comes_again_is_read_from_its_start() {
    let broker = Broker::start(None).await;
    let mut reader = broker.reader(Start::End);
    let step = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
    assert_eq!(step, Step::Notice(Notice::TopicMissing { topic: "t".to_owned() }));
    broker.set(topic(1, &[(0, 4)]));
    let (places, notices) = read(&mut reader, 4).await;
    assert_eq!((places, notices), (offsets(0, 0..4), vec![following(1)]));

    broker.set(topic(2, &[(0, 6)]));
    reader.metadata_due = Instant::now();
    let (places, notices) = read(&mut reader, 6).await;
    assert_eq!(places, offsets(0, 0..6));
    assert_eq!(notices, [Notice::TopicNew { topic: "t".to_owned() }, following(1)]);
}

#[tokio::test]
async fn offsets_that_are_gone_are_passed_over_and_told() {
    for (partitions, to, expected) in [
        // Retention has removed what was next.
        ((9, 12), 9, offsets(0, 9..12)),
        // The log is shorter than what was read.
        ((0, 3), 3, vec![]),
    ] {
        let broker = Broker::start(Some(topic(1, &[(0, 5)]))).await;
        let mut reader = broker.reader(Start::Beginning);
        read(&mut reader, 5).await;
        broker.set(topic(1, &[partitions]));
        let step = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
        assert_eq!(step, Step::Notice(Notice::Skipped { partition: 0, from: 5, to }));
        assert_eq!(read(&mut reader, expected.len()).await, (expected, vec![]));
    }
}

#[tokio::test]
async fn a_broker_in_trouble_is_told_once_and_asked_again() {
    let mut troubled = topic(1, &[(0, 5)]);
    troubled.errors = vec![ErrorCode::KafkaStorageError; 3];
    let broker = Broker::start(Some(troubled)).await;
    let mut reader = broker.reader(Start::Beginning);
    let (places, notices) = read(&mut reader, 5).await;
    assert_eq!(places, offsets(0, 0..5));
    let reason = "the broker says KAFKA_STORAGE_ERROR".to_owned();
    let lost = Notice::Lost { address: broker.address.clone(), reason };
    // That it is back may be told after the records that show it.
    let told: Vec<_> = notices.into_iter().filter(|notice| *notice != Notice::Back).collect();
    assert_eq!(told, [following(1), lost]);
}

#[test]
fn waits_double_to_their_limit() {
    let waits = std::iter::successors(Some(next_wait(None)), |wait| Some(next_wait(Some(*wait))));
    let waits: Vec<_> = waits.take(8).map(|wait| wait.as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
}

#[tokio::test]
async fn a_call_that_is_not_waited_for_loses_nothing() {
    let broker = Broker::start(Some(topic(1, &[(0, 300)]))).await;
    let mut reader = broker.reader(Start::Beginning);
    let mut places = Vec::new();
    let mut turns = 0;
    while places.len() < 300 {
        // Polled so often and then dropped, at another place each time.
        turns += 1;
        let mut left = turns % 9;
        let next = reader.next();
        let mut next = std::pin::pin!(next);
        let step = std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(step) = next.as_mut().poll(context) {
                return std::task::Poll::Ready(Some(step));
            }
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            std::task::Poll::Pending
        });
        if let Some(step) = step.await
            && let Step::Records(records) = step.unwrap()
        {
            places.extend(records.iter().map(|record| (record.partition, record.offset)));
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(places, offsets(0, 0..300));
}

#[tokio::test]
async fn the_log_is_read_to_its_end_and_no_further() {
    for (start, expected) in [(Start::Beginning, 9), (Start::End, 0)] {
        let broker = Broker::start(Some(topic(1, &[(0, 5), (4, 8), (0, 0)]))).await;
        let mut count = 0;
        broker.reader(start).read_to_end(|_| count += 1).await.unwrap();
        assert_eq!(count, expected);
    }
    let broker = Broker::start(None).await;
    broker.reader(Start::Beginning).read_to_end(|record| panic!("{record:?}")).await.unwrap();
}
