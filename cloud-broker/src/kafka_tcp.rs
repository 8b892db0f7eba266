//! Kafka connections.
//!
//! Each has two halves in one task: the reading half frames requests, checks batches and asks the engine; the writing half
//! sends responses in the order of the requests. Memory for a frame is acquired before its bytes are read, so that many
//! clients slow each other down instead of filling the memory.

mod respond;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker_core::{Asker, Event, KafkaRequest, Received, RequestInfo, receive};
use broker_kafka::ApiKey;
use broker_kafka::frame::{FRAME_HEAD_BYTES, FrameError, Stage, frame_length};
use bytes::{BufMut, Bytes, BytesMut};
use process::Shutdown;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cold_reader::ColdReader;
use crate::engine::{EngineGone, EngineHandle};
use crate::memory::{RequestMemory, ResponseMemory};
use crate::metrics;
use respond::Responder;

/// Requests of one connection that may be unanswered; then its socket is not read.
pub(crate) const IN_FLIGHT_MAX: usize = 64;

/// A connection that sends nothing for so long is closed (Kafka's `connections.max.idle.ms`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for each part of a frame, once it has begun and there is memory for it. By parts, because a large frame that a
/// slow link needs minutes for must arrive some time.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a frame that must arrive in that time.
const PART_BYTES: usize = 64 << 10;

/// Time for what was asked to be answered, once the client sends no more or the process ends.
const LINGER: Duration = Duration::from_secs(2);

/// Pause after a failed accept: out of file descriptors, a tight loop would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Buffer for small frames; large ones are read past it.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct KafkaShared {
    pub(crate) engine: EngineHandle,
    pub(crate) reader: ColdReader,
    pub(crate) request_memory: RequestMemory,
    /// For records that are gathered for responses.
    pub(crate) response_memory: ResponseMemory,
    pub(crate) connections_max: usize,
}

/// Accepts connections until the end is requested, then waits until they are done.
pub(crate) async fn serve(listener: TcpListener, shared: KafkaShared, shutdown: Shutdown) {
    let shared = Arc::new(shared);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => {
                metrics::kafka_connections(connections.len());
                continue;
            }
        };
        match accepted {
            Ok((_, peer)) if connections.len() >= shared.connections_max => {
                tracing::warn!(%peer, "too many Kafka connections");
                metrics::kafka_refused();
            }
            Ok((socket, peer)) => {
                let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
                connections.spawn(connection(socket, peer, shared, shutdown));
                metrics::kafka_connections(connections.len());
            }
            Err(error) => {
                tracing::error!("cannot accept Kafka connections: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    if timeout(LINGER, all_done).await.is_err() {
        connections.shutdown().await;
    }
    metrics::kafka_connections(0);
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    #[error("the client has closed")]
    Closed,
    #[error(transparent)]
    EngineGone(#[from] EngineGone),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("nothing came for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the client does not read its responses")]
    NotReading,
    #[error("a produce request with acks=0 failed")]
    ProduceFailed,
    #[error("a part of a frame did not arrive within {} s", FRAME_TIMEOUT.as_secs())]
    Slow,
    #[error("the process ends")]
    Stopping,
    #[error("response: {0}")]
    Unencodable(broker_kafka::runtime::WireError),
}

impl ConnectionEnd {
    fn log(&self, peer: SocketAddr) {
        match self {
            Self::Closed | Self::Idle | Self::Io(_) | Self::Stopping | Self::EngineGone(_) => {
                tracing::debug!(%peer, "Kafka connection ends: {self}");
            }
            Self::Frame(_) | Self::NotReading | Self::ProduceFailed | Self::Slow => {
                metrics::kafka_protocol_error();
                tracing::warn!(%peer, "Kafka connection is closed: {self}");
            }
            Self::Unencodable(_) => tracing::error!(%peer, "Kafka connection is closed: {self}"),
        }
    }
}

/// A request on its way to its response.
#[derive(Debug)]
pub(crate) enum InFlight {
    /// The engine answers under this token.
    Asked(RequestInfo, u64),
    /// The response is there.
    Reply(Vec<Bytes>),
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    shared: Arc<KafkaShared>,
    shutdown: Shutdown,
) {
    // Responses are written whole; waiting for more of them to share a packet only delays them.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, "no TCP_NODELAY: {error}");
    }
    // One more is in the responder's hand, and one in the reader's while it waits for room.
    let Ok(client) = shared.engine.open(IN_FLIGHT_MAX + 2).await else {
        return;
    };
    let id = client.id;
    let (read_half, write_half) = socket.into_split();
    let (in_flight, queue) = mpsc::channel(IN_FLIGHT_MAX);
    let mut reading = RequestReader {
        input: BufReader::with_capacity(READ_BUFFER_BYTES, read_half),
        shared: &shared,
        client: id,
        host: format!("/{}", peer.ip()),
        in_flight,
        next_token: 0,
    };
    let responder = Responder {
        output: write_half,
        shared: &shared,
        client,
        queue,
        stash: std::collections::BTreeMap::new(),
        unsent: Vec::new(),
    };
    let mut responding = std::pin::pin!(responder.run());
    let end = tokio::select! {
        end = reading.run() => end,
        end = &mut responding => end,
        () = shutdown.requested() => ConnectionEnd::Stopping,
    };
    drop(reading);
    // What was asked before a client stopped sending is still answered.
    if let ConnectionEnd::Closed | ConnectionEnd::Stopping = end {
        let _ = timeout(LINGER, responding).await;
    }
    end.log(peer);
    shared.engine.close(id).await;
}

struct RequestReader<'a, R> {
    input: BufReader<R>,
    shared: &'a KafkaShared,
    client: broker_core::ClientId,
    /// Where the client is, as Kafka writes it.
    host: String,
    in_flight: mpsc::Sender<InFlight>,
    next_token: u64,
}

impl<R: AsyncRead + Unpin> RequestReader<'_, R> {
    async fn run(&mut self) -> ConnectionEnd {
        loop {
            if let Err(end) = self.take_request().await {
                return end;
            }
        }
    }

    async fn take_request(&mut self) -> Result<(), ConnectionEnd> {
        let (head, length) = self.read_head().await?;
        // Room for the response comes first: nobody is asked whose answer has to wait.
        let in_flight = self.in_flight.clone();
        let room = in_flight.reserve_many(places(head)).await;
        let room = room.map_err(|_| ConnectionEnd::Closed)?.next().ok_or(ConnectionEnd::Closed)?;
        let memory = self.shared.request_memory.kafka(head);
        let permit = memory.frame(length).await;
        let frame = self.read_rest(head, length).await?;
        let held = memory.decoding(permit, length).await;
        match receive(&frame, &self.host, &self.shared.engine.keyed_topics())? {
            Received::Reply(bytes) => room.send(InFlight::Reply(bytes)),
            Received::Ask(info, request) => {
                metrics::kafka_request(api_name(&request));
                let token = self.next_token;
                self.next_token += 1;
                room.send(InFlight::Asked(info, token));
                let asker = Asker { client: self.client, token };
                let appends = matches!(request, KafkaRequest::Produce(_));
                let event = Event::Kafka(asker, request);
                if appends {
                    self.shared.engine.append(event, held).await?;
                } else {
                    self.shared.engine.request(event, held).await?;
                }
            }
        }
        Ok(())
    }

    /// The length of the next frame and the key of its API, when they have come and are allowed.
    async fn read_head(&mut self) -> Result<([u8; FRAME_HEAD_BYTES], usize), ConnectionEnd> {
        let mut head = [0; FRAME_HEAD_BYTES];
        let first = timeout(IDLE_TIMEOUT, self.input.read(&mut head[..1])).await;
        if first.map_err(|_| ConnectionEnd::Idle)?? == 0 {
            return Err(ConnectionEnd::Closed);
        }
        let rest = timeout(FRAME_TIMEOUT, self.input.read_exact(&mut head[1..])).await;
        rest.map_err(|_| ConnectionEnd::Slow)??;
        let most = self.shared.request_memory.kafka_frame_bytes_max();
        let length = frame_length(head, Stage::Authenticated, most)?;
        Ok((head, length))
    }

    /// The frame without its length field, of which the key of the API was read already.
    async fn read_rest(
        &mut self,
        head: [u8; FRAME_HEAD_BYTES],
        length: usize,
    ) -> Result<Bytes, ConnectionEnd> {
        let mut frame = BytesMut::with_capacity(length);
        frame.put_slice(&head[4..]);
        while frame.len() < length {
            let part = self.read_part(&mut frame, length);
            timeout(FRAME_TIMEOUT, part).await.map_err(|_| ConnectionEnd::Slow)??;
        }
        Ok(frame.freeze())
    }

    /// Reads what there is, which is at least a part of the frame. Never waits for less than has come: each read less is a
    /// round of acknowledgements less on the way back.
    async fn read_part(&mut self, frame: &mut BytesMut, length: usize) -> std::io::Result<()> {
        let end = length.min(frame.len() + PART_BYTES);
        while frame.len() < end {
            let left = length - frame.len();
            if self.input.read_buf(&mut (&mut *frame).limit(left)).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// Places of unanswered requests that must be free for the request that begins with `head`. Acknowledgements are small; the
/// answers to all else may be many times as large as what asks for them, so of those a connection has one in hand and one
/// waiting. (Kafka takes one request of a connection at a time.)
fn places(head: [u8; FRAME_HEAD_BYTES]) -> usize {
    let [_, _, _, _, key @ ..] = head;
    if i16::from_be_bytes(key) == ApiKey::Produce as i16 { 1 } else { IN_FLIGHT_MAX }
}

fn api_name(request: &KafkaRequest) -> &'static str {
    match request {
        KafkaRequest::Admin(request) => request.api_name(),
        KafkaRequest::Fetch(_) => "Fetch",
        KafkaRequest::Group(request) => request.api_name(),
        KafkaRequest::Lookup(_) => "ListOffsets",
        KafkaRequest::Metadata(_) => "Metadata",
        KafkaRequest::Produce(_) => "Produce",
    }
}
