//! A broker on a temporary folder, a Kafka client and a gateway to try it with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker_kafka::frame::{RequestHeader, encode_request, parse_response};
use broker_kafka::generated::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use broker_kafka::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use broker_kafka::generated::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use broker_kafka::records::Records;
use broker_kafka::runtime::Text;
use broker_kafka::{Request, Response};
use bytes::Bytes;
use cloud_broker::{Running, Settings, StartError, TlsFiles, start};
use process::{Clock, Shutdown, ShutdownTrigger};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::ids::{GatewayId, Lane, Partition, ProducerId, SpoolId, Tag, TopicId};
use wire::record_batch::{BatchProducer, Codec, Record, RecordBatchBuilder};
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::{ALPN, Append, Frame, GoodbyeReason, Hello, State, StreamKey, StreamState};

/// Anything that takes longer is a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const SPOOL: SpoolId = SpoolId([3; 16]);

/// An authority and what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, common_name: &str, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }
}

/// A broker and its folder. Dropped, the folder is removed.
pub struct Broker {
    pub authority: Authority,
    pub settings: Settings,
    /// Removed with the broker.
    _folder: TempDir,
    life: Option<Life>,
}

struct Life {
    running: Running,
    trigger: ShutdownTrigger,
}

impl Broker {
    /// Starts a broker on an empty folder and any ports.
    pub async fn start() -> Self {
        let mut broker = Self::prepared();
        broker.go().await.unwrap();
        broker
    }

    /// A folder and settings, without a broker.
    pub fn prepared() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.sign("broker", &["localhost", "127.0.0.1"]);
        let write = |name: &str, pem: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        };
        let tls = TlsFiles {
            cert: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            client_ca: write("ca.pem", authority.certificate.pem()),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings {
            kafka_listen: any,
            quic_listen: any,
            ..Settings::new(folder.path().join("data"), tls)
        };
        settings.storage.log.wal_file_bytes = 1 << 20;
        // How full the disk of whoever runs this is says nothing.
        settings.storage.disk_free_floor_bytes = Some(0);
        Self { authority, settings, _folder: folder, life: None }
    }

    pub async fn go(&mut self) -> Result<(), StartError> {
        let (trigger, shutdown) = Shutdown::new();
        let clock = Clock::start();
        let running = start(self.settings.clone(), clock, trigger.clone(), shutdown).await?;
        self.life = Some(Life { running, trigger });
        Ok(())
    }

    /// Ends the broker in order.
    pub async fn stop(&mut self) {
        let life = self.life.take().unwrap();
        life.trigger.stop();
        timeout(PATIENCE, life.running.finished()).await.unwrap();
        assert_eq!(life.trigger.outcome(), None);
    }

    /// Waits until the broker has ended by itself; says why it did.
    pub async fn ended(&mut self) -> String {
        let life = self.life.take().unwrap();
        timeout(PATIENCE, life.running.finished()).await.unwrap();
        life.trigger.outcome().unwrap().to_string()
    }

    pub fn kafka_address(&self) -> SocketAddr {
        self.running().kafka_address
    }

    pub fn quic_address(&self) -> SocketAddr {
        self.running().quic_address
    }

    pub fn running(&self) -> &Running {
        &self.life.as_ref().unwrap().running
    }

    pub async fn kafka(&self) -> Kafka {
        Kafka::connect(self.kafka_address()).await
    }

    pub async fn gateway(&self, name: &str) -> Gateway {
        Gateway::connect(&self.authority, &self.authority, name, self.quic_address()).await.unwrap()
    }

    pub fn wal_folder(&self) -> std::path::PathBuf {
        Path::new(&self.settings.data_dir).join("wal")
    }
}

/// A Kafka client, one connection.
pub struct Kafka {
    pub socket: TcpStream,
    next_id: i32,
}

impl Kafka {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, next_id: 0 }
    }

    /// Sends a request; says how to read its response.
    pub async fn send(&mut self, version: i16, request: impl Into<Request>) -> RequestHeader {
        let request = request.into();
        self.next_id += 1;
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: self.next_id,
            client_id: Some(Text::from("test")),
        };
        let chunks = encode_request(&header, &request).unwrap();
        self.socket.write_all(&chunks.concat()).await.unwrap();
        header
    }

    pub async fn receive(&mut self, header: &RequestHeader) -> Response {
        self.try_receive(header).await.unwrap()
    }

    /// `None` if the broker has closed the connection instead.
    pub async fn try_receive(&mut self, header: &RequestHeader) -> Option<Response> {
        let reading = async {
            let length = self.socket.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.socket.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        let frame = timeout(PATIENCE, reading).await.unwrap()?;
        let (id, response) =
            parse_response(&frame, usize::MAX, header.api, header.version).unwrap();
        assert_eq!(id, header.correlation_id, "responses come in order");
        Some(response)
    }

    pub async fn call(&mut self, version: i16, request: impl Into<Request>) -> Response {
        let header = self.send(version, request).await;
        self.receive(&header).await
    }

    pub async fn make_topic(&mut self, name: &str) -> MetadataResponse {
        let Response::Metadata(response) = self.call(12, metadata(name)).await else {
            panic!("not a metadata response");
        };
        assert_eq!(response.topics[0].error_code, 0);
        response
    }

    /// Produces one batch and returns its first offset.
    pub async fn produce(&mut self, topic: &str, values: &[&str]) -> i64 {
        let request = produce(topic, -1, values);
        let Response::Produce(response) = self.call(9, request).await else {
            panic!("not a produce response");
        };
        offset_of(&response)
    }

    pub async fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> FetchResponse {
        match self.call(12, fetch(topic, partition, offset, 0)).await {
            Response::Fetch(response) => response,
            other => panic!("not a fetch response: {other:?}"),
        }
    }

    /// Whether the broker has closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let read = timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await;
        read.is_ok() && rest.is_empty()
    }
}

pub fn offset_of(response: &ProduceResponse) -> i64 {
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
    partition.base_offset
}

pub fn metadata(name: &str) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Text::from(name)),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..MetadataRequest::default()
    }
}

pub fn produce(topic: &str, acks: i16, values: &[&str]) -> ProduceRequest {
    let producer =
        BatchProducer { id: ProducerId(-1), epoch: StreamEpoch(-1), base: StreamSeq::ZERO };
    produce_as(producer, topic, acks, values)
}

pub fn produce_as(
    producer: BatchProducer,
    topic: &str,
    acks: i16,
    values: &[&str],
) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 1_000,
        topic_data: vec![TopicProduceData {
            name: Text::from(topic),
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: Some(batch_of(producer, values)),
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

pub fn fetch(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Text::from(topic),
            partitions: vec![FetchPartition {
                partition,
                fetch_offset: offset,
                partition_max_bytes: 50 << 20,
                current_leader_epoch: -1,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// The values of all records in a response of one partition.
pub fn values(response: &FetchResponse) -> Vec<String> {
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    let mut run = partition.records.clone().unwrap();
    let mut found = Vec::new();
    while !run.is_empty() {
        let mut records = Records::new(&run).unwrap();
        records.header().check_crc(&run).unwrap();
        let length = records.header().total_len;
        while let Some(record) = records.next_record().unwrap() {
            found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
        run = run.slice(length..);
    }
    found
}

/// A batch of records of one device.
fn batch_of(producer: BatchProducer, values: &[&str]) -> Bytes {
    keyed_batch(producer, Some(b"dev1"), values)
}

pub fn keyed_batch(producer: BatchProducer, key: Option<&[u8]>, values: &[&str]) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    for value in values {
        builder.push(&Record {
            timestamp: UnixMs(1_700_000_000_000),
            key,
            value: Some(value.as_bytes()),
            headers: &[],
        });
    }
    Bytes::from(builder.seal(producer, Codec::None, builder.records()).unwrap())
}

/// A gateway's end of a session.
pub struct Gateway {
    pub name: String,
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
    /// Keeps the socket open.
    _endpoint: Endpoint,
}

impl Gateway {
    /// Connects with a certificate of `signer`, trusting what `trusted` signed, and opens the control stream.
    pub async fn connect(
        trusted: &Authority,
        signer: &Authority,
        name: &str,
        address: SocketAddr,
    ) -> Result<Self, quinn::ConnectionError> {
        let mut endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.set_default_client_config(client_config(trusted, signer, name));
        let connecting = endpoint.connect(address, "localhost").unwrap();
        let connection = timeout(PATIENCE, connecting).await.unwrap()?;
        let (send, receive) = connection.open_bi().await?;
        Ok(Self { name: name.to_owned(), connection, send, receive, _endpoint: endpoint })
    }

    pub fn pid(&self) -> ProducerId {
        let gateway = GatewayId::new(&self.name).unwrap();
        ProducerId::of_lane(&gateway, SPOOL, Lane::Live)
    }

    pub fn hello<'a>(&'a self, streams: Vec<StreamKey>) -> Frame<'a> {
        Frame::Hello(Hello {
            version_min: 1,
            version_max: 1,
            gateway: &self.name,
            spool: SPOOL,
            topics: vec!["telemetry", "culvert.gateways"],
            streams,
        })
    }

    /// Says HELLO and returns the id of `telemetry` and where `streams` stand.
    pub async fn welcome(
        &mut self,
        streams: Vec<StreamKey>,
    ) -> (TopicId, Vec<(StreamKey, StreamState)>) {
        let hello = self.hello(streams).encode().unwrap();
        self.send.write_all(&hello).await.unwrap();
        let bytes = read_frame(&mut self.receive).await.unwrap();
        match Frame::decode(&bytes).unwrap() {
            Frame::Welcome(welcome) => {
                assert_eq!(welcome.topics[0].partitions, 12);
                (welcome.topics[0].id, welcome.states)
            }
            other => panic!("not a WELCOME: {other:?}"),
        }
    }

    pub fn stream(&self, topic: TopicId) -> StreamKey {
        StreamKey { pid: self.pid(), topic, partition: Partition(4) }
    }

    pub async fn say_goodbye_after(&mut self, bytes: &[u8]) -> GoodbyeReason {
        self.send.write_all(bytes).await.unwrap();
        goodbye(&mut self.receive).await
    }
}

/// The broker's GOODBYE on this stream.
pub async fn goodbye(receive: &mut RecvStream) -> GoodbyeReason {
    let bytes = read_frame(receive).await.unwrap();
    match Frame::decode(&bytes).unwrap() {
        Frame::Goodbye(reason, _) => reason,
        other => panic!("not a GOODBYE: {other:?}"),
    }
}

/// An APPEND of these readings, as bytes.
pub fn append(stream: StreamKey, base: i32, tags: (u64, u64), values: &[&str]) -> Vec<u8> {
    let base = StreamSeq::new(base).unwrap();
    let producer = BatchProducer { id: stream.pid, epoch: StreamEpoch::FIRST, base };
    let batch = batch_of(producer, values);
    let frame = Frame::Append(Append {
        stream,
        epoch: StreamEpoch::FIRST,
        base,
        count: u32::try_from(values.len()).unwrap(),
        prev_tag: Tag(tags.0),
        tag: Tag(tags.1),
        batch: &batch,
    });
    frame.encode().unwrap()
}

pub async fn read_state(receive: &mut RecvStream) -> State {
    let bytes = read_frame(receive).await.unwrap();
    match Frame::decode(&bytes).unwrap() {
        Frame::State(state) => state,
        other => panic!("not a STATE: {other:?}"),
    }
}

pub async fn read_frame(receive: &mut RecvStream) -> Option<Vec<u8>> {
    let reading = async {
        let mut field = [0; 4];
        receive.read_exact(&mut field).await.ok()?;
        let mut frame = vec![0; u32::from_le_bytes(field) as usize];
        receive.read_exact(&mut frame).await.ok()?;
        Some(frame)
    };
    timeout(PATIENCE, reading).await.unwrap()
}

fn client_config(trusted: &Authority, signer: &Authority, name: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.der().clone()).unwrap();
    let (certificate, key) = signer.sign(name, &[]);
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    ClientConfig::new(Arc::new(crypto))
}
