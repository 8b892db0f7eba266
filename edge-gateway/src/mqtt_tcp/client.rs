//! One client's connection.

mod gate;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gateway_core::dedupe::QueuesSeen;
use gateway_core::hub::Entry;
use gateway_core::mqtt::{
    CloseReason, ConnectRefusal, ConnectRequest, Connection, Message, Output, Publish,
};
use metrics::{counter, gauge};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use wire::time::MonoMs;

use super::{Edge, staged_bytes, staged_units};
use crate::hub_task::{Mail, Mailbox, Request, Ticket};
use crate::metrics as names;
use crate::store_thread::Answer;

/// Bytes read from a socket at a time, at first: thousands of idle connections hold so much each.
const READ_BYTES_MIN: usize = 2 << 10;

/// Bytes read from a busy socket at a time.
const READ_BYTES_MAX: usize = 64 << 10;

/// Bytes of publishes that a connection may hold beside those that the store thread has; beyond it the socket is not read.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// Bytes that wait to be sent at which no more messages for the client are taken.
const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Bytes of answers, beside those messages, at which its socket is not read any more. Messages alone do not come so far: a
/// slow subscriber's pings and acknowledgements must still be read.
const UNSENT_ANSWERS_MAX: usize = 64 << 10;

/// Mail read between two looks at the other things that may have happened.
const MAIL_AT_ONCE: usize = 256;

/// How long, and how much, is read and thrown away after a connection was closed: closing a socket with unread bytes
/// would reset it, and the client would not see why it was closed.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 4 << 20;

/// A peer that vanished without a word is looked for after so long, and then so often.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a client may accept nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A batch that the store thread has.
struct Outstanding {
    answer: oneshot::Receiver<Answer>,
    /// What the hub is to hear of, and at which place of the batch it was.
    messages: Vec<(usize, Arc<Message>)>,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

/// What woke a connection.
enum Wake {
    Answered(Option<Answer>),
    Bytes(std::io::Result<usize>),
    Deadline,
    HubListens,
    Mail(Option<Mail>),
    Room(Option<OwnedSemaphorePermit>),
    Sent(std::io::Result<usize>),
    Stopping,
    Stuck,
}

/// A connection from its first byte to its last.
pub(super) struct Client {
    edge: Edge,
    staged: Arc<Semaphore>,
    stream: TcpStream,
    peer: SocketAddr,
    machine: Connection,
    buffer: BytesMut,
    read_bytes: usize,
    /// What is to be sent, and until when some of it must have been.
    unsent: BytesMut,
    stuck_at: Option<Instant>,
    client: Option<Arc<str>>,
    ticket: Option<Ticket>,
    mailbox: Option<Mailbox>,
    /// What the hub is to be told, in order.
    to_hub: VecDeque<Request>,
    publishes: Vec<Publish>,
    outstanding: Option<Outstanding>,
    queues_seen: QueuesSeen,
    closing: Option<CloseReason>,
    stopping: bool,
}

impl Client {
    pub(super) fn new(
        edge: Edge,
        staged: Arc<Semaphore>,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Self {
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
            unsent: BytesMut::new(),
            stuck_at: None,
            client: None,
            ticket: None,
            mailbox: None,
            to_hub: VecDeque::new(),
            publishes: Vec::new(),
            outstanding: None,
            queues_seen: QueuesSeen::default(),
            closing: None,
            stopping: false,
        }
    }

    /// Serves the client until it is gone.
    pub(super) async fn run(mut self) {
        gauge!(names::CONNECTIONS).increment(1.0);
        // Acknowledgements are small and awaited: they must not wait for more to come.
        let _ = self.stream.set_nodelay(true);
        // A client without MQTT keep-alive that lost its power would hold its place for ever.
        let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
        let _ = SockRef::from(&self.stream).set_tcp_keepalive(&keepalive);
        let ended = self.drive().await;
        self.leave().await;
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
        loop {
            self.perform();
            if self.is_done() {
                self.hang_up().await;
                return Ok(());
            }
            let wake = self.wait().await;
            let now = self.edge.clock.mono();
            match wake {
                Wake::Answered(Some(answer)) => self.answered(now, answer),
                // The store is gone and the process with it: no answer, no acknowledgement.
                Wake::Answered(None) | Wake::Room(None) => return Ok(()),
                Wake::Bytes(Ok(0)) => {
                    self.settle().await;
                    return Ok(());
                }
                Wake::Bytes(Ok(read)) => self.adapt(read),
                Wake::Bytes(Err(error)) | Wake::Sent(Err(error)) => {
                    self.settle().await;
                    return Err(error);
                }
                Wake::Deadline => self.machine.handle_timeout(now),
                Wake::HubListens => {}
                Wake::Mail(Some(mail)) => self.read_mail(now, mail),
                Wake::Mail(None) => {
                    self.mailbox = None;
                    self.machine.refuse_connect(ConnectRefusal::ServerUnavailable);
                }
                Wake::Room(Some(room)) => self.hand_over(room).await,
                Wake::Sent(Ok(_)) => self.stuck_at = None,
                Wake::Stopping => {
                    self.stopping = true;
                    self.machine.shutdown();
                }
                Wake::Stuck => {
                    self.settle().await;
                    return Err(std::io::ErrorKind::TimedOut.into());
                }
            }
            self.machine.handle_input(now, &mut self.buffer);
        }
    }

    /// Whether everything is said and done after a close.
    fn is_done(&self) -> bool {
        self.closing.is_some()
            && self.publishes.is_empty()
            && self.outstanding.is_none()
            && self.to_hub.is_empty()
            && self.unsent.is_empty()
    }

    fn unsent_max(&self) -> usize {
        // One message may overshoot its limit.
        let message = self.edge.limits.packet_len_max.get() as usize;
        UNSENT_BYTES_MAX + message + UNSENT_ANSWERS_MAX
    }

    async fn wait(&mut self) -> Wake {
        let clock = self.edge.clock;
        let waiting = staged_bytes(&self.publishes);
        let reads = self.machine.wants_input()
            && self.closing.is_none()
            && waiting < WAITING_BYTES_MAX
            && self.unsent.len() < self.unsent_max();
        // A client cannot show life while it is not read; when it is again, what it sent meanwhile comes first.
        let deadline = self.machine.next_deadline().filter(|_| reads);
        let deadline = deadline.map(|at| clock.instant_at(at));
        let wanted = staged_units(waiting);
        // One batch at a time: what is committed reaches the hub in order, and does not pile up here.
        let hands_over =
            self.outstanding.is_none() && !self.publishes.is_empty() && self.to_hub.is_empty();
        let answer = self.outstanding.as_mut().map(|outstanding| &mut outstanding.answer);
        let (tells, sends) = (!self.to_hub.is_empty(), !self.unsent.is_empty());
        let stuck_at = self.stuck_at;
        self.buffer.reserve(self.read_bytes);
        let hub = self.edge.hub.requests();
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            biased;
            () = self.edge.shutdown.requested(), if !self.stopping => Wake::Stopping,
            answer = or_pending(answer) => Wake::Answered(answer.ok()),
            sent = writer.write_buf(&mut self.unsent), if sends => Wake::Sent(sent),
            permits = hub.reserve_many(self.to_hub.len()), if tells => {
                // Closed, the process is ending.
                for permit in permits.into_iter().flatten() {
                    if let Some(request) = self.to_hub.pop_front() {
                        permit.send(request);
                    }
                }
                self.to_hub.clear();
                Wake::HubListens
            }
            room = Arc::clone(&self.staged).acquire_many_owned(wanted), if hands_over => {
                Wake::Room(room.ok())
            }
            read = reader.read_buf(&mut self.buffer), if reads => Wake::Bytes(read),
            // After the socket, which is not read for ever without a commit; mail may never cease.
            mail = next_mail(self.mailbox.as_mut()) => Wake::Mail(mail),
            () = until(deadline) => Wake::Deadline,
            () = until(stuck_at) => Wake::Stuck,
        }
    }

    /// Does what the machine asks.
    fn perform(&mut self) {
        let room = UNSENT_BYTES_MAX.saturating_sub(self.unsent.len());
        self.machine.fill(self.edge.clock.mono(), room);
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect(request) => self.enter(request),
                Output::Publish(publish) => self.publishes.push(publish),
                Output::Subscribe(request) => {
                    let place = self.ticket.as_ref().map(|ticket| ticket.place);
                    self.to_hub.extend(place.map(|place| Request::Subscribe(place, request)));
                }
                Output::Unsubscribe(request) => {
                    let place = self.ticket.as_ref().map(|ticket| ticket.place);
                    self.to_hub.extend(place.map(|place| Request::Unsubscribe(place, request)));
                }
                Output::Dropped(reason) => {
                    counter!(names::FORWARDS_DROPPED, "reason" => reason.label()).increment(1);
                }
                Output::Refused(refused) => {
                    counter!(names::PUBLISHES_REFUSED, "reason" => "invalid").increment(1);
                    let client = self.client.as_deref().unwrap_or("?");
                    tracing::warn!(peer = %self.peer, client, topic = refused.topic.as_str(), "publish refused: {}", refused.refusal);
                }
                Output::Send(bytes) => self.unsent.extend_from_slice(&bytes),
                Output::Close(reason) => self.closing = Some(reason),
            }
        }
        if let Some(ticket) = &self.ticket {
            let credit = self.machine.take_credit();
            self.to_hub.extend(credit.map(|credit| Request::Credit(ticket.place, credit)));
        }
        if self.unsent.is_empty() {
            self.stuck_at = None;
        } else if self.stuck_at.is_none() {
            self.stuck_at = Some(Instant::now() + WRITE_TIMEOUT);
        }
    }

    /// Asks the hub for a place.
    fn enter(&mut self, request: ConnectRequest) {
        tracing::debug!(peer = %self.peer, client = %request.client_id, version = %request.version, "connect");
        self.client = Some(Arc::clone(&request.client_id));
        let (mail, mailbox) = mpsc::unbounded_channel();
        self.mailbox = Some(mailbox);
        let entry = Entry {
            client_id: request.client_id,
            clean_start: request.clean_start,
            session_expiry_s: request.session_expiry_s,
            will: request.will,
        };
        self.to_hub.push_back(Request::Enter(entry, mail));
    }

    fn read_mail(&mut self, now: MonoMs, first: Mail) {
        self.take_mail(now, first);
        for _ in 1..MAIL_AT_ONCE {
            let next = self.mailbox.as_mut().and_then(|mailbox| mailbox.try_recv().ok());
            let Some(mail) = next else { return };
            self.take_mail(now, mail);
        }
    }

    fn take_mail(&mut self, now: MonoMs, mail: Mail) {
        match mail {
            Mail::Admitted(ticket, grant) => {
                self.ticket = Some(ticket);
                self.machine.accept_connect(now, grant);
            }
            Mail::Evicted => self.machine.taken_over(),
            Mail::Forward(forward) => self.machine.forward(forward),
            Mail::Subscribed(packet_id, outcomes) => {
                self.machine.subscribed(now, packet_id, &outcomes);
            }
            Mail::TurnedAway => self.machine.refuse_connect(ConnectRefusal::ServerUnavailable),
            Mail::Unsubscribed(packet_id, outcomes) => {
                self.machine.unsubscribed(now, packet_id, &outcomes);
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
        self.leave().await;
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
}

/// The future's output, or for ever nothing if there is none.
async fn or_pending<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next_mail(mailbox: Option<&mut Mailbox>) -> Option<Mail> {
    match mailbox {
        Some(mailbox) => mailbox.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
