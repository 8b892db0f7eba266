//! The uplink over QUIC: one task that connects, speaks the session, and connects again.
//!
//! What may be sent and what an answer means is decided by the gateway core; this task moves frames. A control stream
//! carries the handshake and the control lane, a data stream everything else.

mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::gateway::{SessionId, Status, UplinkEvent, WelcomeFacts};
use gateway_core::uplink::backoff::Backoff;
use metrics::counter;
use process::{Clock, Shutdown};
use quinn::{Endpoint, IdleTimeout, TransportConfig, VarInt};
use thiserror::Error;
use tokio::sync::watch;
use wire::ids::Lane;
use wire::limits::UPLINK_FRAME_BYTES_MAX;
use wire::uplink::{Frame, FrameError, GoodbyeReason, Hello, VERSION};

use self::session::{FrameReader, Session};
use crate::metrics as names;
use crate::store_thread::{StoreClosed, StoreHandle};
use crate::tls::Identity;

/// A broker that answers neither the connection nor HELLO within this time is not there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(4);

/// Between the keep-alive packets of an idle connection: NAT tables forget after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A connection without any packet for so long is dead, in milliseconds.
const IDLE_TIMEOUT_MS: u32 = 60_000;

/// A session that has lasted so long counts as good: the next failure is a first one.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// How long the last packet of a session may take when the process stops.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Code of a connection that is closed because this process stops.
const CLOSE_STOPPING: VarInt = VarInt::from_u32(0);

/// Code of a connection that is closed because it does not work.
const CLOSE_FAILED: VarInt = VarInt::from_u32(1);

/// Why a session ended or could not be made.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The address cannot be resolved.
    #[error("cannot resolve {address}: {detail}")]
    Address {
        /// As configured.
        address: String,
        /// The system's words.
        detail: String,
    },
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The broker ended the session.
    #[error("the broker ended the session: {0}: {1}")]
    Goodbye(GoodbyeReason, String),
    /// The broker broke the protocol.
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    /// No answer in time.
    #[error("no answer from the broker within {0} s")]
    Stalled(u64),
    /// The process is ending.
    #[error(transparent)]
    Store(#[from] StoreClosed),
    /// The stream broke.
    #[error("stream broken: {0}")]
    Stream(String),
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// What the uplink needs.
#[derive(Clone)]
pub struct Uplink {
    /// Time.
    pub clock: Clock,
    /// The broker's address, `host:port`.
    pub address: String,
    /// The name in its certificate.
    pub server_name: String,
    /// Who we are.
    pub identity: Identity,
    /// The owner of the spool.
    pub store: StoreHandle,
    /// How the gateway stands.
    pub status: watch::Receiver<Status>,
    /// The process's end.
    pub shutdown: Shutdown,
}

/// Keeps a session with the broker until the end is requested.
pub async fn run(uplink: Uplink) {
    let mut backoff = Backoff::default();
    let mut number = 0;
    let mut last_error = String::new();
    loop {
        number += 1;
        let id = SessionId(number);
        let began = tokio::time::Instant::now();
        let ended = session(&uplink, id).await;
        let closed = uplink.store.uplink(UplinkEvent::Closed(id)).await;
        if matches!(ended, Err(SessionError::Store(_))) || closed.is_err() {
            return;
        }
        if began.elapsed() >= GOOD_SESSION {
            backoff.succeeded();
            last_error.clear();
        }
        counter!(names::UPLINK_FAILURES).increment(1);
        let wait = Duration::from_millis(backoff.failed(crate::entropy::random()));
        if let Err(error) = ended {
            // One line per kind of trouble; the rest is repetition.
            let error = error.to_string();
            if error == last_error {
                tracing::debug!(broker = %uplink.address, "uplink: {error}");
            } else {
                tracing::warn!(broker = %uplink.address, "uplink: {error}; trying again");
            }
            last_error = error;
        }
        tokio::select! {
            () = uplink.shutdown.requested() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One session, from the connection to its end.
async fn session(uplink: &Uplink, id: SessionId) -> Result<(), SessionError> {
    let handshake = async {
        let (endpoint, connection) = connect(uplink, id).await?;
        let opened = open(uplink, &connection, id).await;
        let opened = opened.map_err(|error| cause(&connection, error))?;
        Ok::<_, SessionError>((endpoint, connection, opened))
    };
    let timed = tokio::select! {
        biased;
        () = uplink.shutdown.requested() => return Ok(()),
        timed = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => timed,
    };
    let stalled = SessionError::Stalled(HANDSHAKE_TIMEOUT.as_secs());
    let (endpoint, connection, session) = timed.map_err(|_| stalled)??;
    tracing::info!(broker = %uplink.address, "uplink: session open");
    let ended = tokio::select! {
        biased;
        () = uplink.shutdown.requested() => {
            connection.close(CLOSE_STOPPING, b"stopping");
            // The broker learns of it by this packet, or by its idle timeout.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
            return Ok(());
        }
        ended = session.run(uplink, &connection) => ended,
    };
    let ended = ended.map_err(|error| cause(&connection, error));
    connection.close(CLOSE_FAILED, b"session ended");
    ended
}

/// Why the connection closed, if that is why a stream broke: it names a refused certificate, a broken stream does not.
fn cause(connection: &quinn::Connection, error: SessionError) -> SessionError {
    match (error, connection.close_reason()) {
        (SessionError::Stream(_), Some(reason)) => SessionError::Connection(reason),
        (error, _) => error,
    }
}

async fn connect(
    uplink: &Uplink,
    id: SessionId,
) -> Result<(Endpoint, quinn::Connection), SessionError> {
    let failed = |detail: &dyn std::fmt::Display| SessionError::Address {
        address: uplink.address.clone(),
        detail: detail.to_string(),
    };
    let remote = tokio::net::lookup_host(&uplink.address)
        .await
        .map_err(|error| failed(&error))?
        .collect::<Vec<_>>();
    // Each attempt takes the next one: a name may have an address that nobody listens on.
    let turn = usize::try_from(id.0).unwrap_or(0) % remote.len().max(1);
    let remote = *remote.get(turn).ok_or_else(|| failed(&"no address"))?;
    let local: SocketAddr = match remote {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let endpoint =
        Endpoint::client(local).map_err(|error| SessionError::Connect(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(uplink.identity.crypto.clone());
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    config.transport_config(Arc::new(transport));
    let connecting = endpoint
        .connect_with(config, remote, &uplink.server_name)
        .map_err(|error| SessionError::Connect(error.to_string()))?;
    let connection = connecting.await.map_err(|error| SessionError::Connect(error.to_string()))?;
    Ok((endpoint, connection))
}

/// HELLO and WELCOME.
async fn open(
    uplink: &Uplink,
    connection: &quinn::Connection,
    id: SessionId,
) -> Result<Session, SessionError> {
    let facts = uplink.store.hello().await?;
    let (mut control, receive) = connection.open_bi().await?;
    let hello = Frame::Hello(Hello {
        version_min: VERSION,
        version_max: VERSION,
        gateway: uplink.identity.gateway.as_str(),
        spool: facts.spool,
        topics: gateway_core::routing::topics(),
        streams: facts.streams,
    });
    session::send(&mut control, &hello).await?;
    let mut reader = FrameReader::new(receive);
    let bytes = reader.next(UPLINK_FRAME_BYTES_MAX).await?;
    let welcome = match Frame::decode(&bytes)? {
        Frame::Welcome(welcome) if welcome.version == VERSION => welcome,
        Frame::Goodbye(reason, detail) => {
            return Err(SessionError::Goodbye(reason, detail.to_owned()));
        }
        frame => return Err(session::unexpected(&frame)),
    };
    let facts = WelcomeFacts::new(&welcome.topics, &welcome.states, welcome.frames_in_flight)
        .ok_or_else(|| SessionError::Protocol("WELCOME lacks a topic of HELLO".into()))?;
    let (data, data_receive) = connection.open_bi().await?;
    uplink.store.uplink(UplinkEvent::Opened(id, facts)).await?;
    Ok(Session { control, data, readers: [reader, FrameReader::new(data_receive)] })
}

/// The stream that a lane's frames travel on.
fn is_control(lane: Lane) -> bool {
    match lane {
        Lane::Control => true,
        Lane::Live => false,
    }
}
