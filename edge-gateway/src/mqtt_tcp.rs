//! The MQTT listener: sockets around [`gateway_core::mqtt::Connection`].
//!
//! A connection parses all it has buffered into one batch, hands that to the store thread, and sends the
//! acknowledgements when the answer comes; meanwhile it goes on reading until too much is unacknowledged. Nothing here
//! waits for a timer, and a slow client holds up nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_core::dedupe::Numbered;
use gateway_core::gateway::{Arrival, ClientBatch, ClientToken, Rejection};
use gateway_core::mqtt::{
    CloseReason, ConnectRefusal, Connection, MqttLimits, Output, Publish, RejectReason,
};
use metrics::{counter, gauge};
use process::{Clock, Shutdown};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::time::MonoMs;

use crate::metrics as names;
use crate::sessions::{Sessions, Ticket};
use crate::store_thread::{Answer, StoreHandle};

/// Bytes read from a socket at a time, at first: thousands of idle connections hold so much each.
const READ_BYTES_MIN: usize = 2 << 10;

/// Bytes read from a busy socket at a time.
const READ_BYTES_MAX: usize = 64 << 10;

/// Bytes of publishes that a connection may hold beside those that the store thread has; beyond it the socket is not read.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// How long, and how much, is read and thrown away after a connection was closed: closing a socket with unread bytes
/// would reset it, and the client would not see why it was closed.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 << 20;

/// A peer that vanished without a word is looked for after so long, and then so often.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a client may take to accept what is sent to it. It is never much: acknowledgements.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long connections may take to end when the process is stopping.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept: out of file descriptors, a tight loop would only burn the processor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Bytes of publishes that all connections together may have handed to the store thread.
const STAGED_BYTES_MAX: usize = 64 << 20;

/// Unit of that budget, so that it fits a semaphore's count.
const STAGED_UNIT_BYTES: usize = 1 << 10;

/// What every connection needs.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Time.
    pub clock: Clock,
    /// Limits of a connection.
    pub limits: MqttLimits,
    /// The acknowledgement gate.
    pub store: StoreHandle,
    /// Who is connected.
    pub sessions: Sessions,
    /// Connections that may be open.
    pub connections_max: usize,
    /// The process's end.
    pub shutdown: Shutdown,
}

/// Accepts connections until the end is requested, then sees them off.
pub async fn serve(listener: TcpListener, edge: Edge) {
    let slots = Arc::new(Semaphore::new(edge.connections_max));
    let staged = Arc::new(Semaphore::new(STAGED_BYTES_MAX / STAGED_UNIT_BYTES));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = edge.shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            (stream, peer, slot) = accept(&listener, &slots) => {
                let (edge, staged) = (edge.clone(), Arc::clone(&staged));
                connections.spawn(async move {
                    Client::new(edge, staged, stream, peer).run().await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    let all_off = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, all_off).await.is_err() {
        tracing::warn!("{} connections did not end in time", connections.len());
    }
}

/// The next connection, once there is a slot for it: beyond the limit, clients wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                tracing::warn!("cannot accept an MQTT connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// A batch that the store thread has.
struct Outstanding {
    answer: oneshot::Receiver<Answer>,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

/// What woke a connection.
enum Wake {
    Answered(Option<Answer>),
    Bytes(std::io::Result<usize>),
    Deadline,
    Entered(Option<Ticket>),
    Kicked,
    Room(Option<OwnedSemaphorePermit>),
    Stopping,
}

struct Client {
    edge: Edge,
    staged: Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
    machine: Connection,
    buffer: BytesMut,
    read_bytes: usize,
    client: Option<Arc<str>>,
    ticket: Option<Ticket>,
    publishes: Vec<Publish>,
    outstanding: Option<Outstanding>,
    numbered_before: bool,
    closing: Option<CloseReason>,
    kicked: bool,
    stopping: bool,
}

impl Client {
    fn new(edge: Edge, staged: Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) -> Self {
        let entropy = u128::from_be_bytes(crate::entropy::random_id());
        let machine = Connection::new(edge.limits, entropy, edge.clock.mono());
        Self {
            edge,
            staged,
            stream,
            peer,
            machine,
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            client: None,
            ticket: None,
            publishes: Vec::new(),
            outstanding: None,
            numbered_before: false,
            closing: None,
            kicked: false,
            stopping: false,
        }
    }

    async fn run(mut self) {
        gauge!(names::CONNECTIONS).increment(1.0);
        // Acknowledgements are small and awaited: they must not wait for more to come.
        let _ = self.stream.set_nodelay(true);
        // A client without MQTT keep-alive that lost its power would hold its place for ever.
        let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
        let _ = SockRef::from(&self.stream).set_tcp_keepalive(&keepalive);
        let ended = self.drive().await;
        gauge!(names::CONNECTIONS).decrement(1.0);
        let client = self.client.as_deref().unwrap_or("?");
        match (ended, &self.closing) {
            (Err(error), None) => {
                tracing::debug!(peer = %self.peer, client, "connection lost: {error}")
            }
            (_, Some(reason)) if reason.is_peer_fault() => {
                counter!(names::CONNECTIONS_FAULTY).increment(1);
                tracing::warn!(peer = %self.peer, client, "connection closed: {reason}");
            }
            (_, Some(reason)) => {
                tracing::debug!(peer = %self.peer, client, "connection closed: {reason}")
            }
            (Ok(()), None) => {
                tracing::debug!(peer = %self.peer, client, "connection closed by the client")
            }
        }
    }

    /// Runs until the connection is over and what it had published is stored or discarded.
    async fn drive(&mut self) -> std::io::Result<()> {
        let mut entering = None;
        loop {
            self.perform(&mut entering).await?;
            if self.closing.is_some() && self.publishes.is_empty() && self.outstanding.is_none() {
                self.hang_up().await;
                return Ok(());
            }
            let wake = self.wait(&mut entering).await;
            let now = self.edge.clock.mono();
            match wake {
                Wake::Answered(Some(answer)) => self.answered(now, answer),
                // The store is gone and the process with it: no answer, no acknowledgement.
                Wake::Answered(None) => return Ok(()),
                Wake::Bytes(Ok(0)) => return self.settle().await,
                Wake::Bytes(Ok(read)) => self.adapt(read),
                Wake::Bytes(Err(error)) => {
                    self.settle().await?;
                    return Err(error);
                }
                Wake::Deadline => self.machine.handle_timeout(now),
                Wake::Entered(Some(ticket)) => {
                    self.ticket = Some(ticket);
                    self.machine.accept_connect(now);
                }
                Wake::Entered(None) => {
                    self.machine.refuse_connect(ConnectRefusal::ServerUnavailable);
                }
                Wake::Kicked => {
                    self.kicked = true;
                    self.machine.taken_over();
                }
                Wake::Room(Some(room)) => self.hand_over(room).await,
                Wake::Room(None) => return Ok(()),
                Wake::Stopping => {
                    self.stopping = true;
                    self.machine.shutdown();
                }
            }
            self.machine.handle_input(now, &mut self.buffer);
        }
    }

    async fn wait(&mut self, entering: &mut Option<Entering>) -> Wake {
        let deadline = self.machine.next_deadline();
        let clock = self.edge.clock;
        let until = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(clock.instant_at(at)).await,
                None => std::future::pending().await,
            }
        };
        let waiting = staged_bytes(&self.publishes);
        let reads =
            self.machine.wants_input() && self.closing.is_none() && waiting < WAITING_BYTES_MAX;
        let wanted = staged_units(waiting);
        let hands_over = self.outstanding.is_none() && !self.publishes.is_empty();
        let answer = self.outstanding.as_mut().map(|outstanding| &mut outstanding.answer);
        let kicked = self.ticket.as_mut().map(|ticket| &mut ticket.kicked);
        self.buffer.reserve(self.read_bytes);
        tokio::select! {
            biased;
            () = self.edge.shutdown.requested(), if !self.stopping => Wake::Stopping,
            answer = or_pending(answer) => Wake::Answered(answer.ok()),
            room = Arc::clone(&self.staged).acquire_many_owned(wanted), if hands_over => {
                Wake::Room(room.ok())
            }
            ticket = or_pending(entering.as_mut()) => {
                *entering = None;
                Wake::Entered(ticket)
            }
            _ = or_pending(kicked), if !self.kicked => Wake::Kicked,
            read = self.stream.read_buf(&mut self.buffer), if reads => Wake::Bytes(read),
            () = until => Wake::Deadline,
        }
    }

    /// Does what the machine asks.
    async fn perform(&mut self, entering: &mut Option<Entering>) -> std::io::Result<()> {
        let mut out = BytesMut::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect(request) => {
                    tracing::debug!(peer = %self.peer, client = %request.client_id, version = %request.version, "connect");
                    self.client = Some(Arc::clone(&request.client_id));
                    let sessions = self.edge.sessions.clone();
                    *entering =
                        Some(Box::pin(async move { sessions.enter(request.client_id).await }));
                }
                Output::Publish(publish) => self.publishes.push(publish),
                Output::Refused(refused) => {
                    counter!(names::PUBLISHES_REFUSED, "reason" => "invalid").increment(1);
                    let client = self.client.as_deref().unwrap_or("?");
                    tracing::warn!(peer = %self.peer, client, topic = refused.topic.as_str(), "publish refused: {}", refused.refusal);
                }
                Output::Send(bytes) => out.extend_from_slice(&bytes),
                Output::Close(reason) => self.closing = Some(reason),
            }
        }
        if out.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(WRITE_TIMEOUT, self.stream.write_all(&out)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.settle().await?;
                Err(error)
            }
            Err(_elapsed) => {
                self.settle().await?;
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Reads more at a time while the socket has more, and less again when it has not.
    fn adapt(&mut self, read: usize) {
        self.read_bytes = if read >= self.read_bytes {
            (2 * self.read_bytes).min(READ_BYTES_MAX)
        } else {
            (self.read_bytes / 2).max(READ_BYTES_MIN)
        };
    }

    /// Closes in a way that lets the client read why. It may be gone already; the connection is over either way.
    async fn hang_up(&mut self) {
        self.ticket = None;
        let farewell = async {
            self.stream.shutdown().await?;
            let (mut rest, mut thrown) = (vec![0; READ_BYTES_MIN], 0);
            while thrown < LINGER_BYTES_MAX {
                match self.stream.read(&mut rest).await? {
                    0 => break,
                    read => thrown += read,
                }
            }
            std::io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }

    /// Gives everything parsed to the store thread as one batch.
    async fn hand_over(&mut self, room: OwnedSemaphorePermit) {
        let publishes = std::mem::take(&mut self.publishes);
        let arrivals: Vec<_> = publishes.into_iter().map(arrival).collect();
        let device = self.client.clone().unwrap_or_else(|| "".into());
        let first_of_connection = !self.numbered_before;
        self.numbered_before |= arrivals.iter().any(Arrival::is_numbered);
        let batch = ClientBatch {
            token: ClientToken(0),
            device: Bytes::copy_from_slice(device.as_bytes()),
            first_of_connection,
            arrivals,
        };
        // A closed store drops the answer's sender as well, which `wait` reports.
        let answer = match self.edge.store.publish(batch).await {
            Ok(answer) => answer,
            Err(_closed) => oneshot::channel().1,
        };
        self.outstanding = Some(Outstanding { answer, since: Instant::now(), _room: room });
    }

    fn answered(&mut self, now: MonoMs, (stored, rejected): Answer) {
        let Some(outstanding) = self.outstanding.take() else {
            return;
        };
        names::record_commit(outstanding.since.elapsed().as_secs_f64());
        self.machine.committed(now, stored);
        let Some(rejection) = rejected else { return };
        // Nothing behind a refused publish may be stored, or it would be taken in its place.
        self.publishes.clear();
        let (label, reason) = match rejection {
            Rejection::Batch(fault) => ("batch", RejectReason::Batch(fault)),
            Rejection::Full => ("full", RejectReason::Full),
            Rejection::NotAuthorized => ("not-authorized", RejectReason::NotAuthorized),
            Rejection::OutOfOrder { expected, first } => {
                ("sequence", RejectReason::DeviceSequence { expected, first })
            }
        };
        counter!(names::PUBLISHES_REFUSED, "reason" => label).increment(1);
        self.machine.rejected(reason);
    }

    /// The client is gone. What the store thread has is awaited, so that the next connection of this client finds it
    /// stored; what it does not have is stored as well: it came whole.
    async fn settle(&mut self) -> std::io::Result<()> {
        loop {
            if let Some(outstanding) = self.outstanding.take() {
                match outstanding.answer.await {
                    Ok((_, None)) => {}
                    Ok((_, Some(_))) | Err(_) => return Ok(()),
                }
            }
            if self.publishes.is_empty() {
                return Ok(());
            }
            let room = Arc::clone(&self.staged);
            let wanted = staged_units(staged_bytes(&self.publishes));
            let Ok(room) = room.acquire_many_owned(wanted).await else {
                return Ok(());
            };
            self.hand_over(room).await;
        }
    }
}

type Entering = std::pin::Pin<Box<dyn Future<Output = Option<Ticket>> + Send>>;

/// The future's output, or for ever nothing if there is none.
async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// What publishes take in memory, roughly.
fn staged_bytes(publishes: &[Publish]) -> usize {
    let bytes = |publish: &Publish| {
        publish.payload.len() + publish.topic.as_str().len() + STAGED_UNIT_BYTES / 4
    };
    publishes.iter().map(bytes).sum()
}

/// What they take of [`STAGED_BYTES_MAX`]; never more than all of it, or the batch could never go.
fn staged_units(bytes: usize) -> u32 {
    let units = bytes.div_ceil(STAGED_UNIT_BYTES).min(STAGED_BYTES_MAX / STAGED_UNIT_BYTES);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn arrival(publish: Publish) -> Arrival {
    let text = |text: &gateway_core::mqtt::Text| text.clone().into_bytes();
    let properties =
        publish.user_properties().iter().map(|(name, value)| (text(name), text(value))).collect();
    let sequence = publish.sequence.map(|sequence| {
        let numbered =
            Numbered { first: sequence.first, count: 1, lost_before: sequence.lost_before };
        (sequence.queue, numbered)
    });
    Arrival {
        acknowledged: publish.delivery.packet_id().is_some(),
        topic: publish.topic.into_bytes(),
        payload: publish.payload,
        properties,
        sequence,
        maybe_dup: publish.maybe_dup,
    }
}
